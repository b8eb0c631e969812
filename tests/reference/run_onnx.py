"""Runs an ONNX file on onnxruntime, for `tests/export.rs`.

    python3 -m venv .venv && .venv/bin/pip install onnxruntime numpy onnx
    .venv/bin/python tests/reference/run_onnx.py MODEL.onnx INPUT N H W OUTPUT

INPUT holds the images `[N, 3, H, W]`, OUTPUT gets all outputs one after another, each as little-endian floats in the order
of its elements. Prints the outputs' shapes as JSON. Where `onnx` is there, its checker has to accept the file.
"""

import json
import sys

import numpy
import onnxruntime

model, source, batch, height, width, target = sys.argv[1:]
try:
    import onnx
except ImportError:
    print("onnx is not there: the file is not checked by it", file=sys.stderr)
else:
    onnx.checker.check_model(onnx.load(model), full_check=True)

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
images = numpy.fromfile(source, "<f4").reshape(int(batch), 3, int(height), int(width))
outputs = session.run(None, {"images": images})
with open(target, "wb") as file:
    for output in outputs:
        file.write(output.astype("<f4").tobytes())
names = [output.name for output in session.get_outputs()]
print(json.dumps(dict(zip(names, (output.shape for output in outputs)))))
