"""Thirty further kinds of sick runs, written before any rule of the doctor was changed for them.

`benchmarks.doctor_cures --kinds seen` or `unseen` trains them. Each kind has a table or a series, a
healthy run, and the same run made sick, mostly by one setting that a user changed. Half of the
kinds, by a hash of their name, were not looked at until the rules were thought to be final; since
then, rules have been changed for them as well, and `fresh_sick_kinds` take their place.
"""

import math
from collections.abc import Callable, Mapping
from zlib import crc32

import numpy as np

from benchmarks.sick_runs import Array, Case, Draw, Table, into_classes, mlp, power, series, teacher

Kind = Callable[[Draw], Case]


def is_unseen(kind: str) -> bool:
    """Return whether no rule was changed for a kind of this name until the first look at it."""
    return crc32(kind.encode()) % 2 == 1


# ── settings of the network and of the optimizer ────────────────────────────────────────────────


def strong_dropout(draw: Draw) -> Case:
    """Dropout of 70 to 85 % in a narrow network."""
    dropout = f"model.dropout={draw.uniform(0.7, 0.85):.2f}"
    return Case(teacher(draw), mlp(draw, hidden="[16,16]"), dropout)


def moderate_decay(draw: Draw) -> Case:
    """A weight decay of 0.1 to 0.5 with Adam, which adds it to the gradient."""
    decay = f"optimizer.weight_decay={draw.uniform(0.1, 0.5):.2f}"
    return Case(teacher(draw), mlp(draw, hidden="[32,16]"), decay)


def decoupled_decay(draw: Draw) -> Case:
    """A weight decay of AdamW that shrinks the weights by a tenth or more in each step."""
    base = mlp(draw, optimizer="adamw")
    decay = f"optimizer.weight_decay={draw.uniform(20, 60):.0f}"
    return Case(teacher(draw), base, decay)


def rate_of_one_with_norm(draw: Draw) -> Case:
    """Adam with a rate of about 1, whose harm batch normalisation hides in part."""
    base = f"{mlp(draw, hidden='[32,32]')} model.norm=batch"
    return Case(teacher(draw), base, f"optimizer.lr={draw.uniform(0.8, 2):.1f}")


def heavy_momentum(draw: Draw) -> Case:
    """A momentum of 0.995 to 0.9995, with which steps add up for hundreds of steps."""
    momentum = f"optimizer.momentum={draw.uniform(0.995, 0.9995):.4f}"
    return Case(teacher(draw), mlp(draw, optimizer="sgd"), momentum)


def slow_first_moment(draw: Draw) -> Case:
    """Adam whose mean of the gradients forgets over thousands of steps."""
    beta = draw.uniform(0.9995, 0.9999)
    return Case(teacher(draw), mlp(draw), f"optimizer.betas=[{beta:.4f},0.999]")


def large_epsilon(draw: Draw) -> Case:
    """Adam with a constant in the denominator that is far above every gradient."""
    return Case(teacher(draw), mlp(draw), f"optimizer.eps={power(draw, 1.5, 3)}")


def falling_rate(draw: Draw) -> Case:
    """A schedule that has lowered the rate to nothing after a few epochs."""
    base = f"{mlp(draw, epochs=40, schedule='none')} optimizer.lr=0.001"
    gamma = f"scheduler.gamma={draw.uniform(0.1, 0.3):.2f}"
    return Case(teacher(draw), base, f"scheduler=exponential {gamma}")


def hasty_steps_of_rate(draw: Draw) -> Case:
    """A schedule by steps that divides the rate by ten in each epoch."""
    base = f"{mlp(draw, epochs=40, schedule='none')} optimizer.lr=0.001"
    return Case(teacher(draw), base, "scheduler=step scheduler.step_size=1 scheduler.gamma=0.1")


def bottleneck(draw: Draw) -> Case:
    """One unit between two wide layers, for classes along different directions."""
    classes, columns = int(draw.integers(4, 7)), int(draw.integers(6, 10))
    middles = 2.5 * draw.normal(size=(classes, columns)) / math.sqrt(2)
    kinds = draw.integers(classes, size=int(draw.integers(600, 1200)))
    inputs = middles[kinds] + draw.normal(size=(len(kinds), columns))
    table = Table(inputs, np.array([f"kind {kind}" for kind in kinds]))
    return Case(table, mlp(draw, hidden="[32,32,32]"), "model.hidden=[32,1,32]")


def identity_layers(draw: Draw) -> Case:
    """Layers without an activation, which are a linear model, for a product."""
    rows, columns = int(draw.integers(800, 1600)), int(draw.integers(2, 5))
    inputs = draw.uniform(-1, 1, size=(rows, columns))
    product = inputs[:, 0] * inputs[:, 1] + 0.03 * draw.normal(size=rows)
    base = f"{mlp(draw, hidden='[64,64]', epochs=40)} optimizer.lr=0.01"
    return Case(Table(inputs, into_classes(product, 2)), base, "model.activation=identity")


def tiny_first_weights(draw: Draw) -> Case:
    """First weights of a thousandth of their usual size."""
    base = f"{mlp(draw, optimizer='sgd', hidden='[32,32,32]')} optimizer.momentum=0.0"
    return Case(teacher(draw), base, f"model.gain={power(draw, -3, -2)}")


def values_cut_to_nothing(draw: Draw) -> Case:
    """Clipping of each value of the gradient to a millionth."""
    base = f"{mlp(draw, optimizer='sgd')} optimizer.momentum=0.0"
    cut = f"trainer.gradient_clip_val={power(draw, -7, -5)}"
    return Case(teacher(draw), base, f"{cut} trainer.gradient_clip_algorithm=value")


# ── settings of the training ────────────────────────────────────────────────────────────────────


def one_batch_an_epoch(draw: Draw) -> Case:
    """A batch that holds all rows, so that an epoch is one step."""
    base = f"{mlp(draw, epochs=25)} optimizer.lr=0.003"
    return Case(teacher(draw), base, "data.batch_size=4096")


def many_batches_a_step(draw: Draw) -> Case:
    """Gradients that are added up over an epoch before a step."""
    base = f"{mlp(draw, epochs=25)} optimizer.lr=0.003"
    return Case(teacher(draw), base, "trainer.accumulate_grad_batches=64")


def few_batches(draw: Draw) -> Case:
    """A twentieth of the batches of an epoch, as left over from a trial."""
    base = f"{mlp(draw, epochs=20)} optimizer.lr=0.002"
    return Case(teacher(draw), base, "trainer.limit_train_batches=0.05")


def step_limit(draw: Draw) -> Case:
    """A limit of some steps that ends the training in its first epoch."""
    return Case(teacher(draw), mlp(draw), f"trainer.max_steps={int(draw.integers(8, 25))}")


def average_of_first_weights(draw: Draw) -> Case:
    """A moving average of the weights that begins late and is hardly updated."""
    base = f"{mlp(draw, epochs=20)} callbacks=ema"
    return Case(teacher(draw), base, "callbacks.ema.update_every_n_steps=400")


def impatient_stop(draw: Draw) -> Case:
    """A stop that takes every epoch for one without improvement."""
    base = f"{mlp(draw, epochs=40, schedule='none')} optimizer.lr=0.001"
    delta = f"callbacks.early_stopping.min_delta={draw.uniform(0.5, 1):.1f}"
    return Case(
        teacher(draw), base, f"callbacks=early_stopping callbacks.early_stopping.patience=1 {delta}"
    )


def shuffled_labels(draw: Draw) -> Case:
    """Training labels that a setting shuffles, as left over from an experiment."""
    base = mlp(draw, hidden="[64,64]", epochs=40)
    return Case(teacher(draw, rows=800), base, f"data.shuffle_labels={int(draw.integers(1, 9))}")


# ── what rows are learned, and how they count ───────────────────────────────────────────────────


def weights_of_one_class(draw: Draw) -> Case:
    """Weights that make one of two equal classes count 40 to 100 times as much."""
    weight = int(draw.integers(40, 100))
    return Case(teacher(draw, classes=2, noise=0.8), mlp(draw), f"loss.class_weights=[1,{weight}]")


def extreme_threshold(draw: Draw) -> Case:
    """A threshold above every probability, so that nobody is called positive."""
    table = teacher(draw, classes=2, noise=1.5)
    return Case(table, mlp(draw, epochs=10), f"metrics.threshold={draw.uniform(0.985, 0.999):.3f}")


def weighted_by_heart(draw: Draw) -> Case:
    """A rare class with weights, and a network so large that it learns its rows by heart."""
    rows, columns = int(draw.integers(900, 1300)), int(draw.integers(10, 16))
    are_rare = draw.random(rows) < draw.uniform(0.08, 0.12)
    inputs = draw.normal(size=(rows, columns)) + are_rare[:, None] * draw.uniform(0.25, 0.35)
    base = f"{mlp(draw, hidden='[8]', epochs=15)} loss.class_weights=balanced data.test=0.4"
    sick = "model.hidden=[128,128] trainer.max_epochs=80 keep=last scheduler=none"
    table = Table(inputs, np.where(are_rare, "yes", "no"))
    return Case(table, base, sick, score="test/auroc")


def one_huge_column(draw: Draw) -> Case:
    """One column in a unit that is a million times smaller, and no scaling."""
    inputs, targets, _ = teacher(draw, classes=int(draw.choice([2, 3])))
    inputs[:, -1] *= 1e6
    return Case(Table(inputs, targets), mlp(draw), "data.scale=none")


def near_copies(draw: Draw) -> Case:
    """Random labels of rows that occur several times with a little noise."""
    inputs, targets, _ = teacher(draw, rows=int(draw.integers(150, 300)))
    copies = np.tile(np.arange(len(targets)), int(draw.integers(3, 6)))
    jitter = 1e-3 * draw.normal(size=(len(copies), inputs.shape[1]))
    table = Table(inputs[copies] + jitter, draw.permutation(targets)[copies])
    return Case(table, mlp(draw, hidden="[64,64]", epochs=60), healthy=None)


def column_of_tomorrow(draw: Draw) -> Case:
    """A column with the next value of the series that the target comes from."""
    rows = int(draw.integers(1200, 2000))
    level = np.zeros(rows + 1)
    for step, shock in enumerate(draw.normal(size=rows)):
        level[step + 1] = 0.9 * level[step] + shock
    inputs = draw.normal(size=(rows, 6))
    targets = level[1:] + 0.8 * inputs[:, 2]
    inputs[:, 0] = np.append(targets[1:], targets[-1])
    return Case(Table(inputs, targets), mlp(draw), healthy="data.drop=[x0]", is_leak=True)


def sorted_rows(draw: Draw) -> Case:
    """Rows that are sorted by class and split in the order of the file."""
    inputs, targets, _ = teacher(draw, classes=2)
    order = np.argsort(targets, kind="stable")
    table = Table(inputs[order], targets[order])
    return Case(table, mlp(draw), "data.shuffle=false data.stratify=false")


# ── series ──────────────────────────────────────────────────────────────────────────────────────

LSTM = "model=lstm model.hidden=16 optimizer=adam optimizer.lr=0.01 trainer.max_epochs=40"


def _autoregressive(draw: Draw, *, steps: int) -> Array:
    """A series that keeps most of its distance from the mean from step to step."""
    values = np.zeros(steps)
    for step in range(2, steps):
        values[step] = 1.5 * values[step - 1] - 0.7 * values[step - 2] + draw.normal()
    return values


def shuffled_series(draw: Draw) -> Case:
    """A series whose rows were shuffled, as by a sort of the file by another column."""
    values = draw.permutation(_autoregressive(draw, steps=int(draw.integers(500, 900))))
    return Case(series(values), f"{LSTM} model.readout=last", healthy=None)


def rising_series(draw: Draw) -> Case:
    """A series with a trend, whose test lies above all values of the training part."""
    steps = int(draw.integers(300, 600))
    trend = draw.uniform(0.05, 0.2) * np.arange(steps)
    values = 50 + trend + 2 * np.sin(np.arange(steps) * 2 * math.pi / 12) + draw.normal(size=steps)
    difference = "data.difference=1"
    return Case(series(values), f"{LSTM} model.readout=last", healthy=difference)


def short_window(draw: Draw) -> Case:
    """A window of two steps for a season of twelve."""
    steps = int(draw.integers(400, 700))
    pattern = draw.permutation(np.linspace(-3, 3, 12))
    values = np.tile(pattern, steps // 12 + 1)[:steps] + 0.3 * draw.normal(size=steps)
    base = f"{LSTM} model.readout=last data.window=14"
    return Case(series(values), base, "data.window=2")


#: The faults, each with the verdicts that name it.
VERDICTS: Mapping[Kind, tuple[str, ...]] = {
    strong_dropout: ("underfitting",),
    moderate_decay: ("underfitting", "no_better_than_linear", "no_better_than_naive"),
    decoupled_decay: ("underfitting", "no_better_than_linear", "no_better_than_naive"),
    rate_of_one_with_norm: ("lr_too_high",),
    heavy_momentum: ("lr_too_high",),
    slow_first_moment: ("lr_too_high", "stopped_early", "too_few_steps", "lr_too_low"),
    large_epsilon: ("lr_too_low",),
    falling_rate: ("stopped_early", "too_few_steps", "lr_too_low"),
    hasty_steps_of_rate: ("stopped_early", "too_few_steps", "lr_too_low"),
    bottleneck: ("underfitting", "no_better_than_linear"),
    identity_layers: ("underfitting", "no_better_than_naive"),
    tiny_first_weights: ("vanishing_gradient", "lr_too_low"),
    values_cut_to_nothing: ("clipping_always",),
    one_batch_an_epoch: ("too_few_steps",),
    many_batches_a_step: ("too_few_steps",),
    few_batches: ("too_few_steps", "stopped_early"),
    step_limit: ("too_few_steps", "stopped_early"),
    average_of_first_weights: ("too_few_steps", "stopped_early"),
    impatient_stop: ("stopped_early", "too_few_steps"),
    shuffled_labels: ("overfitting", "no_better_than_naive"),
    weights_of_one_class: ("class_collapse",),
    extreme_threshold: ("class_collapse",),
    weighted_by_heart: ("overfitting",),
    one_huge_column: ("saturated", "dead_relu", "exploding_gradient"),
    near_copies: ("overlap",),
    column_of_tomorrow: ("leakage",),
    sorted_rows: ("one_class_in_validation",),
    shuffled_series: ("no_better_than_naive",),
    rising_series: ("no_better_than_naive", "no_better_than_linear"),
    short_window: ("no_better_than_naive", "no_better_than_linear", "underfitting"),
}
