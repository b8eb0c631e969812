#!/usr/bin/env python3
"""What the search brings, and what inheritance and early stopping bring to it, measured on real runs.

For each seed it runs the search of a configuration and the seed network alone with the same epochs, then (with
--variants) the same search without inheritance and without early stopping. Networks are compared on the test images,
which no search sees; searches are compared at equal wall time, the shortest of them. Needs the release binary
(`cargo build --release`) and the configuration's data; prints a table in Markdown and one JSON line a run.

    python3 benches/search_gain.py configs/demo.yml --seeds 1 2 3
    python3 benches/search_gain.py configs/demo.yml --seeds 1 --variants
    python3 benches/search_gain.py configs/bccd.yml --seeds 1
"""

import argparse
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/spnas"
STEP = "serial"

ALONE = [f"{STEP}.search_algorithm.max_sample=1", f"{STEP}.early_stopping={{type: none}}"]
VARIANTS = {
    "without inheritance": [f"{STEP}.search_algorithm.inherit_weights=false"],
    "without early stopping": [f"{STEP}.early_stopping={{type: none}}"],
}


def run(config: str, name: str, seed: int, overrides: list[str], extra: list[str]) -> Path:
    """Runs the search, or takes the finished run of this name that is there already; its folder."""
    folder = ROOT / "runs" / name
    if not (folder / "steps.json").exists():
        arguments = [f"general.task.task_id={name}", "general.task.local_base_path=runs", f"general.seed={seed}"]
        command = [BINARY, "run", config, *arguments, *overrides, *extra]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            sys.exit(f"{name}: `spnas run` ended with {done.returncode}")
    return folder


def journal(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{folder}/workers/{STEP}/journal.sqlite?mode=ro", uri=True)


def end_s(folder: Path) -> float:
    return journal(folder).execute("SELECT max(at_ms) FROM events").fetchone()[0] / 1000


def busy_share(folder: Path) -> float:
    """Share of the wall time, its end included, that the training devices were at work."""
    held: dict[int, tuple[str, str, int]] = {}
    busy: dict[str, int] = {}
    ends = ("trained", "stopped", "failed", "attempt_failed", "released", "finished")
    for trial, kind, at_ms, body in journal(folder).execute("SELECT trial, kind, at_ms, body FROM events ORDER BY seq"):
        if kind == "leased":
            lease = json.loads(body)
            held[trial] = (lease["role"], lease["device"], at_ms)
        elif kind in ends and trial in held:
            role, device, since = held.pop(trial)
            if role == "train":
                busy[device] = busy.get(device, 0) + at_ms - since
    return sum(busy.values()) / (len(busy) * end_s(folder) * 1000)


def hypervolume(points: list[tuple[float, float]], best: tuple[float, float], worst: tuple[float, float]) -> float:
    """Share of the box between `worst` and `best` that points (mAP up, params down) dominate."""
    area, reached = 0.0, worst[0]
    for score, cost in sorted(points, key=lambda point: (point[1], -point[0])):
        if score > reached and cost < worst[1]:
            area += (score - reached) * (worst[1] - cost)
            reached = score
    return area / ((best[0] - worst[0]) * (worst[1] - best[1]))


def describe(name: str, seed: int, folder: Path) -> dict:
    test = json.loads((folder / f"output/{STEP}/test.json").read_text())
    front = json.loads((folder / f"output/{STEP}/front.json").read_text())
    line = {
        "run": name,
        "seed": seed,
        "test_mAP": round(test["metrics"]["mAP"], 2),
        "test_AP50": round(test["metrics"]["AP50"], 2),
        "best": test["code"],
        "front": len(front),
        "trials": journal(folder).execute("SELECT count(*) FROM events WHERE kind = 'proposed'").fetchone()[0],
        "wall_s": round(end_s(folder), 1),
        "busy": round(busy_share(folder), 4),
    }
    print(json.dumps(line), file=sys.stderr, flush=True)
    return line


def trajectory(folder: Path) -> list[tuple[int, float, dict]]:
    """The finished trials: epochs trained in the whole search by then, seconds, and all metrics."""
    epochs, found = 0, []
    for kind, at_ms, body in journal(folder).execute("SELECT kind, at_ms, body FROM events ORDER BY seq"):
        if kind == "reported":
            epochs += 1
        elif kind == "finished":
            found.append((epochs, at_ms / 1000, json.loads(body)["metrics"]))
    return found


def epochs_trained(folder: Path) -> int:
    return journal(folder).execute("SELECT count(*) FROM events WHERE kind = 'reported'").fetchone()[0]


def compare(folders: dict[str, Path], clock: int, until: float, what: str) -> None:
    """A table of what each search has found until its clock (0: epochs trained, 1: seconds) shows `until`."""
    points = {
        name: [(found[2]["mAP"], found[2]["params"]) for found in trajectory(folder) if found[clock] <= until]
        for name, folder in folders.items()
    }
    everything = [point for found in points.values() for point in found]
    best = (max(p[0] for p in everything), min(p[1] for p in everything))
    worst = (0.0, max(p[1] for p in everything) * 1.01)
    print(f"\nAt {until:.0f} {what}, validation images:\n")
    print("| search | finished | best mAP | hypervolume |\n|---|---|---|---|")
    for name, found in points.items():
        top = max((p[0] for p in found), default=float("nan"))
        print(f"| {name} | {len(found)} | {top:.1f} | {hypervolume(found, best, worst):.3f} |")


def at_equal_cost(folders: dict[str, Path]) -> None:
    """The searches at equal wall time, and at equal epochs trained, which other work on the machine does not change."""
    compare(folders, 1, min(end_s(folder) for folder in folders.values()), "s of wall time")
    compare(folders, 0, min(epochs_trained(folder) for folder in folders.values()), "epochs trained in all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", action="store_true", help="also without inheritance, without early stopping")
    parser.add_argument("overrides", nargs="*", help="section.key=value for every run")
    arguments, more = parser.parse_known_args()
    extra = arguments.overrides + more
    label = Path(arguments.config).stem
    rows = []
    for seed in arguments.seeds:
        alone = run(arguments.config, f"{label}-alone-{seed}", seed, ALONE, extra)
        searched = run(arguments.config, f"{label}-{seed}", seed, [], extra)
        rows.append((seed, describe("seed alone", seed, alone), describe("searched", seed, searched)))
    print("| seed | seed network, test mAP | best searched, test mAP | front | trials | wall s | busy |")
    print("|---|---|---|---|---|---|---|")
    for seed, alone, found in rows:
        cells = [seed, alone["test_mAP"], found["test_mAP"], found["front"], found["trials"], found["wall_s"], found["busy"]]
        print("| " + " | ".join(str(cell) for cell in cells) + " |")
    if arguments.variants:
        seed = arguments.seeds[0]
        folders = {"as configured": ROOT / "runs" / f"{label}-{seed}"}
        for name, overrides in VARIANTS.items():
            task = f"{label}-{name.replace(' ', '-')}-{seed}"
            folders[name] = run(arguments.config, task, seed, overrides, extra)
            describe(name, seed, folders[name])
        at_equal_cost(folders)


main()
