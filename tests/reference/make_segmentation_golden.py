"""Golden numbers for `src/nn/segmentation/tests.rs` from an independent Semantic FPN in PyTorch.

    python3 -m venv .venv && .venv/bin/pip install torch==2.13.0 torchvision==0.28.0 numpy safetensors
    .venv/bin/python tests/reference/make_segmentation_golden.py

writes `tests/reference/segmentation_golden.safetensors`. Backbone, pyramid and transform are torchvision's (as in
`make_detector_golden.py`), the head follows Kirillov et al. 2019, fig. 3. Weights, images and masks are not stored: both
languages make them from the names of the tensors.
"""

import pathlib

import torch
import torch.nn.functional as F
from make_detector_golden import Body, fill, uniforms
from safetensors.torch import save_file
from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CLASSES, IGNORE, HEAD, GROUPS = 5, 255, 24, 8


class Stage(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, HEAD, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(GROUPS, HEAD)

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))


class Head(nn.Module):
    """Level 0 has one stage, level l > 0 has l, each followed by the step to the next finer map's size."""

    def __init__(self, levels):
        super().__init__()
        heads = [nn.ModuleList(Stage(16 if at == 0 else HEAD) for at in range(max(1, l))) for l in range(levels)]
        self.scale_heads = nn.ModuleList(heads)
        self.predictor = nn.Conv2d(HEAD, CLASSES, 1)

    def forward(self, maps, size):
        total = 0
        for level, stages in enumerate(self.scale_heads):
            x = maps[level]
            for at, stage in enumerate(stages):
                x = stage(x)
                if level > 0:
                    x = F.interpolate(x, maps[level - 1 - at].shape[-2:], mode="bilinear", align_corners=False)
            total = total + x
        return F.interpolate(self.predictor(total), size, mode="bilinear", align_corners=False)


class SemanticFpn(nn.Module):
    def __init__(self, block, depths, transform, **kwargs):
        super().__init__()
        body = Body(block, depths, 8, **kwargs)
        layers = {f"layer{at + 1}": str(at) for at in range(len(depths))}
        self.backbone = BackboneWithFPN(body, layers, body.widths, 16, LastLevelMaxPool())
        self.seg_head = Head(len(depths))
        self.transform = transform
        with torch.no_grad():
            for name, tensor in self.state_dict().items():
                if not name.endswith("num_batches_tracked"):
                    tensor.copy_(fill(name, tensor.shape))

    def forward(self, images):
        batch, _ = self.transform(images)
        maps = list(self.backbone(batch.tensors).values())
        return self.seg_head(maps, batch.tensors.shape[-2:]), batch.image_sizes


def mask_of(name, size):
    """Blocks of 8 by 8 pixels of one class each, a sixth of them ignored."""
    rows, columns = -(-size[0] // 8), -(-size[1] // 8)
    blocks = (uniforms(name, rows * columns) * 6).long().reshape(rows, columns)
    blocks[blocks == CLASSES] = IGNORE
    return blocks.repeat_interleave(8, 0).repeat_interleave(8, 1)[: size[0], : size[1]]


def case(out, name, model, sizes):
    images = [fill(f"image.{name}.{at}", (3, *size)) for at, size in enumerate(sizes)]
    masks = [mask_of(f"mask.{name}.{at}", size) for at, size in enumerate(sizes)]
    model.eval()
    with torch.no_grad():
        logits, resized = model(images)
        out[f"{name}.logits"] = logits[:, :, ::7, ::5]
        out[f"{name}.logit_sums"] = logits.double().sum((2, 3)).float()
        for at, (size, original) in enumerate(zip(resized, sizes)):
            scores = F.interpolate(logits[at : at + 1, :, : size[0], : size[1]], original, mode="bilinear", align_corners=False)
            out[f"{name}.classes.{at}"] = scores.argmax(1)[0, ::3, ::2].float()
    model.train()
    logits, resized = model(images)
    target = torch.full((len(images), *logits.shape[-2:]), IGNORE)
    for at, (mask, size) in enumerate(zip(masks, resized)):
        small = F.interpolate(mask[None, None].float(), size, mode="nearest-exact")[0, 0].long()
        target[at, : size[0], : size[1]] = small
    loss = F.cross_entropy(logits, target, ignore_index=IGNORE)
    loss.backward()
    out[f"{name}.loss"] = loss.detach().reshape(1)
    parameters = sorted(model.named_parameters())
    out[f"{name}.gradient_norms"] = torch.stack([p.grad.double().norm().float() for _, p in parameters])
    for parameter in ["seg_head.predictor.weight", "seg_head.scale_heads.2.1.conv.weight", "backbone.body.conv1.weight"]:
        out[f"{name}.gradient.{parameter}"] = dict(parameters)[parameter].grad
    print(name, loss.item(), [m.float().mean().item() for m in masks], {k: v.unique().tolist() for k, v in out.items() if f"{name}.classes" in k})


def main():
    out = {}
    # Four stages, images of two sizes, resized and padded.
    four = SemanticFpn(BasicBlock, [2, 1, 1, 1], GeneralizedRCNNTransform(72, 120, MEAN, DEVIATION))
    case(out, "four", four, [(60, 80), (90, 64)])
    # Five stages of grouped bottlenecks; a size that the strides do not divide.
    keep = GeneralizedRCNNTransform(72, 104, MEAN, DEVIATION, size_divisible=1)
    case(out, "five", SemanticFpn(Bottleneck, [1, 2, 1, 1, 1], keep, groups=4, base_width=16), [(72, 104)] * 2)
    path = pathlib.Path(__file__).with_name("segmentation_golden.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, path)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
