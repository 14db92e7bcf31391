"""Thirteen kinds of sick runs that were written after the unseen half of `more_sick_kinds`.

That half has been looked at since, and rules were changed for it. These kinds were committed before
that, and are trained once the rules are final: `benchmarks.doctor_cures --kinds fresh`. Several of
the healthy twins have a target that their columns explain in part only, as most real tables do.
"""

import math
from collections.abc import Mapping

import numpy as np

from benchmarks.more_sick_kinds import Kind
from benchmarks.sick_runs import Array, Case, Draw, Table, mlp, power, series, teacher

#: A recurrent network for a forecast, without its architecture.
_RECURRENT = "model.hidden=16 model.readout=last optimizer=adam optimizer.lr=0.01"


def _oscillating(draw: Draw) -> Array:
    """A series that swings around its mean with a period of about ten steps."""
    steps = int(draw.integers(500, 900))
    values = np.zeros(steps)
    for step in range(2, steps):
        values[step] = 1.5 * values[step - 1] - 0.8 * values[step - 2] + draw.normal()
    return values


def weak_signal_and_low_rate(draw: Draw) -> Case:
    """A number of which the columns explain a sixth, and a rate that moves nothing."""
    inputs, values, _ = teacher(draw, classes=0, rows=int(draw.integers(2500, 3500)), noise=3.5)
    base = f"{mlp(draw, hidden='[8]', epochs=15)} optimizer.weight_decay=0.01"
    return Case(Table(inputs, values), base, f"optimizer.lr={power(draw, -7, -6)}")


def weak_classes_and_falling_rate(draw: Draw) -> Case:
    """Two classes that overlap widely, and a rate that falls to nothing at once."""
    table = teacher(draw, classes=2, rows=int(draw.integers(2500, 3500)), noise=2.5)
    base = f"{mlp(draw, hidden='[8]', epochs=15, schedule='none')} optimizer.lr=0.002"
    sick = f"scheduler=exponential scheduler.gamma={power(draw, -3, -2)} optimizer.lr=0.0001"
    return Case(table, base, sick)


def hasty_plateau(draw: Draw) -> Case:
    """A schedule that takes every epoch for a plateau."""
    base = f"{mlp(draw, epochs=40, schedule='none')} optimizer.lr=0.001"
    sick = "scheduler=plateau scheduler.patience=0 scheduler.threshold=0.9 scheduler.factor=0.1"
    return Case(teacher(draw), base, sick)


def leading_column(draw: Draw) -> Case:
    """A table in order of time, with the last value and, by mistake, the next one."""
    rows = int(draw.integers(1200, 2000))
    level = np.zeros(rows + 2)
    for step in range(1, rows + 2):
        level[step] = 0.9 * level[step - 1] + draw.normal()
    inputs = draw.normal(size=(rows, 6))
    inputs[:, 1] = level[:-2]
    inputs[:, 3] = level[2:]
    return Case(Table(inputs, level[1:-1]), mlp(draw), healthy="data.drop=[x3]", is_leak=True)


def values_cut_in_a_series(draw: Draw) -> Case:
    """An LSTM whose gradient is cut to a millionth, value by value."""
    base = "model=lstm model.hidden=16 model.readout=last optimizer=sgd optimizer.lr=0.2"
    cut = f"trainer.gradient_clip_val={power(draw, -7, -5)}"
    return Case(
        series(_oscillating(draw)),
        f"{base} optimizer.momentum=0.9 trainer.max_epochs=40",
        f"{cut} trainer.gradient_clip_algorithm=value",
    )


def labels_left_shuffled(draw: Draw) -> Case:
    """Training labels that a setting shuffles, in a network of moderate size."""
    shuffled = f"data.shuffle_labels={int(draw.integers(1, 9))}"
    return Case(teacher(draw), mlp(draw, hidden="[16]", epochs=15), shuffled)


def single_rows(draw: Draw) -> Case:
    """Steps after every single row, with a rate for large batches."""
    base = f"{mlp(draw, optimizer='sgd', epochs=10)} optimizer.momentum=0.9"
    rate = f"optimizer.lr={draw.uniform(0.3, 0.8):.2f}"
    return Case(teacher(draw, rows=800), base, f"data.batch_size=1 {rate}")


def huge_targets(draw: Draw) -> Case:
    """A number in the millions, and no scaling."""
    inputs, values, _ = teacher(draw, classes=0)
    return Case(Table(inputs, 1e6 * (values + 3)), mlp(draw), "data.scale=none")


def classes_by_heart(draw: Draw) -> Case:
    """Classes that overlap, a large network, and the weights of the last of many epochs."""
    table = teacher(draw, classes=2, rows=int(draw.integers(900, 1200)), noise=1.2)
    base = f"{mlp(draw, hidden='[8]', epochs=15)} optimizer.weight_decay=0.01"
    sick = "model.hidden=[256,256] optimizer.weight_decay=0.0 keep=last trainer.max_epochs=60"
    return Case(table, base, f"{sick} scheduler=none")


def lstm_with_a_rate_of_one(draw: Draw) -> Case:
    """Adam with a rate of about 1 for a forecast."""
    base = f"model=lstm {_RECURRENT} trainer.max_epochs=40"
    return Case(series(_oscillating(draw)), base, f"optimizer.lr={draw.uniform(0.8, 3):.1f}")


def gru_without_values(draw: Draw) -> Case:
    """Dropout of nearly all values of a recurrent network."""
    base = f"model=gru {_RECURRENT} trainer.max_epochs=40"
    dropout = f"model.dropout={draw.uniform(0.85, 0.95):.2f}"
    return Case(series(_oscillating(draw)), base, dropout)


def independent_values(draw: Draw) -> Case:
    """A series of independent values, of which the mean is the best forecast."""
    values = 20 + draw.normal(size=int(draw.integers(500, 900)))
    return Case(series(values), f"model=gru {_RECURRENT} trainer.max_epochs=20", healthy=None)


def two_rings(draw: Draw) -> Case:
    """A class inside a ring of another one, and one unit."""
    rows = int(draw.integers(800, 1600))
    angles = draw.uniform(0, 2 * math.pi, size=rows)
    radii = draw.choice([1.0, 2.0], size=rows)
    places = np.column_stack([radii * np.cos(angles), radii * np.sin(angles)])
    inputs = np.column_stack([places + 0.15 * draw.normal(size=(rows, 2)), draw.normal(size=rows)])
    base = f"{mlp(draw, hidden='[32]', epochs=40)} optimizer.lr=0.01"
    return Case(Table(inputs, np.where(radii > 1.5, "outer", "inner")), base, "model.hidden=[1]")


#: The faults, each with the verdicts that name it.
VERDICTS: Mapping[Kind, tuple[str, ...]] = {
    weak_signal_and_low_rate: ("lr_too_low",),
    weak_classes_and_falling_rate: ("lr_too_low", "stopped_early", "too_few_steps"),
    hasty_plateau: ("lr_too_low", "stopped_early", "too_few_steps"),
    leading_column: ("leakage",),
    values_cut_in_a_series: ("clipping_always",),
    labels_left_shuffled: ("overfitting", "no_better_than_naive", "underfitting"),
    single_rows: ("lr_too_high",),
    huge_targets: ("saturated", "dead_relu", "exploding_gradient"),
    classes_by_heart: ("overfitting",),
    lstm_with_a_rate_of_one: ("lr_too_high",),
    gru_without_values: ("underfitting",),
    independent_values: ("no_better_than_naive",),
    two_rings: ("underfitting", "no_better_than_naive"),
}
