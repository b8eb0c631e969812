"""Optuna on the yardsticks of `actors/benches/throughput`, one JSON line a run.

    python optuna_peer.py noop --storage memory --trials 5000
    python optuna_peer.py reports --storage journal --trials 300
    python optuna_peer.py utilisation --storage memory --durations seconds.json

Eight threads (`n_jobs`) in one process and its random sampler: what compares with an engine in one process whose sampler
draws at random. `journal` is Optuna's own journal file, which flushes each operation to the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import tempfile
import threading
import time
import warnings

EPOCHS = 27
ETA = 3


def storage(kind: str, folder: str):
    """The storage of this kind, in ``folder`` where it has files."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", module="optuna")
    if kind == "memory":
        return optuna.storages.InMemoryStorage()
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    return JournalStorage(JournalFileBackend(os.path.join(folder, "journal.log")))


def study(args, folder: str, pruner=None):
    import optuna

    return optuna.create_study(
        storage=storage(args.storage, folder),
        sampler=optuna.samplers.RandomSampler(seed=args.seed),
        pruner=pruner or optuna.pruners.NopPruner(),
    )


def noop(args, folder: str) -> dict:
    """Trials that return at once."""

    def objective(trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        k = trial.suggest_int("k", 1, 8)
        return x + k + trial.suggest_categorical("c", [0, 1, 2, 3])

    search = study(args, folder)
    begun = time.perf_counter()
    search.optimize(objective, n_trials=args.trials, n_jobs=args.workers)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "trials_per_s": args.trials / seconds}


def reports(args, folder: str) -> dict:
    """Reports under asynchronous successive halving, 27 epochs at most, no work between them."""
    import optuna

    lock, waits = threading.Lock(), []

    def objective(trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        loss, own = x, []
        try:
            for epoch in range(1, EPOCHS + 1):
                loss = x + 1.0 / epoch
                begun = time.perf_counter()
                trial.report(loss, epoch)
                prune = trial.should_prune()
                own.append(time.perf_counter() - begun)
                if prune:
                    raise optuna.TrialPruned
        finally:
            with lock:
                waits.extend(own)
        return loss

    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=ETA)
    search = study(args, folder, pruner)
    begun = time.perf_counter()
    search.optimize(objective, n_trials=args.trials, n_jobs=args.workers)
    seconds = time.perf_counter() - begun
    waits.sort()
    return {
        "seconds": seconds, "reports": len(waits), "reports_per_s": len(waits) / seconds,
        "median_us": 1e6 * waits[len(waits) // 2],
    }


def utilisation(args, folder: str) -> dict:
    """Trials that sleep: the listed durations over workers times makespan."""
    durations = json.loads(pathlib.Path(args.durations).read_text())
    lock, spans = threading.Lock(), []

    def objective(trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        begun = time.perf_counter()
        time.sleep(durations[trial.number])
        with lock:
            spans.append((begun, time.perf_counter()))
        return x

    study(args, folder).optimize(objective, n_trials=len(durations), n_jobs=args.workers)
    makespan = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return {"makespan_s": makespan, "utilisation": sum(durations) / (args.workers * makespan)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench", choices=("noop", "reports", "utilisation"))
    parser.add_argument("--storage", choices=("memory", "journal"), default="memory")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--durations")
    parser.add_argument("--folder")
    args = parser.parse_args()
    bench = {"noop": noop, "reports": reports, "utilisation": utilisation}[args.bench]
    before = time.process_time()
    with tempfile.TemporaryDirectory(prefix="peer-", dir=args.folder) as folder:
        result = bench(args, folder)
    used = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    system = f"optuna-{args.storage}"
    line = {"bench": args.bench, "system": system, "workers": args.workers, "trials": args.trials}
    print(json.dumps({**line, **result, "processor_s": used, "peak_mib": peak / 1024}), flush=True)


if __name__ == "__main__":
    main()
