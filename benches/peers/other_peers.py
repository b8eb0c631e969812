"""Trials that return at once on Ray Tune and on Syne Tune's simulator: optional peers, one JSON line a run.

    python other_peers.py ray --trials 100
    python other_peers.py syne --trials 2000

Ray starts a process for each actor, so its figure is that of a system of many machines, not of one process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import tempfile
import time


def ray(trials: int, workers: int, folder: str) -> float:
    """A class trainable whose actors are used again: the quicker of Ray's two ways."""
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray as framework
    from ray import tune

    class Nothing(tune.Trainable):
        def setup(self, config):
            self.config = config

        def reset_config(self, config):
            self.config = config
            return True

        def step(self):
            return {"loss": self.config["x"], "done": True}

        def save_checkpoint(self, checkpoint_dir):
            return None

        def load_checkpoint(self, checkpoint):
            pass

    framework.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    tuner = tune.Tuner(
        Nothing,
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    )
    begun = time.perf_counter()
    done = len(tuner.fit())
    seconds = time.perf_counter() - begun
    framework.shutdown()
    return done / seconds


def syne(trials: int, workers: int, folder: str) -> float:
    """Its simulator in one process, every delay at zero."""
    os.environ["SYNETUNE_FOLDER"] = folder
    import pandas as pd
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend.simulator_backend.simulator_backend import SimulatorConfig
    from syne_tune.backend.simulator_backend.simulator_callback import SimulatorCallback
    from syne_tune.blackbox_repository import UserBlackboxBackend
    from syne_tune.blackbox_repository.blackbox_tabular import BlackboxTabular
    from syne_tune.config_space import randint
    from syne_tune.optimizer.baselines import RandomSearch
    import numpy as np

    logging.getLogger().setLevel(logging.ERROR)
    count = max(4 * trials, 16)
    space = {"x": randint(0, count - 1)}
    table = np.zeros((count, 1, 1, 2))
    table[..., 0] = np.arange(count)[:, None, None]
    table[..., 1] = 1.0
    blackbox = BlackboxTabular(
        hyperparameters=pd.DataFrame({"x": range(count)}), configuration_space=space,
        fidelity_space={"epoch": randint(1, 1)}, objectives_evaluations=table, objectives_names=["loss", "elapsed"],
    )
    backend = UserBlackboxBackend(
        blackbox, elapsed_time_attr="elapsed", simulator_config=SimulatorConfig(0, 0, 0, 0, 0), tuner_sleep_time=1.0,
    )
    tuner = Tuner(
        trial_backend=backend, scheduler=RandomSearch(space, metrics=["loss"], random_seed=0),
        stop_criterion=StoppingCriterion(max_num_trials_finished=trials), n_workers=workers, sleep_time=0,
        callbacks=[SimulatorCallback()], save_tuner=False,
    )
    begun = time.perf_counter()
    tuner.run()
    return tuner.tuning_status.num_trials_finished / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=("ray", "syne"))
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--folder")
    args = parser.parse_args()
    run = {"ray": ray, "syne": syne}[args.system]
    with tempfile.TemporaryDirectory(prefix="peer-", dir=args.folder) as folder:
        with contextlib.redirect_stdout(sys.stderr):
            rate = run(args.trials, args.workers, folder)
    line = {"bench": "noop", "system": args.system, "workers": args.workers, "trials": args.trials}
    print(json.dumps({**line, "trials_per_s": rate}), flush=True)


if __name__ == "__main__":
    main()
