"""Golden numbers for `tests/detector_golden.rs` from torchvision's own Faster R-CNN.

    python3 -m venv .venv && .venv/bin/pip install torch==2.13.0 torchvision==0.28.0 numpy safetensors
    .venv/bin/python tests/reference/make_detector_golden.py

writes `tests/reference/detector_golden.safetensors` and the names and shapes of torchvision's standard detector. Weights and images are not stored: both languages make them from
the names of the tensors (`fill` below, `fill` in the test).
"""

import json
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import ops
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

MASK = (1 << 64) - 1


def uniforms(name, count):
    """`count` numbers in 0..1: FNV-1a of the name seeds Knuth's MMIX generator, of which the upper 24 bits are used."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    values = []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        values.append((state >> 40) / float(1 << 24))
    return torch.tensor(values, dtype=torch.float64)


def fill(name, shape):
    """A tensor that depends on its name and shape alone."""
    shape = list(shape)
    count = 1
    for side in shape:
        count *= side
    u = uniforms(name, count)
    if len(shape) >= 2 and name.endswith("weight"):
        fan_in = count // shape[0]
        # The outputs are kept small, so that scores are not all 0 or 1 and boxes stay near their anchors.
        gain = 0.03 if "bbox_pred" in name else 0.1 if "cls_" in name else 1.0
        values = (2 * u - 1) * gain * (6.0 / fan_in) ** 0.5
    elif name.startswith("image") or name.startswith("map"):
        values = u
    elif name.endswith("weight") or name.endswith("running_var"):
        values = 0.75 + 0.5 * u
    else:
        values = 0.2 * (2 * u - 1)
    return values.to(torch.float32).reshape(shape)


class Body(nn.Module):
    """torchvision's ResNet in any width and number of stages, from torchvision's own blocks."""

    def __init__(self, block, depths, width, **kwargs):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        self.widths = []
        for stage, depth in enumerate(depths):
            planes, layers = width << stage, []
            for at in range(depth):
                stride = 2 if at == 0 and stage > 0 else 1
                down = None
                if stride != 1 or channels != planes * block.expansion:
                    down = nn.Sequential(
                        nn.Conv2d(channels, planes * block.expansion, 1, stride, bias=False),
                        nn.BatchNorm2d(planes * block.expansion),
                    )
                layers.append(block(channels, planes, stride, down, **kwargs))
                channels = planes * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
            self.widths.append(channels)


def build(block, depths, width, size, **kwargs):
    body = Body(block, depths, width, **kwargs)
    stages = len(depths)
    layers = {f"layer{at + 1}": str(at) for at in range(stages)}
    backbone = BackboneWithFPN(body, layers, body.widths, 16, LastLevelMaxPool())
    anchors = AnchorGenerator(tuple((12 * 2**at,) for at in range(stages + 1)), ((0.5, 1.0, 2.0),) * (stages + 1))
    pool = ops.MultiScaleRoIAlign([str(at) for at in range(stages)], 7, 2)
    model = FasterRCNN(
        backbone, min_size=size[0], max_size=size[1], rpn_anchor_generator=anchors, box_roi_pool=pool,
        box_head=TwoMLPHead(16 * 49, 32), box_predictor=FastRCNNPredictor(32, 5),
        rpn_pre_nms_top_n_train=300, rpn_post_nms_top_n_train=150,
        rpn_pre_nms_top_n_test=200, rpn_post_nms_top_n_test=60,
        # So many that the sample is everything.
        rpn_batch_size_per_image=100_000, box_batch_size_per_image=100_000,
    )
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(fill(name, tensor.shape))
    return model


def boxes_of(name, count, height, width):
    """Boxes of 10 pixels to half the image."""
    u = uniforms(name, 4 * count).reshape(count, 4)
    x1, y1 = u[:, 0] * width / 2, u[:, 1] * height / 2
    boxes = torch.stack([x1, y1, x1 + 10 + u[:, 2] * (width / 2 - 10), y1 + 10 + u[:, 3] * (height / 2 - 10)], 1)
    return boxes.to(torch.float32)


def case(out, name, model, sizes, objects, keep_maps):
    images = [fill(f"image.{name}.{at}", (3, *size)) for at, size in enumerate(sizes)]
    targets = []
    for at, (size, count) in enumerate(zip(sizes, objects)):
        boxes = boxes_of(f"boxes.{name}.{at}", count, *size)
        labels = (uniforms(f"labels.{name}.{at}", count) * 4).long() + 1
        targets.append({"boxes": boxes, "labels": labels})
        out[f"{name}.target.{at}.boxes"], out[f"{name}.target.{at}.labels"] = boxes, labels

    model.eval()
    with torch.no_grad():
        batch, _ = model.transform(images)
        out[f"{name}.batch_sum"] = batch.tensors.double().sum((2, 3)).float()
        if keep_maps:
            for level, tensor in model.backbone.body(batch.tensors).items():
                out[f"{name}.body.{level}"] = tensor
        maps = model.backbone(batch.tensors)
        for level, tensor in enumerate(maps.values()):
            if keep_maps:
                out[f"{name}.fpn.{level}"] = tensor
        anchors = model.rpn.anchor_generator(batch, list(maps.values()))[0]
        out[f"{name}.anchors"] = anchors.clone()
        proposals, _ = model.rpn(batch, maps)
        for at, boxes in enumerate(proposals):
            out[f"{name}.proposals.{at}"] = boxes
        for at, found in enumerate(model(images)):
            for key, tensor in found.items():
                out[f"{name}.detections.{at}.{key}"] = tensor.clone()
            print(name, at, "proposals", len(proposals[at]), "detections", len(found["boxes"]))

    model.train()
    losses = model(images, targets)
    keys = ["loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"]
    out[f"{name}.losses"] = torch.stack([losses[key].detach() for key in keys])
    print(name, {key: losses[key].item() for key in keys})
    sum(losses.values()).backward()
    parameters = sorted(model.named_parameters())
    out[f"{name}.gradient_norms"] = torch.stack([p.grad.double().norm().float() for _, p in parameters])
    out[f"{name}.gradient_heads"] = torch.stack(
        [torch.nn.functional.pad(p.grad.flatten()[:4], (0, 4 - min(4, p.numel()))) for _, p in parameters]
    )
    running = sorted((n, b) for n, b in model.named_buffers() if "running" in n)
    out[f"{name}.running_sums"] = torch.stack([b.double().sum().float() for _, b in running])
    out[f"{name}.names"] = torch.tensor([len(parameters), len(running)])


def roi_align(out):
    """Regions within, across and beyond the borders, without area, upside down, and of every level's size."""
    regions = torch.tensor(
        [
            [2.5, 3.5, 40.0, 30.0], [0.0, 0.0, 96.0, 64.0], [-20.0, -9.0, 15.0, 12.0], [80.0, 50.0, 130.0, 90.0],
            [95.9, 63.9, 96.0, 64.0], [10.0, 10.0, 10.0, 10.0], [30.0, 30.0, 20.0, 25.0], [-300.0, -300.0, -200.0, -200.0],
            [0.0, 60.0, 112.0, 172.0], [-60.0, -60.0, 170.0, 170.0], [-300.0, -300.0, 400.0, 400.0], [5.0, 5.0, 116.99, 117.0],
        ]
    )
    images = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    maps = [fill(f"map.{at}", (2, 3, 16 >> at, 24 >> at)).requires_grad_() for at in range(3)]
    one = ops.roi_align(maps[0], torch.cat([images[:, None].float(), regions], 1), 7, 0.25, 2)
    pool = ops.MultiScaleRoIAlign(["0", "1", "2"], 7, 2)
    per_image = [regions[images == 0], regions[images == 1]]
    many = pool({str(at): tensor for at, tensor in enumerate(maps)}, per_image, [(64, 96), (64, 96)])
    weights = fill("map.weights", many.shape)
    (many * weights).sum().backward()
    out["roi.regions"], out["roi.images"], out["roi.one"] = regions, images, one.detach()
    out["roi.many"] = many.detach()
    for at, tensor in enumerate(maps):
        out[f"roi.gradient.{at}"] = tensor.grad


def nms(out):
    boxes = boxes_of("nms", 300, 100, 100)
    boxes[::7] = boxes[::7].round()
    scores = (uniforms("nms.scores", 300) * 50).floor().float() / 50  # with ties
    groups = (uniforms("nms.groups", 300) * 3).long()
    out["nms.boxes"], out["nms.scores"], out["nms.groups"] = boxes, scores, groups
    out["nms.keep"] = ops.nms(boxes, scores, 0.5)
    out["nms.keep_by_group"] = ops.boxes._batched_nms_vanilla(boxes, scores, groups, 0.5)


def main():
    torch.manual_seed(0)
    out = {}
    # Four stages, images of two sizes, resized and padded.
    case(out, "four", build(BasicBlock, [2, 1, 1, 1], 8, (72, 120)), [(60, 80), (90, 64)], [3, 2], True)
    # Five stages of grouped bottlenecks, one size, one image without objects.
    deep = build(Bottleneck, [1, 2, 1, 1, 1], 8, (96, 96), groups=4, base_width=16)
    case(out, "five", deep, [(96, 96)] * 3, [4, 0, 1], False)
    roi_align(out)
    nms(out)
    path = pathlib.Path(__file__).with_name("detector_golden.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, path)
    print(path, path.stat().st_size)

    standard = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in standard.items() if not name.endswith("num_batches_tracked")}
    path = pathlib.Path(__file__).with_name("fasterrcnn_resnet50_fpn.json")
    path.write_text("{\n" + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in sorted(shapes.items())) + "\n}\n")


if __name__ == "__main__":
    main()
