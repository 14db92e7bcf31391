"""The batches that a planned run trains on, and those that it evaluates."""

from collections.abc import Iterable
from math import prod
from typing import Any

from pipeline.data.loader import loader
from pipeline.data.part import Part
from pipeline.running.plan import Plan

EVALUATED_NUMBERS = 2**15
"""Numbers of an evaluated batch: enough to keep the cores busy, little enough for any memory."""


def training_batches(plan: Plan) -> Iterable[Any]:
    """Return the batches of the training part, in a new order each epoch if that is asked for."""
    options = plan.options
    # Overfitting means the same batches each epoch; Lightning sees to that for DataLoaders.
    shuffle = bool(options.data["shuffle"]) and not options.trainer.overfit_batches
    return _batches(plan, plan.prepared.train, size=options.data["batch_size"], shuffle=shuffle)


def evaluated_batches(plan: Plan, part: Part) -> Iterable[Any]:
    """Return the batches of a part in its order, larger ones where nobody counts them."""
    size = plan.options.data["batch_size"]
    if not _limits_evaluations(plan):
        size = max(size, EVALUATED_NUMBERS // prod(plan.prepared.schema.input_shape))
    return _batches(plan, part, size=size, shuffle=False)


def _batches(plan: Plan, part: Part, *, size: int, shuffle: bool) -> Iterable[Any]:
    device = plan.devices.device_of(plan.rank.local)
    return loader(
        plan.occasion.datasets.on_device(part, device),
        batch_size=size,
        shuffle=shuffle,
        seed=plan.options.seed,
        num_workers=plan.options.data["num_workers"],
        device=device,
        rank=plan.rank,
    )


def _limits_evaluations(plan: Plan) -> bool:
    """Tell whether evaluated batches are counted, so that they are those of the config."""
    trainer = plan.options.trainer
    limits = (trainer.limit_val_batches, trainer.limit_test_batches)
    return any((*limits, trainer.overfit_batches, trainer.fast_dev_run))
