#!/usr/bin/env python3
"""What all of SP-NAS brings: the network a pipeline ends with against the network it began with, trained alone by the
same schedule for at least the same time. Held-out test images, which no search sees.

For each seed it runs the configuration's pipeline, and its first step alone with the epochs that are asked for (the
same optimiser, warm-up and cosine, stretched over them). The clock is processor seconds a device, which other load on
the machine hardly moves. Needs the release binary (`cargo build --release`) and the configuration's data; a finished
run in runs/ is taken as it is; prints a table in Markdown and a JSON line a run.

    python3 benches/pipeline_gain.py configs/spnas_demo.yml fullytrain.pipe_step.best_by=mAP --epochs 24
    python3 benches/pipeline_gain.py configs/spnas_bccd.yml --epochs 82
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/spnas"
FIRST, LAST = "fine_tune", "fullytrain"


def run(config: str, name: str, seed: int, overrides: list[str]) -> Path:
    """Runs a pipeline, or takes the finished run of this name that is there already; its folder."""
    folder = ROOT / "runs" / name
    took = folder / "processor_s.json"
    if not took.exists():
        fixed = [f"general.task.task_id={name}", "general.task.local_base_path=runs", f"general.seed={seed}"]
        process = subprocess.Popen([BINARY, "run", config, *fixed, *overrides], cwd=ROOT, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit(f"{name}: `spnas run` ended with {os.waitstatus_to_exitcode(status)}")
        took.write_text(json.dumps(used.ru_utime + used.ru_stime))
    return folder


def processor_s(folder: Path) -> float:
    return json.loads((folder / "processor_s.json").read_text())


def describe(name: str, seed: int, folder: Path, step: str) -> dict:
    test = json.loads((folder / f"output/{step}/test.json").read_text())
    line = {
        "run": name,
        "seed": seed,
        "test_mAP": round(test["metrics"]["mAP"], 2),
        "code": test["code"],
        "processor_s": round(processor_s(folder)),
    }
    print(json.dumps(line), file=sys.stderr, flush=True)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--epochs", type=int, required=True, help="of the network alone")
    parser.add_argument("--devices", type=int, default=2, help="that the configuration trains on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("overrides", nargs="*", help="section.key=value for every run")
    arguments, more = parser.parse_known_args()
    extra = arguments.overrides + more
    label = Path(arguments.config).stem
    stretched = [
        f"pipeline=[{FIRST}]",
        f"{FIRST}.trainer.epochs={arguments.epochs}",
        "general.trial_time_limit=null",
    ]

    def alone(seed: int) -> Path:
        return run(arguments.config, f"{label}-alone-{arguments.epochs}-{seed}", seed, [*extra, *stretched])

    wholes = [run(arguments.config, f"{label}-{seed}", seed, extra) for seed in arguments.seeds]
    # A network alone trains on one device: as many of them run at once as a pipeline has devices.
    with ThreadPoolExecutor(arguments.devices) as pool:
        alones = list(pool.map(alone, arguments.seeds))
    rows = [
        (describe("alone", seed, one, FIRST), describe("pipeline", seed, whole, LAST))
        for seed, one, whole in zip(arguments.seeds, alones, wholes)
    ]
    print("| seed of the run | network it began with, alone: s a device | test mAP | pipeline: s a device | test mAP | code |")
    print("|---|---|---|---|---|---|")
    for one, whole in rows:
        cells = [one["seed"], one["processor_s"], one["test_mAP"]]
        cells += [round(whole["processor_s"] / arguments.devices), whole["test_mAP"], f"`{whole['code']}`"]
        print("| " + " | ".join(str(cell) for cell in cells) + " |")


main()
