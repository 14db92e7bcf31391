"""How often the first advice of the doctor, typed as it is printed, cures a sick run.

    python -m benchmarks.doctor_cures [--seeds 0 1 2] [--kinds original|seen|unseen|fresh]
                                      [--only KIND …] [--keep FOLDER]

Each seed draws 8 cases of each kind of sickness: a table, a healthy run and the same run made sick.
A case is cured if the test score of the sick run with the first advice is at least that of the
healthy twin less `TOLERANCE` (of a leak, no further from it on either side). Random labels have
no twin: they count as cured if nothing is offered. A run that its fault did not harm is left out.
A fault is named if one of its `VERDICTS` is told of the sick run; most have a single one. The
healthy twins count the alarms; one was right if what it says to try makes the twin better by
`BETTER`, or if the baseline that it says to use is better by that.

The rules of the doctor were changed on the seeds 0, 1, 101 to 103, 201 to 203 and 301 to 303. Those
seeds are of the original kinds; of the further ones (`more_sick_kinds`), half were looked at when
rules changed (`seen`) and half were not (`unseen`) until those rules were thought to be final. The
`fresh` ones (`fresh_sick_kinds`) came after that.
`--keep` works as in `benchmarks.doctor_cases`.
"""

import argparse
import contextlib
import csv
import math
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np

from benchmarks import fresh_sick_kinds, more_sick_kinds
from benchmarks.doctor_cases import findings_of, merged
from benchmarks.more_sick_kinds import is_unseen
from benchmarks.sick_runs import Case, Draw, Table, into_classes, mlp, power, teacher
from pipeline.base.findings import Findings
from pipeline.doctor.diagnosis import HEALTHY, diagnose

#: Cases of a kind for each seed.
CASES = 8
#: Accuracy, R², or recall of the rare class that a cured run may lack.
TOLERANCE = 0.05
#: Gain of a healthy twin by the advice of an alarm that was right.
BETTER = 0.01


# ── kinds of sickness ─────────────────────────────────────────────────────────────────────────


def xor_by_a_line(draw: Draw) -> Case:
    """The sign of a product of two columns, and a linear network."""
    rows, columns = int(draw.integers(400, 1600)), int(draw.integers(2, 5))
    inputs = draw.uniform(-1, 1, size=(rows, columns))
    product = inputs[:, 0] * inputs[:, 1] + 0.03 * draw.normal(size=rows)
    base = f"{mlp(draw, hidden='[64]', epochs=40)} optimizer.lr=0.01"
    return Case(Table(inputs, into_classes(product, 2)), base, "model.hidden=[]")


def cosine_by_a_line(draw: Draw) -> Case:
    """A cosine of one column, and a linear network."""
    rows, columns = int(draw.integers(400, 1200)), int(draw.integers(1, 4))
    inputs = draw.uniform(-1, 1, size=(rows, columns))
    waves = np.cos(draw.uniform(3, 5) * inputs[:, 0]) + 0.1 * draw.normal(size=rows)
    classes = int(draw.choice([0, 2]))
    table = Table(inputs, into_classes(waves, 2) if classes else waves)
    return Case(
        table, f"{mlp(draw, hidden='[64]', epochs=60)} optimizer.lr=0.01", "model.hidden=[]"
    )


def leak(draw: Draw) -> Case:
    """One column that tells the target, as another unit or a code."""
    inputs, targets, _ = teacher(draw, columns=int(draw.integers(5, 10)))
    told = targets if targets.dtype.kind == "f" else np.unique(targets, return_inverse=True)[1]
    inputs[:, 0] = draw.uniform(0.5, 3) * told + 0.02 * draw.normal(size=len(told))
    return Case(Table(inputs, targets), mlp(draw), healthy="data.drop=[x0]", is_leak=True)


def leak_over_two_columns(draw: Draw) -> Case:
    """Two columns that tell the target together: their difference, or each of them."""
    inputs, targets, _ = teacher(draw, columns=int(draw.integers(6, 10)))
    told = targets if targets.dtype.kind == "f" else np.unique(targets, return_inverse=True)[1]
    share = draw.normal(size=len(told)) if draw.random() < 0.5 else None
    inputs[:, 0], inputs[:, 1] = (told, told) if share is None else (told + share, share)
    inputs[:, :2] += 0.01 * draw.normal(size=(len(told), 2))
    return Case(Table(inputs, targets), mlp(draw), healthy="data.drop=[x0,x1]", is_leak=True)


def random_labels(draw: Draw) -> Case:
    """Columns that say nothing of the target."""
    inputs, targets, _ = teacher(draw, rows=int(draw.integers(800, 1500)))
    return Case(Table(inputs, draw.permutation(targets)), mlp(draw), healthy=None)


def random_labels_twice(draw: Draw) -> Case:
    """Random labels of rows that occur several times, so that test rows also train."""
    inputs, targets, _ = teacher(draw, rows=int(draw.integers(150, 300)))
    copies = np.tile(np.arange(len(targets)), int(draw.integers(3, 6)))
    table = Table(inputs[copies], draw.permutation(targets)[copies])
    return Case(table, mlp(draw, hidden="[64,64]", epochs=60), healthy=None)


def huge_rate(draw: Draw) -> Case:
    """Plain gradient descent with a rate of 100 to a million."""
    base = mlp(draw, optimizer="sgd")
    return Case(teacher(draw), base, f"optimizer.lr={float(power(draw, 2, 6)):g}")


def high_rate(draw: Draw) -> Case:
    """A rate that is some hundred times too high."""
    optimizer = str(draw.choice(["adam", "rmsprop", "sgd"]))
    low = 0.7 if optimizer == "sgd" else 0.0
    base = mlp(draw, optimizer=optimizer, hidden=str(draw.choice(["[32,16]", "[64,64,32]"])))
    return Case(teacher(draw), base, f"optimizer.lr={power(draw, low, low + 1)}")


def low_rate(draw: Draw) -> Case:
    """A rate that is a hundred to ten thousand times too low."""
    return Case(teacher(draw), mlp(draw), f"optimizer.lr={power(draw, -7, -5)}")


def few_epochs(draw: Draw) -> Case:
    """A training that ends while the loss still falls fast."""
    optimizer = str(draw.choice(["adam", "sgd"]))
    rate = "0.001" if optimizer == "adam" else "0.01 optimizer.momentum=0.0"
    base = f"{mlp(draw, optimizer=optimizer, epochs=40)} optimizer.lr={rate} scheduler=none"
    return Case(teacher(draw), base, f"trainer.max_epochs={draw.integers(3, 8)}")


def learned_by_heart(draw: Draw) -> Case:
    """Few rows with much noise, a large network, and the weights of the last of many epochs."""
    table = _noisy(draw, rows=int(draw.integers(500, 700)))
    base = f"{mlp(draw, hidden='[16]', epochs=25)} optimizer.weight_decay=0.01"
    return Case(table, base, _BY_HEART)


def _noisy(draw: Draw, *, rows: int) -> Table:
    """A number that bends with a column, and of which noise is about a fifth."""
    inputs, values, _ = teacher(draw, rows=rows, classes=0, noise=draw.uniform(0.7, 1.2))
    return Table(inputs, values + draw.uniform(1.5, 2.5) * np.abs(inputs[:, 2]))


_BY_HEART = (
    "model.hidden=[128,128] optimizer.weight_decay=0.0 keep=last trainer.max_epochs=60 "
    "scheduler=none"
)


def by_heart_with_few_test_rows(draw: Draw) -> Case:
    """The same with so few test rows that the metric is noisy as well."""
    table = _noisy(draw, rows=int(draw.integers(500, 700)))
    base = f"{mlp(draw, hidden='[16]', epochs=25)} optimizer.weight_decay=0.01"
    few = f"data.test={draw.uniform(0.1, 0.15):.2f}"
    return Case(table, f"{base} {few}", _BY_HEART, right="noisy_metrics")


def raw_columns(draw: Draw) -> Case:
    """Columns in units that differ by orders of magnitude, and no scaling."""
    inputs, targets, _ = teacher(draw, classes=int(draw.choice([2, 3])))
    units = 10 ** draw.uniform(0, 5, size=inputs.shape[1])
    table = Table(inputs * units + units * draw.uniform(0, 3), targets)
    activation = draw.choice(["relu", "tanh"])
    return Case(table, f"{mlp(draw)} model.activation={activation}", "data.scale=none")


def rare_class(draw: Draw) -> Case:
    """A class of 4 to 8 % that is never predicted."""
    rows, columns = int(draw.integers(3500, 4500)), int(draw.integers(4, 10))
    are_rare = draw.random(rows) < draw.uniform(0.04, 0.08)
    inputs = draw.normal(size=(rows, columns)) + are_rare[:, None] * draw.uniform(0.35, 0.5)
    table, base = Table(inputs, np.where(are_rare, "yes", "no")), mlp(draw, epochs=10)
    balanced = "loss.class_weights=balanced"
    return Case(table, f"{base} data.test=0.4", healthy=balanced, score="test/recall")


def vanishing(draw: Draw) -> Case:
    """Many sigmoid layers and plain gradient descent."""
    width, layers = int(draw.choice([16, 32])), int(draw.integers(7, 11))
    deep = f"model.hidden=[{','.join([str(width)] * layers)}] model.activation=sigmoid"
    return Case(teacher(draw), mlp(draw, optimizer="sgd"), f"{deep} model.init=torch")


def exploding(draw: Draw) -> Case:
    """First weights that are several times too large, without clipping."""
    base = f"{mlp(draw, optimizer='sgd', hidden='[32,32,32,32]')} model.init=torch"
    sick = f"model.gain={draw.uniform(5, 10):.1f} trainer.gradient_clip_val=null"
    return Case(teacher(draw), base, sick)


def saturated(draw: Draw) -> Case:
    """First weights so large that tanh or sigmoid are at their bounds."""
    base = f"{mlp(draw, hidden='[32,32]')} model.activation={draw.choice(['tanh', 'sigmoid'])}"
    return Case(teacher(draw), base, f"model.init=torch model.gain={draw.uniform(20, 60):.0f}")


def tiny_threshold(draw: Draw) -> Case:
    """Clipping that leaves a thousandth of the gradient or less."""
    sick = f"trainer.gradient_clip_val={power(draw, -6, -4)} optimizer.momentum=0.0"
    return Case(teacher(draw), f"{mlp(draw, optimizer='sgd')} optimizer.momentum=0.9", sick)


def narrow(draw: Draw) -> Case:
    """One unit for several classes along different directions."""
    classes, columns = int(draw.integers(4, 7)), int(draw.integers(6, 10))
    middles = 2.5 * draw.normal(size=(classes, columns)) / math.sqrt(2)
    kinds = draw.integers(classes, size=int(draw.integers(600, 1200)))
    inputs = middles[kinds] + draw.normal(size=(len(kinds), columns))
    table = Table(inputs, np.array([f"kind {one}" for one in kinds]))
    return Case(table, mlp(draw, hidden="[32]"), "model.hidden=[1] model.activation=tanh")


def held_down(draw: Draw) -> Case:
    """Dropout or weight decay so strong that nothing is learned."""
    decay = f"optimizer.weight_decay={draw.uniform(1, 3):.1f}"
    dropout = f"model.dropout={draw.uniform(0.9, 0.97):.2f} model.hidden=[16,16]"
    return Case(teacher(draw), mlp(draw), decay if draw.random() < 0.5 else dropout)


#: The faults, each with the verdicts that name it.
VERDICTS: Mapping[Callable[[Draw], Case], tuple[str, ...]] = {
    xor_by_a_line: ("underfitting", "no_better_than_naive"),
    cosine_by_a_line: ("underfitting", "no_better_than_naive"),
    leak: ("leakage",),
    leak_over_two_columns: ("leakage",),
    random_labels: ("no_better_than_naive",),
    random_labels_twice: ("overlap",),
    huge_rate: ("lr_too_high",),
    high_rate: ("lr_too_high",),
    low_rate: ("lr_too_low",),
    few_epochs: ("stopped_early", "too_few_steps"),
    learned_by_heart: ("overfitting",),
    by_heart_with_few_test_rows: ("overfitting",),
    raw_columns: ("saturated", "dead_relu", "exploding_gradient"),
    rare_class: ("class_collapse",),
    vanishing: ("vanishing_gradient",),
    exploding: ("exploding_gradient",),
    saturated: ("saturated",),
    tiny_threshold: ("clipping_always",),
    narrow: ("underfitting", "no_better_than_linear"),
    held_down: ("underfitting", "no_better_than_naive", "no_better_than_linear"),
}
#: The kinds on which the rules were changed, and those that came later.
ORIGINAL = {kind.__name__: kind for kind in VERDICTS}
FURTHER = {kind.__name__: kind for kind in more_sick_kinds.VERDICTS}
FRESH = {kind.__name__: kind for kind in fresh_sick_kinds.VERDICTS}
KINDS = {**ORIGINAL, **FURTHER, **FRESH}
ALL_VERDICTS = {**VERDICTS, **more_sick_kinds.VERDICTS, **fresh_sick_kinds.VERDICTS}


# ── the figures ───────────────────────────────────────────────────────────────────────────────


class Outcome(NamedTuple):
    """What became of a case.

    Args:
        end: `cured`, `not cured` or `not sick`.
        is_named: Whether a verdict that names the fault is told of the sick run.
        is_harmed: Whether the first advice made the test score worse by more than the tolerance.
        line: First line of the doctor on the sick run.
        scores: Scores of the sick, the cured and the healthy run, in words.
        alarm: Line of the doctor on the healthy twin; empty = none, `None` = there is no twin.
        is_right: Whether what it says to try or to use makes the twin better.
    """

    end: str
    is_named: bool
    is_harmed: bool
    line: str
    scores: str = ""
    alarm: str | None = None
    is_right: bool = False


def advice_of(line: str) -> list[str]:
    """Return the overrides that a printed line of the doctor offers."""
    _, _, offered = line.rpartition("; try ")
    words = shlex.split(offered) if offered != line else []
    return [word for word in words if "=" in word]


def draw_case(kind: str, *, seed: int, number: int, folder: Path) -> tuple[Case, tuple[str, ...]]:
    """Draw a case, write its table, and return the case with the overrides of both runs."""
    case = KINDS[kind](np.random.default_rng([seed, number, crc32(kind.encode())]))
    path = folder / f"{kind}-{seed}-{number}.csv"
    table = case.table
    columns = [f"x{place}" for place in range(table.inputs.shape[1])]
    if not path.exists():
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if table.is_series:
                writer.writerow(columns)
                writer.writerows(table.inputs.tolist())
            else:
                writer.writerow([*columns, "target"])
                for row, target in zip(table.inputs.tolist(), table.targets.tolist(), strict=True):
                    writer.writerow([*row, target])
    data = "series" if table.is_series else "table"
    return case, merged((f"data={data}", f"data.path={path}"), case.base.split())


def outcome(kind: str, *, seed: int, number: int, folder: Path) -> Outcome:
    """Train the sick run, its healthy twin, and the sick run with the first advice."""
    case, words = draw_case(kind, seed=seed, number=number, folder=folder)

    def trained(*more: str) -> Findings:
        return findings_of(merged(words, more), seed=seed, folder=folder)

    def score(findings: Findings) -> float:
        return findings.metrics.get(case.metric, -math.inf)

    sick_words = case.sick.split()
    sick = trained(*sick_words)
    diagnosis = diagnose(sick)
    line = diagnosis.lines()[0]
    names = set(diagnosis.names.split(", "))
    is_named = not names.isdisjoint(ALL_VERDICTS[KINDS[kind]])
    advice = next(iter(advice_of(line)), "")
    before = score(sick)
    after = -math.inf
    is_harmed = False
    if advice:
        after = score(trained(*sick_words, advice))
        is_harmed = after < before - TOLERANCE
    if case.healthy is None:
        end = "not cured" if advice or HEALTHY in line else "cured"
        return Outcome(end, is_named, is_harmed, line)
    twin = trained(*case.healthy.split())
    target = score(twin)

    def is_well(value: float) -> bool:
        return value >= target - TOLERANCE and (not case.is_leak or value <= target + TOLERANCE)

    end = "not cured"
    if is_well(before):
        end = "not sick"
    elif is_well(after):
        end = "cured"
    scores = f"{before:.2f} → {after:.2f}, healthy {target:.2f}"
    twin_diagnosis = diagnose(twin)
    alarm = ""
    is_right = False
    if twin_diagnosis.names not in (HEALTHY, case.right):
        alarm = twin_diagnosis.lines()[0]
        tried = [score(trained(*case.healthy.split(), advice)) for advice in advice_of(alarm)]
        best = max([*tried, _score_of_advised_baseline(alarm, twin, case)])
        is_right = best > target + BETTER
        alarm += f"; {target:.2f} → {best:.2f}"
    # A column that tells the target is better than the truth, so a lower score is no harm.
    return Outcome(end, is_named, is_harmed and not case.is_leak, line, scores, alarm, is_right)


def _score_of_advised_baseline(line: str, findings: Findings, case: Case) -> float:
    """Return the test score of the baseline that a line of the doctor says to use."""
    for baseline, name in findings.baselines.items():
        if line.endswith(f"use {name}"):
            return findings.metrics.get(case.metric.replace("test/", f"{baseline}/"), -math.inf)
    return -math.inf


def outcomes(kind: str, seeds: Sequence[int], folder: Path) -> Iterator[Outcome]:
    """Return what became of all cases of a kind, and print each that is not cured."""
    for seed in seeds:
        for number in range(CASES):
            result = outcome(kind, seed=seed, number=number, folder=folder)
            if result.end != "cured" or not result.is_named:
                case = f"{seed}.{number}  {'' if result.is_named else 'not named  '}{result.scores}"
                print(f"  {result.end:9} {case}  {result.line}", flush=True)
            if result.alarm:
                print(f"  alarm     {seed}.{number}  {result.alarm}", flush=True)
            yield result


def main() -> None:
    """Print the shares of named, cured and harmed runs, of each kind and in all, and of alarms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--kinds", choices=GROUPS, default="original")
    parser.add_argument("--only", nargs="*", choices=KINDS, default=[])
    parser.add_argument("--keep", type=Path, default=None)
    arguments = parser.parse_args()
    results: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(arguments.keep or folder):
        for kind in arguments.only or GROUPS[arguments.kinds]():
            of_kind = list(outcomes(kind, arguments.seeds, Path()))
            print(f"{kind:28} {_shares(of_kind)}", flush=True)
            results += of_kind
    alarms = [result.alarm for result in results if result.alarm is not None]
    right = sum(result.is_right for result in results)
    print(
        f"{_shares(results)}, alarms on {sum(map(bool, alarms))} of {len(alarms)} twins, "
        f"{right} of which the advice made better"
    )


def _shares(results: Sequence[Outcome]) -> str:
    sick = [result for result in results if result.end != "not sick"]
    named = sum(result.is_named for result in sick)
    cured = sum(result.end == "cured" for result in sick)
    harmed = sum(result.is_harmed for result in results)
    return (
        f"named {named} of {len(sick)}, cured {cured}, {len(results) - len(sick)} not sick, "
        f"{harmed} harmed by the first advice"
    )


#: Kinds by the word of `--kinds`.
GROUPS: Mapping[str, Callable[[], list[str]]] = {
    "original": lambda: list(ORIGINAL),
    "seen": lambda: [kind for kind in FURTHER if not is_unseen(kind)],
    "unseen": lambda: [kind for kind in FURTHER if is_unseen(kind)],
    "fresh": lambda: list(FRESH),
}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PIPELINE_PICTURES"] = "0"
    main()
