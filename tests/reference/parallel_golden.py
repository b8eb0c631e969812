"""Golden numbers for parallel backbones and ParallelFPN, from torch and torchvision's own blocks.

    python3 -m venv .venv && .venv/bin/pip install torch==2.13.0 torchvision==0.28.0 numpy safetensors
    .venv/bin/python tests/reference/parallel_golden.py

writes `parallel_golden.safetensors` (maps of small networks, whose weights and images both languages make from names) and
`parallel_cost.json` (what networks cost, counted by hooks). The wiring is that of the authors' first code (vega 1.2.0,
`spnet.py`), written here from its description and without a look at the Rust code.
"""

import copy
import json
import pathlib
import random

import torch
from backbone_cost import build, conv_bn
from make_detector_golden import fill
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Parallel(nn.Module):
    def __init__(self, grammar, code, block, stem, base, groups, extra, shared):
        super().__init__()
        self.stem, stages, _ = build(grammar, code, block, stem, base)
        self.stages = nn.ModuleList(stages)
        self.extra, self.groups = extra, []
        self.branches, self.connect = nn.ModuleDict(), nn.ModuleDict()
        start, channels = 0, base
        for at, (size, count) in enumerate(zip(groups, extra)):
            layers = stages[start:start + size]
            self.groups.append(range(start, start + size))
            start += size
            out = channels_of(layers[-1])
            for k in range(count):
                # Shared weights: one connector a group, as the authors' code registers it.
                connector = self.connect[f"{at}_0"] if shared and k else nn.Sequential(*conv_bn(out, channels, 1, 1))
                self.connect[f"{at}_{k}"] = connector
                self.branches[f"{at}_{k}"] = nn.Sequential(*(layers if shared else copy.deepcopy(layers)))
            channels = out

    def forward(self, x):
        x = self.stem(x)
        maps, before = [], {}
        for at, stages in enumerate(self.groups):
            fused, now = 0, {}
            for k in reversed(range(self.extra[at])):
                if not before:
                    source = x
                elif k in before:
                    source = before[k]
                else:
                    source = before[max(before)]
                y = self.branches[f"{at}_{k}"](source + fused)
                if at + 1 < len(self.groups) and k < self.extra[at + 1]:
                    now[k] = y
                fused = F.interpolate(self.connect[f"{at}_{k}"](y), size=x.shape[2:], mode="nearest")
            before = now
            x = x + fused
            for stage in stages:
                x = self.stages[stage](x)
                maps.append(x)
        return maps


def channels_of(stage):
    last = stage[-1]
    return (last.conv3 if hasattr(last, "conv3") else last.conv2).out_channels


def names(net):
    """The Rust code's names of the tensors, with their tensors."""
    found = {}

    def add(prefix, module):
        for name, tensor in module.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                found[f"{prefix}.{name}"] = tensor

    # The stem's layers in order: convolution, norm, perhaps again.
    layers = [layer for layer in net.stem if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d))]
    for at, layer in enumerate(layers):
        add(f"backbone.body.{'bn' if at % 2 else 'conv'}{at // 2 + 1}", layer)
    for at, stage in enumerate(net.stages):
        add(f"backbone.body.layer{at + 1}", stage)
    for name, branch in net.branches.items():
        group, k = name.split("_")
        for at, stage in zip(net.groups[int(group)], branch):
            if stage is not net.stages[at]:
                add(f"backbone.body.branches.{group}.{k}.layer{at + 1}", stage)
    for name, connector in net.connect.items():
        group, k = name.split("_")
        if k == "0" or connector is not net.connect[f"{group}_0"]:
            add(f"backbone.body.fusion.{group}.{k}.conv", connector[0])
            add(f"backbone.body.fusion.{group}.{k}.bn", connector[1])
    return found


class Pyramid(FeaturePyramidNetwork):
    """Vega's order of the outputs on torchvision's pyramid."""

    def ordered(self, maps, code):
        results, last = [], self.inner_blocks[-1](maps[-1])
        merged = [last]
        for at in reversed(range(len(maps) - 1)):
            lateral = self.inner_blocks[at](maps[at])
            last = lateral + F.interpolate(last, size=lateral.shape[-2:], mode="nearest")
            merged.insert(0, last)
        for level in code:
            results.append(self.layer_blocks[level](merged[level]))
        results.append(F.max_pool2d(results[-1], 1, 2, 0))
        return results


# name, grammar, code, block, stem, groups, extra, shared, code of the neck
CASES = [
    ("shared", "vega", "11-21-2", "basic", "7x7", [1, 1, 1], [2, 3, 1], True, [0, 0, 2]),
    ("own", "vega", "1-2-21-2", "bottleneck", "7x7", [1, 1, 1, 1], [1, 2, 3, 1], False, [0, 0, 2, 1]),
    ("gap", "paper", "12-1-11-2-1", "basic", "3x3", [1, 1, 1, 1, 1], [2, 0, 1, 2, 2], False, [4, 3, 2, 1, 0]),
    ("grouped", "vega", "1-21-2-2", "resnext4x16d", "7x7", [2, 1, 1], [2, 1, 3], False, [1, 1, 1, 1]),
    ("groupedshared", "vega", "1-21-2-2", "basic", "7x7", [1, 3], [1, 2], True, [3, 1, 2, 0]),
]


def golden():
    tensors = {}
    for name, grammar, code, block, stem, groups, extra, shared, neck in CASES:
        net = Parallel(grammar, code, block, stem, 8, groups, extra, shared).eval()
        if stem == "3x3":
            # backbone_cost.py only counts, so that its stem leaves the ReLUs out.
            layers = list(net.stem)
            net.stem = nn.Sequential(*layers[:2], nn.ReLU(), *layers[2:], nn.ReLU())
        widths = [channels_of(stage) for stage in net.stages]
        fpn = Pyramid(widths, 16, LastLevelMaxPool()).eval()
        with torch.no_grad():
            for key, tensor in names(net).items():
                tensor.copy_(fill(key, tensor.shape))
            for key, tensor in fpn.state_dict().items():
                tensor.copy_(fill(f"backbone.fpn.{key}", tensor.shape))
            image = fill(f"image.{name}", [3, 32, 64])
            mean, deviation = (torch.tensor(v)[:, None, None] for v in (MEAN, DEVIATION))
            maps = net(((image - mean) / deviation)[None])
            plain = list(fpn({str(at): m for at, m in enumerate(maps)}).values())
            same = fpn.ordered(maps, range(len(maps)))
            assert all(torch.equal(a, b) for a, b in zip(plain, same))
            for at, one in enumerate(maps):
                tensors[f"{name}.body.{at}"] = one.contiguous()
            for at, one in enumerate(fpn.ordered(maps, neck)):
                tensors[f"{name}.pyramid.{at}"] = one.contiguous()
        assert all(bool(t.isfinite().all()) for t in tensors.values())
    return tensors


def cost(grammar, code, block, stem, groups, extra, shared, size):
    with torch.device("meta"):
        net = Parallel(grammar, code, block, stem, 64, groups, extra, shared).eval()
        adds, elements = 0, 0

        def hook(conv, _, output):
            nonlocal adds, elements
            adds += conv.weight.numel() * output.shape[2] * output.shape[3]
            elements += output.numel()

        # A shared layer is one module with one hook, called at each of its runs.
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(hook)
        net(torch.empty(1, 3, *size))
        params = sum(parameter.numel() for parameter in net.parameters())
    return {"grammar": grammar, "code": code, "block": block, "stem": stem, "groups": groups, "extra": extra,
            "share_weights": shared, "height": size[0], "width": size[1], "params": params, "multiply_adds": adds,
            "activation_bytes": 4 * elements}


def costs():
    for shared in (True, False):
        yield cost("paper", "111-2111-211111-211", "bottleneck", "7x7", [1] * 4, [1] * 4, shared, (224, 224))
        yield cost("paper", "11121111-21111-112-1111-1111", "bottleneck", "3x3", [1] * 5, [0, 0, 2, 0, 3], shared,
                   (224, 224))
    rng = random.Random(4)
    for _ in range(24):
        stages = rng.randint(2, 7)
        code = "-".join("".join(rng.choice("1112") for _ in range(rng.randint(1, 4))) for _ in range(stages))
        groups, left = [], stages
        while left:
            groups.append(rng.randint(1, min(left, rng.choice((1, 3)))))
            left -= groups[-1]
        block, stem = rng.choice(("basic", "bottleneck", "resnext32x4d")), rng.choice(("7x7", "3x3"))
        if code.count("2") <= 6:
            yield cost("paper", code, block, stem, groups, [rng.randint(0, 3) for _ in groups], rng.random() < 0.5,
                       (rng.randint(60, 300), rng.randint(60, 300)))


here = pathlib.Path(__file__).parent
save_file(golden(), here / "parallel_golden.safetensors")
rows = ",\n".join(json.dumps(row) for row in costs())
(here / "parallel_cost.json").write_text(f"[\n{rows}\n]\n")
