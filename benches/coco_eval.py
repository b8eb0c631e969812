#!/usr/bin/env python3
"""Times COCO mAP against pycocotools on the same random files, in one run.

    pip install pycocotools==2.0.11 numpy
    python benches/coco_eval.py

Both times are from the files on disk to the twelve numbers, inside a running process: neither the imports of Python nor
the loading of libtorch counts. Each is the best of --repeat runs. Ends with an error where the numbers differ by more
than 1e-6.
"""
import argparse
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "reference"))
from make_coco_golden import random_set  # noqa: E402


def pycocotools(truth, detections, iou):
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(str(truth))
        evaluation = COCOeval(gt, gt.loadRes(str(detections)), iou)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def spnas(command, truth, detections, iou, repeat):
    command = [*command, truth, detections, iou, str(repeat)]
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout)
    return result["seconds"], result["stats"]


def best(repeat, work):
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return min(times), result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the compiled benchmark, instead of `cargo bench`")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    command = [arguments.binary] if arguments.binary else ["cargo", "bench", "--quiet", "--bench", "coco_eval", "--"]
    different = False
    print(f"{'set':<28}{'objects':>9}{'found':>9}{'pycocotools s':>15}{'spnas s':>10}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, iou, images, categories, many in [("100 images, boxes", "bbox", 100, 10, False),
                                                    ("1000 images, boxes", "bbox", 1000, 80, False),
                                                    ("200 images, many boxes", "bbox", 200, 10, True),
                                                    ("100 images, masks", "segm", 100, 10, False)]:
            truth, found = random_set(np.random.default_rng(7), iou, images, categories, 7, many=many)
            files = [pathlib.Path(folder) / "truth.json", pathlib.Path(folder) / "found.json"]
            for file, content in zip(files, (truth, found)):
                file.write_text(json.dumps(content))
            slow, expected = best(arguments.repeat, lambda: pycocotools(*files, iou))
            fast, ours = spnas(command, *files, iou, arguments.repeat)
            print(f"{name:<28}{len(truth['annotations']):>9}{len(found):>9}{slow:>15.3f}{fast:>10.4f}{slow / fast:>8.0f}")
            if max(abs(a - b) for a, b in zip(ours, expected)) > 1e-6:
                print(f"  differs: {ours}\n  expected {expected}")
                different = True
    sys.exit(different)


if __name__ == "__main__":
    main()
