"""Search quality beside Optuna: the same problems, seeds, numbers of trials and trial durations for both.

The problems and the measure are those of `actors/benches/quality`: Optuna's objective function asks that program for the
costs, and its trials are measured by it, so that nothing is defined twice. For each problem, sampler, number of
workers and seed one line of `results.jsonl`; what is there already is not run again, so that a run can be cut off and
gone on with. Then `table.md` (mean and 95 % confidence interval, Student's t, over the seeds) and `hypervolume.svg`.

    python3 -m venv venv && venv/bin/pip install optuna==5.0.0
    venv/bin/python benches/quality/run.py --tables FOLDER --out FOLDER

`--tables` is the folder with the public tables (see `actors/benches/quality/tables.rs` for what and from where); without
it only the synthetic problems are run. `--seeds`, `--problems`, `--samplers`, `--workers` choose a part.
`--report` only writes the table and the plot anew.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import pathlib
import subprocess
import sys
import time
import warnings

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SPNAS = ["random", "aging_evolution", "nsga2", "local_search", "forest", "tpe"]
OPTUNA = ["optuna-random", "optuna-nsga2-20", "optuna-nsga2-50", "optuna-tpe"]
PROBLEMS = ["spnas", "zdt1d", "dtlz2d"]
TABLES = [
    "nb201-c10-1080ti", "nb201-c100-params", "nb201-in16-eyeriss-fpga", "nb-macro-flops",
    "nb201-c10-e12-test", "nb201-c10-val", "nb201-c100-val",
]
# Two-sided 95 % points of Student's t by degrees of freedom.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228,
     11: 2.201, 12: 2.179, 13: 2.160, 14: 2.145, 15: 2.131, 16: 2.120, 17: 2.110, 18: 2.101, 19: 2.093}


class Server:
    """The problems, as the benchmark program answers for them."""

    def __init__(self, program: list[str], tables: str | None):
        extra = ["--tables", tables] if tables else []
        self.process = subprocess.Popen([*program, "--serve", *extra], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, **request):
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def build() -> list[str]:
    """The benchmark program, built."""
    command = ["cargo", "bench", "-p", "spnas-actors", "--bench", "quality", "--no-run", "--message-format=json"]
    built = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    found = [json.loads(line).get("executable") for line in built.stdout.splitlines()]
    return [next(path for path in found if path)]


def optuna_sampler(name: str, seed: int):
    import optuna

    if name == "optuna-random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "optuna-tpe":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=int(name.rsplit("-", 1)[1]))


def optuna_search(server: Server, problem: str, name: str, workers: int, seed: int) -> dict:
    """One study with so many trials open at once, told in the order in which they finish."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    described = server(describe=problem)
    durations = server(durations=seed)
    study = optuna.create_study(directions=["minimize"] * described["costs"], sampler=optuna_sampler(name, seed))
    running, finished, now, asked = [], [], 0.0, 0
    begin = time.perf_counter()
    while asked < len(durations) or running:
        while len(running) < workers and asked < len(durations):
            trial = study.ask()
            genes = [
                trial.suggest_int(f"g{place}", 0, levels - 1)
                if ordered
                else trial.suggest_categorical(f"g{place}", list(range(levels)))
                for place, (levels, ordered) in enumerate(described["genes"])
            ]
            heapq.heappush(running, (now + durations[asked], asked, trial, genes))
            asked += 1
        now, _, trial, genes = heapq.heappop(running)
        study.tell(trial, server(problem=problem, genes=genes)["costs"])
        finished.append(genes)
    seconds = time.perf_counter() - begin
    measured = server(problem=problem, trials=finished)["measure"]
    return {
        "system": "optuna", "problem": problem, "sampler": name, "workers": workers, "seed": seed,
        "measure": measured, "trials": len(finished), "distinct": len(set(map(tuple, finished))), "seconds": seconds,
    }


def place(line: dict) -> tuple:
    return line["problem"], line["sampler"], line["workers"], line["seed"]


def read(results: pathlib.Path) -> dict:
    lines = results.read_text().splitlines() if results.exists() else []
    return {place(line): line for line in map(json.loads, lines)}


def run(arguments, results: pathlib.Path) -> None:
    """What of the chosen searches is not among the results yet; seed by seed, so that a part is a fair part."""
    program = [arguments.program] if arguments.program else build()
    server = Server(program, arguments.tables)
    done = read(results)
    own = [sampler for sampler in arguments.samplers if not sampler.startswith("optuna")]
    with results.open("a") as out:
        for problem in arguments.problems:
            for sampler in own:
                wanted = [(problem, sampler, w, s) for w in arguments.workers for s in range(arguments.seeds)]
                if all(key in done for key in wanted):
                    continue
                command = [*program, "--json", "--problems", problem, "--samplers", sampler]
                command += ["--seeds", str(arguments.seeds), "--workers", ",".join(map(str, arguments.workers))]
                command += ["--tables", arguments.tables] if arguments.tables else []
                for line in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
                    if place(json.loads(line)) not in done:
                        out.write(line + "\n")
                out.flush()
        for seed in range(arguments.seeds):
            for sampler in [sampler for sampler in arguments.samplers if sampler.startswith("optuna")]:
                for problem in arguments.problems:
                    for workers in arguments.workers:
                        if (problem, sampler, workers, seed) not in done:
                            line = optuna_search(server, problem, sampler, workers, seed)
                            out.write(json.dumps(line) + "\n")
                            out.flush()


def summarise(values: list[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % confidence interval."""
    mean, n = sum(values) / len(values), len(values)
    if n < 2:
        return mean, math.nan
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    return mean, T.get(n - 1, 1.96) * deviation / math.sqrt(n)


def summary(done: dict) -> dict:
    """By problem and workers, by sampler: seeds, distinct candidates, milliseconds a trial, and by checkpoint the mean."""
    groups: dict = {}
    for (problem, sampler, workers, _), line in done.items():
        groups.setdefault((problem, workers), {}).setdefault(sampler, []).append(line)
    return {
        group: {
            sampler: {
                "seeds": len(lines),
                "distinct": sum(line["distinct"] for line in lines) / len(lines),
                "trials": sum(line["trials"] for line in lines) / len(lines),
                "ms": 1e3 * sum(line["seconds"] for line in lines) / sum(line["trials"] for line in lines),
                "at": {at: summarise([line["measure"][at] for line in lines]) for at in lines[0]["measure"]},
            }
            for sampler, lines in samplers.items()
        }
        for group, samplers in groups.items()
    }


def at_once(workers: int) -> str:
    return "one after another" if workers == 1 else f"{workers} at once"


def table(groups: dict) -> str:
    out = [
        "Share of the best possible hypervolume (problems `*-val`: validation accuracy of the best found;",
        "`*-e12-test`: test accuracy after 200 epochs of the best by validation after 12), mean ± 95 % confidence",
        "interval over the seeds. Bold: the best mean and all whose interval reaches it.",
    ]
    order = [*PROBLEMS, *TABLES]
    for problem, workers in sorted(groups, key=lambda group: (order.index(group[0]), group[1])):
        samplers = groups[problem, workers]
        known = [sampler for sampler in [*SPNAS, *OPTUNA] if sampler in samplers]
        checkpoints = sorted(samplers[known[0]]["at"], key=int)
        out += ["", f"### {problem}, {at_once(workers)}", ""]
        out += ["| sampler | " + " | ".join(checkpoints) + " | distinct | seeds | ms a trial |"]
        out += ["| --- |" + " --- |" * (len(checkpoints) + 3)]
        best = {at: max(samplers[sampler]["at"][at][0] for sampler in known) for at in checkpoints}
        for sampler in known:
            of, cells = samplers[sampler], []
            for at in checkpoints:
                mean, half = of["at"][at]
                cell = f"{mean:.4f} ± {half:.4f}" if half == half else f"{mean:.4f}"
                cells.append(f"**{cell}**" if mean + (half if half == half else 0) >= best[at] else cell)
            distinct = f"{of['distinct']:.0f} of {of['trials']:.0f}"
            out.append(f"| {sampler} | {' | '.join(cells)} | {distinct} | {of['seeds']} | {of['ms']:.2f} |")
    return "\n".join(out) + "\n"


COLOURS = {
    "random": "#9e9e9e", "aging_evolution": "#e69f00", "nsga2": "#0072b2", "local_search": "#009e73", "forest": "#d55e00", "tpe": "#6a3d9a",
    "optuna-random": "#c7c7c7", "optuna-nsga2-20": "#56b4e9", "optuna-nsga2-50": "#8fcbee", "optuna-tpe": "#cc79a7",
}


def plot(groups: dict) -> str:
    """One panel a problem and number of workers: the mean at each checkpoint with its interval; Optuna dashed."""
    order = [*PROBLEMS, *TABLES]
    panels = sorted(groups, key=lambda group: (order.index(group[0]), group[1]))
    width, height, columns = 360, 250, 2
    rows = -(-len(panels) // columns)
    total = rows * height + 60
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * width} {total}" font-family="sans-serif" font-size="10">']
    out.append(f'<rect width="{columns * width}" height="{total}" fill="#fff"/>')
    for number, (problem, workers) in enumerate(panels):
        samplers = groups[problem, workers]
        left, top = number % columns * width + 48, number // columns * height + 24
        wide, high = width - 64, height - 58
        every = [value for of in samplers.values() for value in of["at"].values()]
        low = min(mean - (half if half == half else 0) for mean, half in every)
        top_value = max(mean + (half if half == half else 0) for mean, half in every)
        spread = (top_value - low) or 1.0
        checkpoints = sorted(next(iter(samplers.values()))["at"], key=int)
        x = {at: left + wide * (0.08 + 0.84 * place / (len(checkpoints) - 1)) for place, at in enumerate(checkpoints)}
        y = lambda value: top + high * (1 - (value - low) / spread)
        out.append(f'<text x="{left}" y="{top - 8}" font-size="12">{problem}, {at_once(workers)}</text>')
        out.append(f'<rect x="{left}" y="{top}" width="{wide}" height="{high}" fill="none" stroke="#bbb"/>')
        for part in range(5):
            value = low + spread * part / 4
            out.append(f'<text x="{left - 4}" y="{y(value) + 3:.1f}" text-anchor="end">{value:.3f}</text>')
        for at in checkpoints:
            out.append(f'<text x="{x[at]:.1f}" y="{top + high + 13}" text-anchor="middle">{at}</text>')
        for place_of, (sampler, of) in enumerate(sorted(samplers.items())):
            colour = COLOURS.get(sampler, "#000")
            dash = ' stroke-dasharray="5 3"' if sampler.startswith("optuna") else ""
            shift = (place_of - len(samplers) / 2) * 2
            points = " ".join(f"{x[at] + shift:.1f},{y(of['at'][at][0]):.1f}" for at in checkpoints)
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')
            for at in checkpoints:
                mean, half = of["at"][at]
                if half == half:
                    across = x[at] + shift
                    out.append(f'<line x1="{across:.1f}" x2="{across:.1f}" y1="{y(mean - half):.1f}" y2="{y(mean + half):.1f}" stroke="{colour}"/>')
    shown = {sampler for samplers in groups.values() for sampler in samplers}
    legend = [(sampler, colour) for sampler, colour in COLOURS.items() if sampler in shown]
    for number, (sampler, colour) in enumerate(legend):
        across, down = 20 + number % 5 * 140, rows * height + 16 + number // 5 * 18
        dash = ' stroke-dasharray="5 3"' if sampler.startswith("optuna") else ""
        out.append(f'<line x1="{across}" x2="{across + 24}" y1="{down}" y2="{down}" stroke="{colour}" stroke-width="2"{dash}/>')
        out.append(f'<text x="{across + 30}" y="{down + 4}">{sampler}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    split = lambda text: text.split(",")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tables")
    parser.add_argument("--program", help="the benchmark program, where it is built already")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=lambda text: [int(count) for count in text.split(",")], default=[1, 8])
    parser.add_argument("--problems", type=split)
    parser.add_argument("--samplers", type=split, default=[*SPNAS, *OPTUNA])
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    arguments.problems = arguments.problems or [*PROBLEMS, *(TABLES if arguments.tables else [])]
    warnings.filterwarnings("ignore")
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = arguments.out / "results.jsonl"
    if not arguments.report:
        run(arguments, results)
    groups = summary(read(results))
    (arguments.out / "table.md").write_text(table(groups))
    (arguments.out / "hypervolume.svg").write_text(plot(groups))
    print(table(groups))
    return 0


if __name__ == "__main__":
    sys.exit(main())
