#!/usr/bin/env python3
"""Makes random detection sets and what pycocotools says of them, for tests/coco_map.rs.

    pip install pycocotools==2.0.11 numpy
    python tests/reference/make_coco_golden.py                       # writes tests/reference/coco_golden.json
    python tests/reference/make_coco_golden.py --sets 300 --out /tmp/many.json
    SPNAS_COCO_GOLDEN=/tmp/many.json cargo test --test coco_map      # checks a larger number
"""
import argparse
import contextlib
import copy
import io
import json
import pathlib

import numpy as np
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def stats(truth, detections, iou):
    """The twelve numbers of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = copy.deepcopy(truth)  # pycocotools writes into it
        gt.createIndex()
        if detections:
            dt = gt.loadRes(copy.deepcopy(detections))
        else:  # loadRes fails on an empty list
            dt = COCO()
            dt.dataset = {"images": truth["images"], "categories": truth["categories"], "annotations": []}
            dt.createIndex()
        evaluation = COCOeval(gt, dt, iou)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(x) for x in evaluation.stats]


def random_box(rng, width, height, grid):
    """Sizes over all area ranges; now and then exactly 32 or 96 pixels, the ranges' borders."""
    side = float(np.exp(rng.uniform(np.log(4), np.log(200))))
    w, h = side * rng.uniform(0.6, 1.6), side * rng.uniform(0.6, 1.6)
    if rng.random() < 0.15:
        w = h = float(rng.choice([32, 96]))
    w, h = min(w, width - 1), min(h, height - 1)
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return [round(v / grid) * grid if grid else round(v, 2) for v in (x, y, w, h)]


def ellipse(box, width, height):
    """A mask within a box."""
    x, y, w, h = box
    yy, xx = np.mgrid[0:height, 0:width]
    inside = ((xx + 0.5 - x - w / 2) / (w / 2 + 1e-9)) ** 2 + ((yy + 0.5 - y - h / 2) / (h / 2 + 1e-9)) ** 2 <= 1
    return np.asfortranarray(inside.astype(np.uint8))


def compressed(mask):
    rle = mask_utils.encode(mask)
    return {"size": [int(s) for s in rle["size"]], "counts": rle["counts"].decode("ascii")}


def runs(mask):
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": ([0] if flat[0] else []) + counts}


def polygon(box, rng):
    x, y, w, h = box
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 12)))
    points = np.stack([x + w / 2 + w / 2 * np.cos(angles), y + h / 2 + h / 2 * np.sin(angles)], 1)
    return [[round(float(v), 2) for v in points.reshape(-1)]]


def random_set(rng, iou, images=6, categories=4, objects=5, crowd=0.08, many=False, first_id=1, empty=0.2):
    """Ground truth and detections: jittered copies of objects, false ones, duplicates, ties in score."""
    segm = iou == "segm"
    grid = int(rng.choice([0, 1, 4]))
    category_ids = sorted(int(c) for c in rng.choice(np.arange(1, 91), categories, replace=False))
    image_ids = sorted(int(i) for i in rng.choice(np.arange(1, 600000), images, replace=False))
    truth = {"images": [], "annotations": [], "categories": [{"id": c, "name": f"c{c}"} for c in category_ids]}
    detections = []
    next_id = first_id
    # One category never appears in the ground truth, one is never detected.
    in_truth = category_ids[:-1] if categories > 2 else category_ids
    detected = category_ids[1:] if categories > 2 else category_ids
    for image_id in image_ids:
        width, height = (int(rng.integers(60, 110)), int(rng.integers(60, 110))) if segm else (320, 240)
        truth["images"].append({"id": image_id, "width": width, "height": height, "file_name": f"{image_id}.jpg"})
        count = 0 if rng.random() < empty else int(rng.integers(1, 2 * objects))
        for _ in range(count):
            box = random_box(rng, width, height, grid)
            annotation = {"id": next_id, "image_id": image_id, "category_id": int(rng.choice(in_truth)), "bbox": box,
                          "area": box[2] * box[3] * float(rng.choice([1.0, 0.7])),
                          "iscrowd": int(rng.random() < crowd)}
            if segm:
                mask = ellipse(box, width, height)
                kind = rng.integers(3)
                annotation["segmentation"] = (runs(mask) if annotation["iscrowd"] or kind == 0 else
                                              compressed(mask) if kind == 1 else polygon(box, rng))
            truth["annotations"].append(annotation)
            next_id += 1
            for _ in range(int(rng.choice([0, 1, 1, 2]))):
                shift = rng.normal(0, 0.06, 4) * (box[2] + box[3]) / 2
                near = [round(max(0.0, b + s), 2) for b, s in zip(box, shift)]
                category = annotation["category_id"] if rng.random() < 0.9 else int(rng.choice(category_ids))
                if category in detected:
                    detections.append((image_id, category, near, width, height))
        for _ in range(int(rng.integers(0, objects)) + (130 if many else 0)):
            detections.append((image_id, int(rng.choice(detected)), random_box(rng, width, height, grid), width, height))
    results = []
    for image_id, category, box, width, height in detections:
        score = round(float(rng.random()), int(rng.choice([1, 3])))  # one digit: many ties
        result = {"image_id": image_id, "category_id": category, "score": score}
        if segm:
            result["segmentation"] = compressed(ellipse(box, width, height))
        else:
            result["bbox"] = box
        results.append(result)
    order = rng.permutation(len(results))
    return truth, [results[i] for i in order]


def cases(seed, sets):
    rng = np.random.default_rng(seed)
    yield "boxes", "bbox", random_set(rng, "bbox")
    yield "more than 100 detections of a category an image", "bbox", random_set(rng, "bbox", 2, 2, 5, many=True)
    yield "many crowds", "bbox", random_set(rng, "bbox", 12, 2, 6, crowd=0.5)
    yield "annotation ids from 0", "bbox", random_set(rng, "bbox", 6, 2, first_id=0)
    yield "most images empty", "bbox", random_set(rng, "bbox", 12, 5, 4, empty=0.7)
    truth, _ = random_set(rng, "bbox", 4)
    yield "no detections", "bbox", (truth, [])
    truth, results = random_set(rng, "bbox", 4)
    yield "no objects", "bbox", (dict(truth, annotations=[]), results)
    truth, results = random_set(rng, "bbox", 4)
    yield "only crowds", "bbox", (dict(truth, annotations=[dict(a, iscrowd=1) for a in truth["annotations"]]), results)
    truth, results = random_set(rng, "bbox", 5)
    strange = [dict(r, category_id=999) if i % 3 == 0 else r for i, r in enumerate(results)]
    yield "a category that is not in the ground truth", "bbox", (truth, strange)
    truth, results = random_set(rng, "bbox", 5)
    flat = [dict(a, bbox=a["bbox"][:2] + [0, a["bbox"][3]], area=0) if i % 4 == 0 else a
            for i, a in enumerate(truth["annotations"])]
    yield "objects without width", "bbox", (dict(truth, annotations=flat), results)
    truth, results = random_set(rng, "bbox", 6)
    yield "one score for all", "bbox", (truth, [dict(r, score=0.5) for r in results])
    yield "masks", "segm", random_set(rng, "segm")
    yield "masks of crowds", "segm", random_set(rng, "segm", 6, 2, 4, crowd=0.5)
    yield "more than 100 masks an image", "segm", random_set(rng, "segm", 1, 1, 4, many=True, empty=0)
    yield "boxes given, masks asked", "segm", (lambda t, r: (t, [dict(x, bbox=[1.0, 2.0, 30.0, 20.0]) for x in r]))(
        *random_set(rng, "segm", 4, 2, 3))
    for number in range(sets):
        iou = "segm" if number % 4 == 3 else "bbox"
        options = dict(images=int(rng.integers(1, 10)), categories=int(rng.integers(1, 8)),
                       objects=int(rng.integers(1, 8)), crowd=float(rng.choice([0, 0.1, 0.5])),
                       many=bool(rng.random() < 0.2), first_id=int(rng.integers(0, 2)), empty=float(rng.random() / 2))
        yield f"random {number}", iou, random_set(rng, iou, **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--sets", type=int, default=6, help="random sets besides the named ones")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).with_name("coco_golden.json"))
    arguments = parser.parse_args()
    made = [{"name": name, "iou": iou, "truth": truth, "detections": detections,
             "stats": stats(truth, detections, iou)}
            for name, iou, (truth, detections) in cases(arguments.seed, arguments.sets)]
    arguments.out.write_text("[" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in made) + "]\n")
    print(f"{len(made)} sets, {arguments.out.stat().st_size} bytes: {arguments.out}")


if __name__ == "__main__":
    main()
