"""Makes backbone_cost.json: what backbones cost, counted on nets built from torchvision's own blocks.

The nets live on the meta device; hooks on the convolutions count multiply-adds and outputs. Codes are read here without
the Rust parser. Run with torch 2.13 and torchvision 0.28: python backbone_cost.py > backbone_cost.json
"""

import json
import random

import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FeaturePyramidNetwork


def marks(grammar, code):
    """(stride, doubles) of each block."""
    dash = False
    for character in code:
        if character == "-":
            dash = True
            continue
        two = character == "2"
        yield (2 if two else 1, dash) if grammar == "vega" else (2 if dash else 1, two)
        dash = False


def conv_bn(cin, cout, kernel, stride):
    return [nn.Conv2d(cin, cout, kernel, stride, (kernel - 1) // 2, bias=False), nn.BatchNorm2d(cout)]


def build(grammar, code, block, stem, base):
    """The stem and the stages (runs of blocks at one resolution), as torchvision would build them."""
    if stem == "7x7":
        layers = [nn.Sequential(*conv_bn(3, base, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))]
    else:
        layers = [nn.Sequential(*conv_bn(3, base // 2, 3, 2), *conv_bn(base // 2, base, 3, 2))]
    kind = BasicBlock if block == "basic" else Bottleneck
    extra = {}
    if block.startswith("resnext"):
        groups, width = block.removeprefix("resnext").removesuffix("d").split("x")
        extra = {"groups": int(groups), "base_width": int(width)}
    planes, channels, stages = base, base, []
    for index, (stride, doubles) in enumerate(marks(grammar, code)):
        planes *= 2 if doubles else 1
        out = planes * kind.expansion
        down = nn.Sequential(*conv_bn(channels, out, 1, stride)) if stride != 1 or channels != out else None
        if index == 0 or stride == 2:
            stages.append([])
        stages[-1].append(kind(channels, planes, stride, down, **extra))
        channels = out
    return layers[0], [nn.Sequential(*stage) for stage in stages], channels


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def row(grammar, code, block="bottleneck", stem="7x7", base=64, size=(224, 224), classes=1000,
        fpn_channels=256, detector_classes=91, head_width=1024):
    with torch.device("meta"):
        first, stages, channels = build(grammar, code, block, stem, base)
        fc = nn.Linear(channels, classes)
        body = nn.ModuleList([first, *stages]).eval()
        adds, elements, maps = 0, 0, []

        def hook(conv, _, output):
            nonlocal adds, elements
            adds += conv.weight.numel() * output.shape[2] * output.shape[3]
            elements += output.numel()

        for module in body.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(hook)
        x = first(torch.empty(1, 3, *size))
        for stage in stages:
            x = stage(x)
            maps.append(list(x.shape[1:]))
        fpn = FeaturePyramidNetwork([shape[0] for shape in maps], fpn_channels)
        rpn = RPNHead(fpn_channels, 3)
        heads = nn.ModuleList(
            [TwoMLPHead(fpn_channels * 49, head_width), FastRCNNPredictor(head_width, detector_classes)])
    return {
        "grammar": grammar, "code": code, "block": block, "stem": stem, "base_width": base,
        "height": size[0], "width": size[1], "classes": classes,
        "params": count(body), "multiply_adds": adds, "activation_bytes": 4 * elements,
        "params_with_fc": count(body) + count(fc), "multiply_adds_with_fc": adds + fc.weight.numel(), "maps": maps,
        "detector": {"fpn_channels": fpn_channels, "classes": detector_classes, "head_width": head_width,
                     "body": count(body), "fpn": count(fpn), "rpn": count(rpn), "heads": count(heads)},
    }


def random_code(draw):
    code = "".join(("-" if draw.random() < 0.2 else "") + ("2" if draw.random() < 0.25 else "1")
                   for _ in range(draw.randint(1, 24)))
    return code


def main():
    draw = random.Random(2)
    seed = "111-2111-211111-211"
    rows = [row(grammar, code, block)
            for grammar in ("vega", "paper")
            for code in ("11-21-21-21", seed, "111-2111-2" + "1" * 22 + "-211", "1112-111-211111-211", "1-2-2-2")
            for block in ("basic", "bottleneck", "resnext32x4d")]
    for _ in range(40):
        block = draw.choice(["basic", "bottleneck", "resnext32x4d", "resnext8x16d"])
        rows.append(row(draw.choice(["vega", "paper"]), random_code(draw), block, draw.choice(["7x7", "3x3"]),
                        draw.choice([16, 32, 64]), (draw.randint(1, 400), draw.randint(1, 400)), draw.randint(1, 1000),
                        draw.choice([64, 256]), draw.randint(2, 91), draw.choice([128, 1024])))
    print("[\n" + ",\n".join(json.dumps(entry) for entry in rows) + "\n]")


if __name__ == "__main__":
    main()
