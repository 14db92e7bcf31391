"""Which setting helps a network that overfits, on small parts of the development tables.

    pip install -e '.[development]'
    python -m benchmarks.overfitting_cures [--seeds 2] [--rows 300]

trains an MLP of two layers on few rows of each table. Where the doctor says `overfitting`, the same
run is trained with each cure. Their kept weights are compared on validation rows, which are the
rest of the table, so that chance decides little. The order of the doctor's advice was chosen by
the tables that choose; the others report.
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pandas as pd

from benchmarks.development_sets import SETS, DevelopmentSet
from benchmarks.doctor_cases import findings_of, merged
from pipeline.base.findings import Findings
from pipeline.doctor.diagnosis import diagnose
from pipeline.doctor.evidence import Evidence

OVERFIT = (
    *("model=mlp", "model.norm=none", "model.hidden=[128,128]", "optimizer=adam"),
    *("optimizer.lr=0.003", "scheduler=none", "trainer.max_epochs=60", "baselines=[naive]"),
)
Cure = tuple[str, ...]
CURES: Sequence[Cure] = (
    ("model.dropout=0.3",),
    ("model.dropout=0.5",),
    ("optimizer.weight_decay=0.01",),
    ("optimizer.weight_decay=0.001",),
    ("optimizer=adamw", "optimizer.lr=0.003", "optimizer.weight_decay=0.3"),
    ("trainer.max_epochs=15",),
    ("model.hidden=[32]",),
    ("model.hidden=[32]", "model.dropout=0.3"),
)
#: Most rows that validate.
MOST_VALIDATED = 1_500
#: Difference of accuracy or R² that counts.
CLEAR = 0.01


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a cure did to a run that overfits.

    Args:
        chooses: Whether the table is of the half on which the order of the cures was chosen.
        gain: Accuracy or R² of the validation rows with the cure, minus that without it.
        is_cured: Whether the doctor does not say `overfitting` any more.
    """

    chooses: bool
    gain: float
    is_cured: bool


def write_parts(table: DevelopmentSet, seed: int, rows: int) -> list[str]:
    """Write rows that train and rows that validate; return the words that name them."""
    frame = table.frame().sample(frac=1, random_state=seed)
    paths = {}
    parts = {"train": frame[:rows], "validation": frame[rows : rows + MOST_VALIDATED]}
    for part, part_frame in parts.items():
        paths[part] = Path(f"{table.name}-{seed}-{part}.csv")
        pd.DataFrame(part_frame).to_csv(paths[part], index=False)
    words = table.words(paths["train"])
    return [*words, f"data.validation_path={paths['validation']}", "data.test=0.1"]


def is_overfit(findings: Findings) -> bool:
    """Return whether the doctor says so."""
    return "overfitting" in diagnose(findings).names.split(", ")


def outcomes_of(table: DevelopmentSet, seed: int, rows: int) -> Mapping[Cure, Outcome]:
    """Return what each cure does; nothing if the run does not overfit."""
    words = merged(OVERFIT, write_parts(table, seed, rows))
    sick = findings_of(words, seed=seed, folder=Path())
    error = Evidence(sick).error("validation")
    if not is_overfit(sick) or error is None:
        return {}
    outcomes: dict[Cure, Outcome] = {}
    for cure in CURES:
        cured = findings_of(merged(words, cure), seed=seed, folder=Path())
        cured_error = Evidence(cured).error("validation")
        if cured_error is not None:
            gain = error - cured_error
            outcomes[cure] = Outcome(table.chooses, gain, not is_overfit(cured))
    return outcomes


def print_cure(cure: Cure, outcomes: Sequence[Outcome]) -> None:
    """Print a line on a cure."""
    gains = [outcome.gain for outcome in outcomes]
    better = sum(gain > CLEAR for gain in gains)
    worse = sum(gain < -CLEAR for gain in gains)
    cured = sum(outcome.is_cured for outcome in outcomes)
    print(
        f"{' '.join(cure):<66} {better:>3} better {worse:>3} worse of {len(gains):>3}   "
        f"mean {100 * mean(gains):+5.1f}, worst {100 * min(gains):+6.1f} points   cured {cured:>3}"
    )


def main() -> None:
    """Print what each cure does on the tables that choose, on the others and on all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=300)
    arguments = parser.parse_args()
    by_cure: dict[Cure, list[Outcome]] = {cure: [] for cure in CURES}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for table in SETS:
            if table.is_series:
                continue
            for seed in range(arguments.seeds):
                outcomes = outcomes_of(table, seed, arguments.rows)
                print(f"{table.name} {seed}: {'overfits' if outcomes else 'does not'}", flush=True)
                for cure, outcome in outcomes.items():
                    by_cure[cure].append(outcome)
    halves = {"tables that choose": (True,), "tables that report": (False,), "all": (True, False)}
    for name, chosen in halves.items():
        print(name)
        for cure, all_outcomes in by_cure.items():
            outcomes_of_half = [one for one in all_outcomes if one.chooses in chosen]
            if outcomes_of_half:
                print_cure(cure, outcomes_of_half)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PIPELINE_PICTURES"] = "0"
    main()
