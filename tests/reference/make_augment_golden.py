"""Golden pixels for `tests/augment_golden.rs` from torchvision's functional transforms.

    python3 -m venv .venv && .venv/bin/pip install torch==2.13.0 torchvision==0.28.0 numpy safetensors
    .venv/bin/python tests/reference/make_augment_golden.py

writes `tests/reference/augment_golden.safetensors`. The image is not stored: both languages make it (`image` below, and in
the test). Resampling is done on PIL images, which is what torchvision's data sets give; colours are changed on 8-bit tensors,
as torchvision's functions for PIL images round a hue to one of 256 first.
"""

import pathlib

import torch
from safetensors.torch import save_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

WIDTH, HEIGHT = 61, 47


def image():
    """Waves and some noise, in every channel differently."""
    pixels = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    for c in range(3):
        for y in range(HEIGHT):
            for x in range(WIDTH):
                noise = (x * 2654435761 + y * 40503 * (c + 3) + c * 97) % 65521 % 61
                wave = abs((x * (c + 2) + y * (4 - c)) % 194 - 97) * 2
                pixels[c, y, x] = min(255, wave + noise)
    return pixels


def main():
    tensor = image()
    picture = F.to_pil_image(tensor)
    out = {"image_sums": tensor.double().sum((1, 2))}
    parts = {"shrunk": (3, 5, 40, 50, 16), "grown": (20, 11, 9, 13, 24), "whole": (0, 0, HEIGHT, WIDTH, 20)}
    for name, (top, left, height, width, side) in parts.items():
        cropped = F.resized_crop(picture, top, left, height, width, [side, side], InterpolationMode.BILINEAR)
        out[f"crop.{name}"] = F.pil_to_tensor(cropped)
    for resize, side in [(32, 28), (60, 51)]:
        out[f"middle.{resize}.{side}"] = F.pil_to_tensor(F.center_crop(F.resize(picture, resize), [side, side]))
    out["flip"] = F.hflip(tensor)
    changes = {
        "brightness": (F.adjust_brightness, (0.37, 1.63)),
        "contrast": (F.adjust_contrast, (0.42, 1.9)),
        "saturation": (F.adjust_saturation, (0.3, 2.4)),
        "hue": (F.adjust_hue, (-0.21, 0.5)),
    }
    for name, (change, factors) in changes.items():
        for at, factor in enumerate(factors):
            out[f"{name}.{at}"] = change(tensor, factor)[:, ::2, ::2]
    middle = F.center_crop(tensor, [8, 8])
    normalised = F.normalize(F.convert_image_dtype(middle), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    # Whole numbers up to 255 are exact in half precision.
    out = {name: values.half().contiguous() if values.dtype == torch.uint8 else values.float() for name, values in out.items()}
    out["normalised"] = normalised
    path = pathlib.Path(__file__).with_name("augment_golden.safetensors")
    save_file(out, path)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
