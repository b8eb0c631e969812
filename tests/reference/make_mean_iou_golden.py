"""Golden numbers for `src/metrics/mean_iou.rs` from scikit-learn.

    python3 -m venv .venv && .venv/bin/pip install scikit-learn==1.9.1 numpy
    .venv/bin/python tests/reference/make_mean_iou_golden.py

writes `tests/reference/mean_iou_golden.json`: label maps of a few images and what scikit-learn says of all their pixels.
"""

import json
import pathlib

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, recall_score


def case(random, classes, ignore, absent, sizes):
    """`absent` occurs in neither truth nor prediction; the last class is predicted but never true."""
    images = []
    for size in sizes:
        may_be = [c for c in range(classes) if c != absent]
        truth = random.choice([*may_be[:-1], ignore], size)
        guess = random.choice(may_be, size)
        predicted = np.where((random.random(size) < 0.6) & (truth != ignore), truth, guess)
        images.append((truth, predicted))
    truth, predicted = (np.concatenate(side) for side in zip(*images))
    kept = truth != ignore
    truth, predicted = truth[kept], predicted[kept]
    everywhere = sorted(set(truth) | set(predicted))
    in_truth = sorted(set(truth))
    iou = dict(zip(everywhere, jaccard_score(truth, predicted, labels=everywhere, average=None)))
    recall = dict(zip(in_truth, recall_score(truth, predicted, labels=in_truth, average=None)))
    return {
        "classes": classes,
        "ignore": ignore,
        "images": [[side.tolist() for side in image] for image in images],
        "confusion": confusion_matrix(truth, predicted, labels=range(classes)).flatten().tolist(),
        "mean_iou": float(jaccard_score(truth, predicted, labels=everywhere, average="macro")),
        "pixel_accuracy": float(accuracy_score(truth, predicted)),
        "mean_accuracy": float(recall_score(truth, predicted, labels=in_truth, average="macro")),
        "class_iou": [float(iou[c]) if c in iou else None for c in range(classes)],
        "class_accuracy": [float(recall[c]) if c in recall else None for c in range(classes)],
    }


def main():
    random = np.random.default_rng(5)
    cases = [case(random, 6, 255, 3, [120, 80]), case(random, 3, 255, None, [50]), case(random, 4, 0, 0, [60, 1, 90])]
    path = pathlib.Path(__file__).with_name("mean_iou_golden.json")
    path.write_text(json.dumps(cases, separators=(",", ":")) + "\n")
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
