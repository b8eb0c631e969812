"""torchvision's detectors as `.pth` files with what torchvision detects, for `tests/torchvision_files.rs`.

    python3 -m venv .venv && .venv/bin/pip install torch==2.13.0 torchvision==0.28.0 numpy safetensors
    .venv/bin/python tests/reference/make_torchvision_files.py

writes a narrow detector, small enough to be kept, to `tests/reference/torchvision/`;

    .venv/bin/python tests/reference/make_torchvision_files.py full FOLDER

writes the full-size ResNet-50 detector with random weights and the classifiers to FOLDER.
"""

import gzip
import io
import pathlib
import re
import sys

import torch
import torchvision
from make_detector_golden import Body, fill
from safetensors.torch import save_file
from torch import nn
from torchvision import ops
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN, _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.resnet import Bottleneck
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.misc import FrozenBatchNorm2d

LEGACY = {"_use_new_zipfile_serialization": False}


def old_spelling(state):
    """The names of torchvision before 0.13, without counters, as in fasterrcnn_resnet50_fpn_coco-258fb6c6.pth."""
    renamed = {}
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            name = re.sub(r"(inner_blocks|layer_blocks)\.(\d+)\.0\.", r"\1.\2.", name)
            renamed[name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")] = tensor
    return renamed


def set_epsilon(model, epsilon):
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, FrozenBatchNorm2d)):
            module.eps = epsilon


def detections(out, prefix, model, images):
    model.eval()
    with torch.no_grad():
        for at, found in enumerate(model(images)):
            for key, tensor in found.items():
                out[f"{prefix}.{at}.{key}"] = tensor.clone()
            print(prefix, at, len(found["boxes"]), "detections, best", found["scores"][:3].tolist())


def narrow():
    body = Body(Bottleneck, [2, 1, 1, 1], 4)
    backbone = BackboneWithFPN(body, {f"layer{at}": str(at - 1) for at in range(1, 5)}, body.widths, 16, LastLevelMaxPool())
    anchors = AnchorGenerator(tuple((12 * 2**at,) for at in range(5)), ((0.5, 1.0, 2.0),) * 5)
    model = FasterRCNN(
        backbone, min_size=72, max_size=120, rpn_anchor_generator=anchors,
        box_roi_pool=ops.MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2),
        box_head=TwoMLPHead(16 * 49, 32), box_predictor=FastRCNNPredictor(32, 5),
        rpn_pre_nms_top_n_test=200, rpn_post_nms_top_n_test=60,
    )
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            values = fill(name, tensor.shape)
            # 9 levels, so that the file can be compressed.
            step = values.abs().max() / 4
            tensor.copy_((values / step).round() * step)
            # A variance so small that an epsilon of 1e-5 counts.
            if name.endswith("bn1.running_var"):
                tensor.mul_(1e-4)
            elif name.endswith("bn1.weight"):
                tensor.mul_(1e-2)
    return model


def keep_narrow(folder):
    folder.mkdir(exist_ok=True)
    model, out = narrow(), {}
    images = [fill("image.torchvision.0", (3, 60, 80)), fill("image.torchvision.1", (3, 90, 64))]
    detections(out, "epsilon_1e-5", model, images)
    set_epsilon(model, 0.0)
    detections(out, "epsilon_0", model, images)
    save_file(out, folder / "narrow.safetensors")
    wrapped = {"model": {f"module.{name}": tensor for name, tensor in model.state_dict().items()}, "epoch": 1}
    for name, value, kwargs in [("old_legacy", old_spelling(model.state_dict()), LEGACY), ("new_zip", wrapped, {})]:
        plain = io.BytesIO()
        torch.save(value, plain, **kwargs)
        path = folder / f"narrow_{name}.pth.gz"
        path.write_bytes(gzip.compress(plain.getvalue(), 9, mtime=0))
        print(path, plain.tell(), path.stat().st_size)


def full_size():
    """Random weights, scaled so that scores and boxes are neither all alike nor extreme."""
    torch.manual_seed(0)
    body = torchvision.models.resnet50(norm_layer=FrozenBatchNorm2d)
    model = FasterRCNN(_resnet_fpn_extractor(body, 5), 91, min_size=256, max_size=416)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                tensor.uniform_(-0.1, 0.1)
            elif name.endswith("bn3.weight"):
                tensor.fill_(0.25)
    model.eval()
    image = torch.rand(3, 240, 320)
    heads = [
        (model.rpn.head.cls_logits, 1.0), (model.rpn.head.bbox_pred, 0.2),
        (model.roi_heads.box_predictor.cls_score, 2.5), (model.roi_heads.box_predictor.bbox_pred, 0.5),
    ]
    for layer, spread in heads:
        seen = []
        hook = layer.register_forward_hook(lambda _, inputs, output: seen.append(output.flatten()))
        with torch.no_grad():
            model([image])
            layer.weight.mul_(spread / torch.cat(seen).std())
        hook.remove()
    return model


def write_full(folder):
    torch.set_num_threads(2)
    model, out = full_size(), {}
    images = [torch.rand(3, 240, 320), torch.rand(3, 200, 150)]
    for at, image in enumerate(images):
        out[f"image.{at}"] = image
    detections(out, "epsilon_1e-5", model, images)
    set_epsilon(model, 0.0)
    detections(out, "epsilon_0", model, images)
    save_file(out, folder / "full.safetensors")
    torch.save(old_spelling(model.state_dict()), folder / "full_old_legacy.pth", **LEGACY)
    torch.save(model.state_dict(), folder / "full_new_zip.pth")
    for name in ["resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d"]:
        classifier = getattr(torchvision.models, name)().state_dict()
        torch.save(classifier, folder / f"{name}.pth", **(LEGACY if name == "resnet18" else {}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["full"]:
        write_full(pathlib.Path(sys.argv[2]))
    else:
        keep_narrow(pathlib.Path(__file__).with_name("torchvision"))
