"""A learning-rate range test on record."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from pipeline.callbacks.checkpoints import generator_states, restore_generators
from pipeline.config.check import check_callbacks
from pipeline.config.options import LrRangeOptions
from pipeline.errors import DivergedError
from pipeline.findings import LrCurve
from pipeline.running.lr_curve import read_curve, training_command, verdict, write_curve
from pipeline.running.plan import Plan
from pipeline.running.recording import on_record
from pipeline.running.results import where_lines
from pipeline.running.trainer import build_task, build_trainer, training_batches
from pipeline.terminal import console, duration
from pipeline.tracking.client import Recorder
from pipeline.tracking.folders import COMMAND_TAG, FIND_LR

UNLIMITED = {
    "max_epochs": -1,
    "min_epochs": None,
    "min_steps": None,
    "max_time": None,
    "num_sanity_val_steps": 0,
    "val_check_interval": None,
    "check_val_every_n_epoch": 1,
}
"""Options of the Trainer that would end the test early, or validate during it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeTest:
    """Result of a range test of the learning rate.

    Args:
        folder: The run's folder.
        run_id: MLflow's id of the run; `None` where nothing is tracked.
        curve: The losses over the rates, and what they suggest.
        verdict: The same in one line, the override first.
        picture: File with the plot of the curve.
        command: Trains with the suggested rate; `None` = no suggestion, or no command line.
        seconds: Time from the start of the command's work to its end.
        unsent: Values that the tracking server has not got yet.
        where_to_look: Command and address that show the runs; empty where nothing is tracked.
    """

    folder: Path
    run_id: str | None
    curve: LrCurve
    verdict: str
    picture: Path
    command: str | None
    seconds: float
    unsent: int
    where_to_look: tuple[str, ...]


def range_test(plan: Plan, recorder: Recorder | None) -> RangeTest:
    """Take steps of the planned run at rising learning rates, on record; nothing is kept.

    Args:
        plan: The run; on one device.
        recorder: Fills MLflow; `None` = nobody does.
    """
    check_callbacks(plan.options)
    # `last` skips runs with this tag: they have no weights.
    occasion = replace(plan.occasion, tags={**plan.occasion.tags, COMMAND_TAG: FIND_LR})
    plan = replace(plan, occasion=occasion)
    with on_record(plan, recorder) as record:
        rates, losses = try_rates(plan)
        curve = read_curve(rates, losses)
        picture = write_curve(record.artifacts, curve, rates, losses)
        found = curve.suggestion
        record.journal.tag(FIND_LR, "none" if found is None else f"{found:g}")
    command = None
    if found is not None and plan.command is not None:
        command = training_command(plan.command, found)
    return RangeTest(
        folder=record.folder,
        run_id=record.run_id,
        curve=curve,
        verdict=verdict(curve, plan.options.lr_range),
        picture=picture,
        command=command,
        seconds=perf_counter() - plan.started_at,
        unsent=record.unsent,
        where_to_look=record.where_to_look,
    )


def print_range_test(test: RangeTest) -> None:
    """Print the suggestion with its meaning, and where everything lies."""
    lines = [
        test.verdict,
        f"picture {test.picture}",
        *([] if test.command is None else [f"train   {test.command}"]),
        f"took    {duration(test.seconds)}; nothing was trained",
        f"run     {test.folder}",
        *where_lines(test.where_to_look, unsent=test.unsent),
    ]
    console().print("\n".join(lines), soft_wrap=True, markup=False)


def try_rates(plan: Plan) -> tuple[list[float], list[float]]:
    """Take a step at each of the rising learning rates, then restore weights and generators.

    The schedule and the callbacks of the run have no part in it; clipping, precision, accumulation
    and the batches are those of its training.

    Args:
        plan: The run; on one device.

    Returns:
        The rate of each step, and the loss of its batch before the step, up to the first loss that
        is not finite.
    """
    tried, generators = plan.options.lr_range, generator_states()
    limits = {**UNLIMITED, "max_steps": tried.steps}
    trainer_options = plan.options.trainer.model_copy(update=limits)
    options = plan.options.model_copy(update={"scheduler": None, "trainer": trainer_options})
    steps = _RateSteps(tried)
    trainer = build_trainer(replace(plan, options=options), callbacks=[steps])
    weights = {key: value.clone() for key, value in plan.network.state_dict().items()}
    with suppress(DivergedError):  # the last loss of the curve is not finite
        trainer.fit(build_task(options, plan.network, plan.prepared), training_batches(plan))
    plan.network.load_state_dict(weights)
    restore_generators(generators)
    return steps.rates, steps.losses


class _RateSteps(Checkpoint):
    """Sets the rate of each step, and keeps it with the loss of the step.

    A Checkpoint by its base class alone, so that Lightning adds none of its own.
    """

    def __init__(self, tried: LrRangeOptions) -> None:
        ratio = tried.highest / tried.lowest
        later = [tried.lowest * ratio ** (step / tried.steps) for step in range(2, tried.steps + 1)]
        self._ladder = [tried.lowest, *later]
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._parts: list[float] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the rate."""
        del pl_module, batch, batch_idx
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self._ladder[trainer.global_step]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Keep the loss; of several batches that make one step, their mean."""
        del pl_module
        assert isinstance(outputs, Mapping)
        self._parts.append(float(outputs["loss"]))
        if trainer.global_step > len(self.rates):
            self.rates.append(self._ladder[len(self.rates)])
            self.losses.append(sum(self._parts) / len(self._parts))
            self._parts.clear()
            trainer.should_stop = not isfinite(self.losses[-1])
