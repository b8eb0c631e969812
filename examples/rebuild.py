"""Rebuilds a network that spnas has found, with torch and torchvision alone, and runs it on images.

    python rebuild.py desc.json model.safetensors IMAGE ...

prints what it finds as JSON: for each image its boxes (x1 y1 x2 y2 in pixels), labels and scores; of a segmentation network
the name of the label map that it has written into this folder. `spnas export` writes the two files and a copy of this
program beside them. To use the network in a program of your own:

    import rebuild
    model = rebuild.load("desc.json", "model.safetensors")    # in evaluation mode
    found = model([image])                                     # images [3, H, W], float in 0..1

A detector gives what torchvision's give; a segmentation network a map of classes [H, W] for each image.
"""

import json
import math
import pathlib
import re
import struct
import sys

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.io import ImageReadMode, read_image, write_png
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.poolers import initLevelMapper


def blocks_of(code):
    """The blocks of a code in Vega's grammar, as (stride, doubles): a digit is a stride, `-` doubles the width."""
    doubles = False
    for letter in code:
        if letter != "-":
            yield int(letter), doubles
        doubles = letter == "-"


class Stages(nn.Module):
    """The stages of a code: `layer1`, `layer2`, ... A block of stride 2 opens a new one."""

    def __init__(self, desc):
        super().__init__()
        kind = desc.get("block", "BottleneckBlock")
        grouped = re.fullmatch(r"ResNeXt(\d+)x(\d+)d", kind)
        block = BasicBlock if kind == "BasicBlock" else Bottleneck
        groups, width = (int(grouped[1]), int(grouped[2])) if grouped else (1, 64)
        in_channels = planes = desc.get("base_width", 64)
        stages, self.strides, self.widths = [], [], []
        for at, (stride, doubles) in enumerate(blocks_of(desc["code"])):
            planes *= 2 if doubles else 1
            if at == 0 or stride == 2:
                stages.append([])
                self.strides.append((self.strides[-1] if self.strides else 4) * stride)
                self.widths.append(0)
            self.widths[-1] = planes * block.expansion
            shortcut = None
            if stride != 1 or in_channels != self.widths[-1]:
                convolution = nn.Conv2d(in_channels, self.widths[-1], 1, stride, bias=False)
                shortcut = nn.Sequential(convolution, nn.BatchNorm2d(self.widths[-1]))
            stages[-1].append(block(in_channels, planes, stride, shortcut, groups, width))
            in_channels = self.widths[-1]
        for at, stage in enumerate(stages):
            self.add_module(f"layer{at + 1}", nn.Sequential(*stage))


class Connector(nn.Module):
    """From the width of a group's output back to that of its input."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        return self.bn(self.conv(x))


class Body(Stages):
    """The backbone: the serial main path, and beside its groups of stages the extra sub-networks, fused from the deepest."""

    def __init__(self, desc):
        super().__init__(desc)
        base = desc.get("base_width", 64)
        self.pools = desc.get("stem", "7x7") == "7x7"
        if self.pools:
            self.conv1, self.bn1 = nn.Conv2d(3, base, 7, 2, 3, bias=False), nn.BatchNorm2d(base)
        else:
            self.conv1, self.bn1 = nn.Conv2d(3, base // 2, 3, 2, 1, bias=False), nn.BatchNorm2d(base // 2)
            self.conv2, self.bn2 = nn.Conv2d(base // 2, base, 3, 2, 1, bias=False), nn.BatchNorm2d(base)
        count, parallel = len(self.strides), desc.get("type") == "ParallelBackbone"
        sizes = (parallel and desc.get("groups")) or [1] * count
        self.extra = (parallel and desc.get("sub_networks")) or [0] * len(sizes)
        self.shared = desc.get("share_weights", False)
        self.groups, self.branches, self.fusion = [], nn.ModuleDict(), nn.ModuleDict()
        start, channels = 0, base
        for group, (size, extra) in enumerate(zip(sizes, self.extra)):
            stages = range(start, start + size)
            self.groups.append(stages)
            if extra and not self.shared:
                self.branches[str(group)] = nn.ModuleDict({str(k): self.copy_of(desc, stages) for k in range(extra)})
            if extra:
                connectors = {str(k): Connector(self.widths[stages[-1]], channels) for k in range(1 if self.shared else extra)}
                self.fusion[str(group)] = nn.ModuleDict(connectors)
            start, channels = start + size, self.widths[stages[-1]]

    @staticmethod
    def copy_of(desc, stages):
        all_stages = Stages(desc)
        return nn.ModuleDict({f"layer{at + 1}": getattr(all_stages, f"layer{at + 1}") for at in stages})

    def branch(self, group, k, x):
        for at in self.groups[group]:
            name = f"layer{at + 1}"
            x = (getattr(self, name) if self.shared else self.branches[str(group)][str(k)][name])(x)
        return x

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, 1) if self.pools else F.relu(self.bn2(self.conv2(x)))
        maps, before = [], []
        for group, stages in enumerate(self.groups):
            outputs, fused = [None] * self.extra[group], 0
            for k in reversed(range(self.extra[group])):
                source = before[k] if k < len(before) else before[-1] if before else x
                outputs[k] = self.branch(group, k, source + fused)
                back = self.fusion[str(group)]["0" if self.shared else str(k)](outputs[k])
                fused = F.interpolate(back, size=x.shape[2:], mode="nearest")
            before = outputs[:self.extra[group + 1]] if group + 1 < len(self.groups) else []
            x = x + fused
            for at in stages:
                x = getattr(self, f"layer{at + 1}")(x)
                maps.append(x)
        return maps


class Pyramid(FeaturePyramidNetwork):
    """torchvision's pyramid whose outputs come from the levels of a code (Vega's ParallelFPN)."""

    def __init__(self, widths, channels, code):
        super().__init__(widths, channels, LastLevelMaxPool())
        self.code = code

    def forward(self, maps):
        merged = [self.inner_blocks[-1](maps[-1])]
        for at in reversed(range(len(maps) - 1)):
            lateral = self.inner_blocks[at](maps[at])
            merged.insert(0, lateral + F.interpolate(merged[0], size=lateral.shape[-2:], mode="nearest"))
        outputs = [self.layer_blocks[level](merged[level]) for level in self.code]
        names = [str(at) for at in range(len(outputs))]
        outputs, names = self.extra_blocks(outputs, maps, names)
        return dict(zip(names, outputs))


class Backbone(nn.Module):
    """Body and pyramid: normalised images to maps by name, as `FasterRCNN` wants them."""

    def __init__(self, desc):
        super().__init__()
        neck = desc.get("neck", {})
        self.body = Body(desc["backbone"])
        self.out_channels = neck.get("channels", 256)
        self.code = neck.get("code") or list(range(len(self.body.strides)))
        self.fpn = Pyramid(self.body.widths, self.out_channels, self.code)
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = desc["backbone"].get("bn_eps", 1e-5)

    def forward(self, images):
        return self.fpn(self.body(images))


def detector(desc):
    """The Faster R-CNN of a description, in evaluation mode, without weights."""
    base = Backbone(desc)
    strides = base.body.strides
    levels = len(strides)
    # One size a level, doubled with the stride, the pooled level included.
    size = desc.get("anchor_sizes", [32])[0]
    ratios = tuple(desc.get("anchor_ratios", [0.5, 1.0, 2.0]))
    anchor_strides = strides + [2 * strides[-1]]
    anchors = AnchorGenerator(tuple((size * stride / 4,) for stride in anchor_strides), (ratios,) * (levels + 1))
    pool = MultiScaleRoIAlign([str(at) for at in range(levels)], 7, 2)
    # Regions go to levels by their size alone, whichever maps the neck's code hands on; torchvision would guess.
    finest = round(math.log2(strides[0]))
    pool.scales = [1 / strides[level] for level in base.code]
    pool.map_levels = initLevelMapper(finest, finest + levels - 1)
    width = desc.get("representation_size", 1024)
    names = {  # torchvision's argument: the description's key
        "min_size": "min_size", "max_size": "max_size", "image_mean": "image_mean", "image_std": "image_std",
        "rpn_pre_nms_top_n_test": "rpn_pre_nms_top_n_test", "rpn_post_nms_top_n_test": "rpn_post_nms_top_n_test",
        "rpn_nms_thresh": "rpn_nms_thresh", "rpn_score_thresh": "rpn_score_thresh",
        "box_score_thresh": "box_score_thresh", "box_nms_thresh": "box_nms_thresh",
        "box_detections_per_img": "box_detections_per_img",
    }
    options = {name: desc[key] for name, key in names.items() if key in desc}
    model = FasterRCNN(
        base, rpn_anchor_generator=anchors, box_roi_pool=pool, box_head=TwoMLPHead(base.out_channels * 49, width),
        box_predictor=FastRCNNPredictor(width, desc.get("num_classes", 91)), **options,
    )
    return model.eval()


class Level(nn.Module):
    """A stage of a level of the segmentation head: 3×3 convolution, group norm, ReLU, enlarged where there is a ratio."""

    def __init__(self, in_channels, channels, ratio):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(math.gcd(32, channels), channels)
        self.ratio = ratio

    def forward(self, x, finest):
        x = F.relu(self.norm(self.conv(x)))
        if self.ratio is None:
            return x
        return F.interpolate(x, size=[math.ceil(side / self.ratio) for side in finest], mode="bilinear", align_corners=False)


class SegmentationHead(nn.Module):
    """The levels of the pyramid, each enlarged to the finest, summed; then a score for every class."""

    def __init__(self, strides, in_channels, channels, classes):
        super().__init__()
        self.scale_heads = nn.ModuleList()
        for stride in strides:
            doublings = round(math.log2(stride / strides[0]))
            ratios = [2**at for at in reversed(range(doublings))] or [None]
            widths = [in_channels] + [channels] * len(ratios)
            stages = [Level(width, channels, ratio) for width, ratio in zip(widths, ratios)]
            self.scale_heads.append(nn.ModuleList(stages))
        self.predictor = nn.Conv2d(channels, classes, 1)

    def forward(self, maps, size):
        total = 0
        for x, stages in zip(maps, self.scale_heads):
            for stage in stages:
                x = stage(x, maps[0].shape[-2:])
            total = total + x
        return F.interpolate(self.predictor(total), size=size, mode="bilinear", align_corners=False)


class SemanticFPN(nn.Module):
    """Panoptic FPN's semantic branch (Kirillov et al. 2019): images to a map of classes each."""

    def __init__(self, desc):
        super().__init__()
        mean, deviation = desc.get("image_mean", [0.485, 0.456, 0.406]), desc.get("image_std", [0.229, 0.224, 0.225])
        self.transform = GeneralizedRCNNTransform(desc.get("min_size", 800), desc.get("max_size", 1333), mean, deviation)
        self.backbone = Backbone(desc)
        channels = desc.get("head_channels", 128)
        self.seg_head = SegmentationHead(
            self.backbone.body.strides, self.backbone.out_channels, channels, desc.get("num_classes", 91)
        )

    def forward(self, images):
        batch, _ = self.transform(images)
        logits = self.seg_head(list(self.backbone(batch.tensors).values()), batch.tensors.shape[-2:])
        maps = []
        for scores, (height, width), image in zip(logits, batch.image_sizes, images):
            scores = scores[None, :, :height, :width]
            maps.append(F.interpolate(scores, size=image.shape[-2:], mode="bilinear", align_corners=False)[0].argmax(0))
        return maps


def read_safetensors(path):
    """The tensors of a safetensors file in single precision: a length, a JSON header, the elements."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            flat = torch.frombuffer(data, dtype=torch.float32, count=(end - start) // 4, offset=start)
            tensors[name] = flat.reshape(entry["shape"]).clone()
    return tensors


def load(desc, weights):
    """The network of a description with its weights. Every tensor of the file is used, and none is missing."""
    with open(desc) as file:
        desc = json.load(file)
    model = SemanticFPN(desc).eval() if desc.get("type") == "SemanticFPN" else detector(desc)
    missing, unexpected = model.load_state_dict(read_safetensors(weights), strict=False)
    # The counters of batches are of no use to evaluation, and are not in the file.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise SystemExit(f"{weights} is not this network's: missing {missing}, unexpected {unexpected}")
    return model


def main(desc, weights, *images):
    model = load(desc, weights)
    found = []
    for image in images:
        pixels = read_image(image, ImageReadMode.RGB).float() / 255
        with torch.no_grad():
            (result,) = model([pixels])
        if isinstance(result, dict):
            found.append({"image": image, **{key: value.tolist() for key, value in result.items()}})
        else:
            name = pathlib.Path(image).stem + ".classes.png"
            write_png(result[None].byte(), name)
            found.append({"image": image, "classes": name})
    print(json.dumps(found))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
