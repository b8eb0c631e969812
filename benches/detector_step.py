#!/usr/bin/env python3
"""Times training steps and detections of the full-size detector against torchvision's, on the same weights and images.

    pip install torch torchvision
    python benches/detector_step.py

Faster R-CNN, ResNet-50, FPN, 91 classes, 2 images of 320x320, SGD. Both take turns, round by round, so that a busy
machine is as busy for one as for the other; medians over all steps, and the peak memory of each process, are printed.
"""
import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIDE = 320


def torchvision_times(weights, threads, repeat):
    import torch
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    torch.set_num_threads(threads)
    model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=SIDE, max_size=SIDE)
    model.load_state_dict(torch.load(weights))
    at = torch.arange(3 * SIDE * SIDE, dtype=torch.float32)
    images = [(torch.sin(at * (0.013 + 0.001 * number)) * 0.5 + 0.5).view(3, SIDE, SIDE) for number in range(2)]
    boxes = torch.tensor([[20.0, 30, 120, 150], [150, 60, 300, 200], [40, 200, 100, 300]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1, 17, 44])} for _ in range(2)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, weight_decay=1e-4)
    train, detect = [], []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()
        train.append(time.perf_counter() - start)
    model.eval()
    for _ in range(repeat + 1):
        start = time.perf_counter()
        with torch.no_grad():
            model(images)
        detect.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"train": train[1:], "detect": detect[1:], "peak_mib": peak}))


def make_weights(path):
    import torch
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    torch.manual_seed(1)
    torch.save(fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict(), path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the compiled benchmark, instead of `cargo bench`")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--torchvision", metavar="WEIGHTS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.torchvision:
        return torchvision_times(arguments.torchvision, arguments.threads, arguments.repeat)
    ours = [arguments.binary] if arguments.binary else ["cargo", "bench", "--quiet", "--bench", "detector_step", "--"]
    with tempfile.TemporaryDirectory() as folder:
        weights = f"{folder}/weights.pth"
        make_weights(weights)
        numbers = [str(arguments.threads), str(arguments.repeat)]
        theirs = [sys.executable, __file__, "--threads", numbers[0], "--repeat", numbers[1], "--torchvision", weights]
        commands = {"spnas": [*ours, weights, *numbers], "torchvision": theirs}
        found = {name: {"train": [], "detect": [], "peak_mib": []} for name in commands}
        for _ in range(arguments.rounds):
            for name, command in commands.items():
                result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout)
                found[name]["train"] += result["train"]
                found[name]["detect"] += result["detect"]
                found[name]["peak_mib"].append(result["peak_mib"])
    print("| | training step, s | detection, s | peak memory, MiB |\n|---|---|---|---|")
    medians = {name: {key: statistics.median(values) for key, values in of.items()} for name, of in found.items()}
    for name, of in medians.items():
        print(f"| {name} | {of['train']:.2f} | {of['detect']:.2f} | {of['peak_mib']:.0f} |")
    ratio = {key: medians["spnas"][key] / medians["torchvision"][key] for key in medians["spnas"]}
    print(f"| ratio | {ratio['train']:.2f} | {ratio['detect']:.2f} | {ratio['peak_mib']:.2f} |")


main()
