"""Golden label maps for `tests/segmentation_data.rs`, drawn by pycocotools.

    python3 -m venv .venv && .venv/bin/pip install pycocotools==2.0.11 numpy
    .venv/bin/python tests/reference/make_label_map_golden.py

writes `tests/reference/label_map_golden.json`: an `instances` file and, for each image, its label map row by row. The
rule of overlaps: crowds first, as 255, then the larger before the smaller, of equal ones the earlier first; category `k`
in ascending order of ids has the label `k + 1`.
"""

import json
import pathlib
import random

import numpy as np
from pycocotools import mask as coco_mask

CATEGORIES = [{"id": 9, "name": "bird"}, {"id": 2, "name": "car"}, {"id": 40, "name": "cup"}]
LABELS = {2: 1, 9: 2, 40: 3}


def polygon(draw, width, height, corners):
    """Corners around a centre, some of them beyond the image."""
    x, y = draw.uniform(0, width), draw.uniform(0, height)
    turns = sorted(draw.uniform(0, 2 * np.pi) for _ in range(corners))
    radii = [draw.uniform(2, width / 2) for _ in turns]
    points = [(x + r * np.cos(t), y + r * np.sin(t)) for r, t in zip(radii, turns)]
    return [round(float(c), 2) for point in points for c in point]


def segmentation(draw, kind, width, height):
    parts = [polygon(draw, width, height, draw.randint(3, 9)) for _ in range(draw.randint(1, 3))]
    if kind == "polygons":
        return parts
    one = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
    if kind == "compressed":
        return {"size": [height, width], "counts": one["counts"].decode()}
    flat = coco_mask.decode(one).flatten(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return {"size": [height, width], "counts": np.diff(np.concatenate([[0], edges])).tolist()}


def as_mask(given, width, height):
    if isinstance(given, list):
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(given, height, width)))
    if isinstance(given["counts"], list):
        return coco_mask.decode(coco_mask.frPyObjects(given, height, width))
    return coco_mask.decode(given)


def main():
    draw = random.Random(7)
    images, annotations, maps = [], [], []
    for number, (width, height) in enumerate([(40, 30), (23, 37), (64, 48)]):
        images.append({"id": 100 - number, "file_name": f"{number}.png", "width": width, "height": height})
        drawn = []
        for at in range(7):
            kind = ["polygons", "compressed", "runs"][at % 3]
            given = segmentation(draw, kind, width, height)
            crowd = int(at == 4)
            category = draw.choice(list(LABELS))
            annotations.append({"image_id": 100 - number, "category_id": category, "iscrowd": crowd, "segmentation": given})
            mask = as_mask(given, width, height).astype(bool)
            drawn.append((not crowd, -int(mask.sum()), at, 255 if crowd else LABELS[category], mask))
        labels = np.zeros((height, width), dtype=int)
        for _, _, _, label, mask in sorted(drawn, key=lambda entry: entry[:3]):
            labels[mask] = label
        maps.append(labels.flatten().tolist())
    out = {"instances": {"images": images, "annotations": annotations, "categories": CATEGORIES}, "label_maps": maps}
    path = pathlib.Path(__file__).with_name("label_map_golden.json")
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")
    print(path, path.stat().st_size, [sorted(set(m)) for m in maps])


if __name__ == "__main__":
    main()
