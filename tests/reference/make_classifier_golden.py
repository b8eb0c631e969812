"""Golden numbers for `tests/classifier_golden.rs` from torchvision's ResNet blocks, narrow, with ResNet's head.

    python3 -m venv .venv && .venv/bin/pip install torch==2.13.0 torchvision==0.28.0 numpy safetensors
    .venv/bin/python tests/reference/make_classifier_golden.py

writes `tests/reference/classifier_golden.safetensors` and the names and shapes of torchvision's resnet18. Weights and
images are not stored: both languages make them from the names of the tensors (`fill` of `make_detector_golden.py`).
"""

import json
import pathlib

import torch
from make_detector_golden import Body, fill
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock, Bottleneck

CLASSES = 7


class Classifier(Body):
    def __init__(self, block, depths, width, classes):
        super().__init__(block, depths, width)
        self.stages = len(depths)
        self.fc = nn.Linear(self.widths[-1], classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


def ours(name):
    return name if name.startswith("fc.") else f"backbone.body.{name}"


def case(out, name, model, size):
    model.load_state_dict(
        {key: fill(ours(key), value.shape) if value.dim() else value for key, value in model.state_dict().items()}
    )
    images = fill(f"image.{name}", size) * 4 - 2
    labels = torch.arange(size[0]) * 3 % CLASSES
    shares = fill(f"image.shares.{name}", (size[0], CLASSES))
    shares = shares / shares.sum(1, keepdim=True)
    model.eval()
    with torch.no_grad():
        out[f"{name}.logits"] = model(images)
    model.train()
    loss = cross_entropy(model(images), labels, label_smoothing=0.1)
    running = sorted((ours(n), b.clone()) for n, b in model.named_buffers() if "running" in n)
    out[f"{name}.running_sums"] = torch.stack([b.double().sum().float() for _, b in running])
    loss.backward()
    parameters = sorted((ours(n), p) for n, p in model.named_parameters())
    out[f"{name}.gradient_norms"] = torch.stack([p.grad.double().norm().float() for _, p in parameters])
    with torch.no_grad():
        logits = model(images)
        losses = [loss.detach(), cross_entropy(logits, labels), cross_entropy(logits, shares), cross_entropy(logits, shares, label_smoothing=0.3)]
    out[f"{name}.losses"] = torch.stack(losses)
    print(name, out[f"{name}.logits"][0].tolist(), [loss.item() for loss in losses])


def the_same_as_torchvision():
    """The narrow network is torchvision's own, but for its width."""
    theirs, own = resnet18(num_classes=CLASSES).eval(), Classifier(BasicBlock, [2, 2, 2, 2], 64, CLASSES).eval()
    own.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(theirs(images), own(images), atol=1e-5)


def main():
    torch.manual_seed(0)
    the_same_as_torchvision()
    out = {}
    case(out, "basic", Classifier(BasicBlock, [2, 2, 2, 2], 8, CLASSES), (3, 3, 64, 48))
    case(out, "bottleneck", Classifier(Bottleneck, [3, 4, 6, 3], 4, CLASSES), (2, 3, 96, 96))
    path = pathlib.Path(__file__).with_name("classifier_golden.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, path)
    print(path, path.stat().st_size)
    shapes = {ours(n): list(t.shape) for n, t in resnet18().state_dict().items() if not n.endswith("num_batches_tracked")}
    path = pathlib.Path(__file__).with_name("resnet18.json")
    path.write_text("{\n" + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in sorted(shapes.items())) + "\n}\n")


if __name__ == "__main__":
    main()
