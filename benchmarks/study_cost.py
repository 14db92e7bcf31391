"""What a trial costs a study beside its training, as the study grows.

    python -m benchmarks.study_cost [--trials 2000]

Trials of an objective that trains nothing, over learning rate, epochs and clipping threshold, each
compared at ten rungs, in sqlite: taken, reported, ended, one after another by one process. Prints
the median wall and processor time of a trial around trial 100, 1,000 and 2,000; bound 60 ms at
2,000.
"""

import argparse
import math
import tempfile
from statistics import median
from time import perf_counter, process_time

from omegaconf import OmegaConf

from pipeline.base.ends import End, TrialEnd
from pipeline.base.processes.lease import own_lease
from pipeline.config.composer import Composer
from pipeline.config.options import SweepOptions
from pipeline.study.ledger.definition import Objective, StudyDefinition
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.rows import Row
from pipeline.study.ledger.storage import storage_url
from pipeline.study.space.space_reading import read_space
from pipeline.study.space.trial_configs import TrialConfigs

WORDS = ("sweeps=lr_epochs_clip", "sweep.name=nothing", "sweep.n_trials=100000")
SHOWN = (100, 1000, 2000)
WINDOW = 50


def open_ledger(url: str, **changed: object) -> Ledger:
    """A study of nothing in a database of its own."""
    source = Composer("sweep")
    tree = source.tree(WORDS)
    space = read_space(TrialConfigs(WORDS, None))
    sweep = OmegaConf.to_container(tree.sweep)
    assert isinstance(sweep, dict)
    definition = StudyDefinition(
        url=storage_url(url),
        name="nothing",
        options=SweepOptions(**{**{str(key): value for key, value in sweep.items()}, **changed}),
        space=space,
        base={},
        objectives=(Objective(name="val/f1", direction="max"),),
        seed=0,
    )
    return Ledger.open(definition)


def value_of(taken: Row) -> float:
    """What a trial comes to: best at a learning rate of 0.01."""
    lr = float(taken.overrides["optimizer.lr"])
    return math.exp(-((math.log10(lr) + 2) ** 2))


def one_trial(ledger: Ledger) -> None:
    """Take a trial, report ten times, end it."""
    taken = ledger.take(own_lease())
    assert taken is not None
    value = value_of(taken)
    for step in range(1, 10):
        ledger.report(taken, step=step, value=value * step / 10)
    ledger.finish(taken, TrialEnd(end=End.COMPLETE, values=(value,)))
    ledger.progress()


def main() -> None:
    """Run the trials and print a line at each of the marks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as folder:
        ledger = open_ledger(f"sqlite:///{folder}/optuna.db")
        wall: list[float] = []
        cpu: list[float] = []
        for number in range(1, trials + 1):
            started, used = perf_counter(), process_time()
            one_trial(ledger)
            wall.append(perf_counter() - started)
            cpu.append(process_time() - used)
            if number in SHOWN:
                print(
                    f"trial {number:>5}: {1000 * median(wall[-WINDOW:]):.0f} ms, of the processor "
                    f"{1000 * median(cpu[-WINDOW:]):.0f} ms",
                    flush=True,
                )
        ledger.close()


if __name__ == "__main__":
    main()
