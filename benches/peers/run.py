"""The engine and its peers, side by side in one run: prints a Markdown table of medians and ratios.

    python3 benches/peers/run.py                    # about five minutes on two cores
    python3 benches/peers/run.py --rounds 5 --only noop
    python3 benches/peers/run.py --with ray,syne    # two optional peers; large downloads, slow

Each round runs every system once, ours and theirs in turn, so that whatever else the machine does falls on all. Optuna is
installed into `target/peers/optuna` (its own virtual environment) the first time, the optional peers beside it. Every line
that a run printed is kept in `target/peers/results.jsonl`.

What is compared: a peer's memory storage with our journal synced each second (ours is on disk all the same), and a peer's
flushed file with our journal flushed at every commit. Durations are drawn here, once, and given to both sides.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
import random
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGES = {
    "optuna": ["optuna"],
    "ray": ["ray[tune]"],
    "syne": ["syne-tune", "huggingface_hub", "s3fs", "pandas"],
}


def target() -> pathlib.Path:
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def python_of(peer: str) -> str:
    """The interpreter of the peer's virtual environment, made where there is none."""
    given = os.environ.get(f"PEER_PYTHON_{peer.upper()}")
    if given:
        return given
    folder = target() / "peers" / peer
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES[peer]], check=True)
        (folder / "complete").touch()
    return str(python)


def engine() -> str:
    """The engine's benchmark, built in release."""
    command = ["cargo", "bench", "-p", "spnas-actors", "--bench", "throughput", "--no-run"]
    built = subprocess.run(
        [*command, "--message-format=json"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    )
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "throughput":
            return message["executable"]
    raise SystemExit("cargo did not say where the benchmark is")


def durations(count: int, seed: int) -> list[float]:
    """Log-normal seconds: median 60 ms, sigma 0.8, within 20 ms to 1 s."""
    rng = random.Random(seed)
    return [min(max(math.exp(rng.gauss(math.log(0.060), 0.8)), 0.020), 1.0) for _ in range(count)]


class Runs:
    """All lines that the runs have printed."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.lines: list[dict] = []

    def run(self, *command: str) -> None:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        found = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0 or not found:
            print(f"failed: {' '.join(command)}", file=sys.stderr)
            return
        with self.path.open("a") as out:
            for line in found:
                out.write(line + "\n")
                self.lines.append(json.loads(line))

    def values(self, bench: str, system: str, key: str) -> list[float]:
        chosen = (x for x in self.lines if x["bench"] == bench and x["system"] == system)
        return [x[key] for x in chosen if key in x]

    def median(self, bench: str, system: str, key: str) -> float | None:
        values = self.values(bench, system, key)
        return statistics.median(values) if values else None


PAIRS = [
    ("noop", "spnas-full", "optuna-journal", "trials_per_s", "trials/s, each commit flushed", 20),
    ("noop", "spnas-interval", "optuna-memory", "trials_per_s", "trials/s, not flushed each time", 20),
    ("reports", "spnas-full", "optuna-journal", "reports_per_s", "reports/s, worker to verdict, flushed", None),
    ("reports", "spnas-interval", "optuna-memory", "reports_per_s", "reports/s, worker to verdict", None),
    ("utilisation", "spnas-full", "optuna-journal", "utilisation", "utilisation, flushed", None),
    ("utilisation", "spnas-interval", "optuna-memory", "utilisation", "utilisation", None),
]


def table(runs: Runs, extra: list[str]) -> None:
    print("| yardstick | ours, median (range) | theirs, median (range) | ratio of medians | to reach |")
    print("| --- | --- | --- | --- | --- |")

    def shown(bench: str, system: str, key: str) -> str:
        values = runs.values(bench, system, key)
        form = (lambda v: f"{v:.4f}") if key == "utilisation" else (lambda v: f"{v:,.0f}")
        return f"{form(statistics.median(values))} ({form(min(values))}-{form(max(values))})"

    pairs = PAIRS + [("noop", "spnas-interval", name, "trials_per_s", f"trials/s, {name}", None) for name in extra]
    for bench, ours, theirs, key, name, bar in pairs:
        if not runs.values(bench, ours, key) or not runs.values(bench, theirs, key):
            continue
        ratio = runs.median(bench, ours, key) / runs.median(bench, theirs, key)
        cells = [name, f"{shown(bench, ours, key)} `{ours}`", f"{shown(bench, theirs, key)} `{theirs}`"]
        print("| " + " | ".join([*cells, f"{ratio:.3g}", f">= {bar}" if bar else ""]) + " |")
    print()
    alone = [
        ("rule", "spnas", "reports_per_s", "ASHA's rule alone, reports/s", ">= 100,000"),
        ("rule", "spnas", "median_us", "ASHA's rule alone, median microseconds", "<= 100"),
        ("reports", "spnas-interval", "median_us", "worker to verdict, median microseconds", ""),
        ("reports", "spnas-full", "median_us", "worker to verdict, flushed, median microseconds", ""),
        ("utilisation", "spnas-full", "share_of_ideal", "share of ideal, 8 threads, flushed", ">= 0.995"),
        ("devices", "spnas-full", "share_of_ideal", "share of ideal, 1,024 simulated devices", ">= 0.995"),
        ("resume", "spnas-interval", "seconds", "resume of 100,000 trials, seconds", "<= 2"),
    ]
    print("| ours | median | to reach |")
    print("| --- | --- | --- |")
    for bench, system, key, name, bar in alone:
        value = runs.median(bench, system, key)
        if value is not None:
            print(f"| {name} | {value:,.4g} | {bar} |")
    for line in runs.lines:
        if line["bench"] == "growth":
            name = f"trials {line['from']:,} to {line['trials']:,}"
            cost = f"{line['us_per_trial']:.1f} us, processor {line['processor_us_per_trial']:.1f} us"
            print(f"| {name} | {cost}, {line['bytes_per_trial']:,} bytes a trial | flat; <= 1,024 bytes |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="noop, reports, utilisation, devices, rule or growth")
    parser.add_argument("--with", dest="extra", default="", help="optional peers: ray, syne")
    parser.add_argument("--growth-trials", type=int, default=100_000)
    parser.add_argument("--list", type=int, default=2000, help="how many durations the list has")
    parser.add_argument("--engine", help="the benchmark's program, where it is built already")
    args = parser.parse_args()
    folder = target() / "peers"
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    ours = args.engine or engine()
    optuna = [python_of("optuna"), str(HERE / "optuna_peer.py")]
    extra = [name for name in args.extra.split(",") if name]
    listed = folder / "durations.json"
    listed.write_text(json.dumps(durations(args.list, 0)))
    runs = Runs(folder / "results.jsonl")
    place = ["--folder", str(folder / "tmp")]

    def wanted(bench: str) -> bool:
        return args.only in (None, bench)

    for number in range(args.rounds):
        seed = ["--seed", str(number)]
        for mine, theirs, many, few in (("full", "journal", 20_000, 600), ("interval", "memory", 40_000, 3_000)):
            if wanted("noop"):
                runs.run(ours, "noop", "--journal", mine, "--trials", str(many), *seed, *place)
                runs.run(*optuna, "noop", "--storage", theirs, "--trials", str(few), *seed, *place)
            if wanted("reports"):
                trials = str(few if mine == "interval" else few // 2)
                runs.run(ours, "reports", "--journal", mine, "--trials", "4000", *seed, *place)
                runs.run(*optuna, "reports", "--storage", theirs, "--trials", trials, *seed, *place)
        for peer in extra:
            if wanted("noop"):
                runs.run(python_of(peer), str(HERE / "other_peers.py"), peer, *place)
        if wanted("rule"):
            runs.run(ours, "rule", *seed)
        if wanted("devices"):
            runs.run(ours, "devices", "--devices", "1024", "--trials", "40000", *seed)
    for mine, theirs in (("full", "journal"), ("interval", "memory")):
        if wanted("utilisation"):
            runs.run(ours, "utilisation", "--journal", mine, "--durations", str(listed), *place)
            runs.run(*optuna, "utilisation", "--storage", theirs, "--durations", str(listed), *place)
    if wanted("growth"):
        runs.run(ours, "growth", "--journal", "interval", "--trials", str(args.growth_trials), *place)
    table(runs, extra)


if __name__ == "__main__":
    main()
