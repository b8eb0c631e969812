"""Small files of torch.save for the tests of `weights::pth`, in both formats.

    python3 -m venv .venv && .venv/bin/pip install torch==2.13.0 numpy
    .venv/bin/python tests/reference/make_pth_golden.py

writes `tests/reference/pth/`. What is in the tensors, the tests know.
"""

import argparse
import io
import pathlib
import struct
import zipfile

import torch
from torch import nn

FOLDER = pathlib.Path(__file__).with_name("pth")


def tensors():
    """Every kind of elements, shapes with and without elements, views that share a storage."""
    whole = torch.arange(24, dtype=torch.float32)
    kinds = {
        "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16,
        "i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8,
    }
    named = {f"kind.{name}": torch.tensor([1, 2, 100], dtype=kind) for name, kind in kinds.items()}
    named |= {
        "kind.bool": torch.tensor([True, False, True]),
        "shape.scalar": torch.tensor(2.5),
        "shape.empty": torch.zeros(0, 3),
        "view.whole": whole,
        "view.rows": whole.reshape(4, 6)[1:3],
        "view.transposed": whole.reshape(4, 6).t(),
        "view.strided": whole[5::7],
        "view.expanded": torch.tensor([3.0]).expand(2, 2),
        "parameter": nn.Parameter(torch.tensor([[-1.5, 0.25]])),
    }
    return named


def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def checkpoint():
    """What training scripts save: a state dict among much else."""
    network = module()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5, 5])
    network(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        for at, tensor in enumerate(network.state_dict().values()):
            tensor.fill_(at + 1)
    return {
        "epoch": 3, "best": 0.25, "loss": torch.tensor(1.5), "device": torch.device("cpu"), "dtype": torch.float32,
        "args": argparse.Namespace(lr=0.1, name="run", steps=[1, 2], size=torch.Size([2, 3])),
        "optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict(),
        "state_dict": network.state_dict(), "big": 1 << 100, "bytes": b"\0\1\2", "set": {1, 2},
    }


def repack(data, change, method=zipfile.ZIP_STORED):
    """The same archive with other contents or another method."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info.filename)))
    return out.getvalue()


def save(name, value, **kwargs):
    path = FOLDER / name
    torch.save(value, path, **kwargs)
    print(path, path.stat().st_size)
    return path.read_bytes()


def main():
    FOLDER.mkdir(exist_ok=True)
    legacy = {"_use_new_zipfile_serialization": False}
    plain = save("tensors.pth", tensors())
    save("tensors_legacy.pth", tensors(), **legacy)
    save("tensors_protocol4.pth", tensors(), pickle_protocol=4)
    save("tensors_legacy_protocol4.pth", tensors(), pickle_protocol=4, **legacy)
    save("checkpoint.pth", checkpoint())
    save("checkpoint_legacy.pth", checkpoint(), **legacy)
    save("module.pth", module())
    save("module_legacy.pth", nn.ReLU(), **legacy)
    save("list.pth", [torch.ones(1)])
    torch.jit.save(torch.jit.script(nn.ReLU()), FOLDER / "script.pth")
    with_order = repack(plain, lambda name, data: b"big" if name.endswith("/byteorder") else data)
    (FOLDER / "big_endian.pth").write_bytes(with_order)
    (FOLDER / "repacked.pth").write_bytes(repack(plain, lambda name, data: data))
    (FOLDER / "compressed.pth").write_bytes(repack(plain, lambda name, data: data, zipfile.ZIP_DEFLATED))
    small = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([True])}
    save("small.pth", small)
    save("small_legacy.pth", small, **legacy)


if __name__ == "__main__":
    main()
