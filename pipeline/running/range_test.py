"""The range test of the learning rate (`find_lr=true`): steps at rising rates, on record."""

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

from pipeline.base.errors import DivergedError
from pipeline.base.findings import LrCurve
from pipeline.base.processes.child import collecting_as_usual
from pipeline.base.terminal import duration, print_lines
from pipeline.callbacks.checkpoints import generator_states, restore_generators
from pipeline.config.check import check_callbacks
from pipeline.config.options import LrRangeOptions
from pipeline.running.lr_curve import read_curve, training_command, verdict, write_curve
from pipeline.running.plan import Plan
from pipeline.running.recording import RunJournal, recorded_run
from pipeline.running.results import where_lines
from pipeline.running.task_building import build_task
from pipeline.running.trainer import build_trainer, training_batches
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.fields import COMMAND_TAG, FIND_LR

#: Values of Trainer options that could otherwise end a range test early or validate during it.
UNLIMITED = {
    "max_epochs": -1,
    "min_epochs": None,
    "min_steps": None,
    "max_time": None,
    "num_sanity_val_steps": 0,
    "val_check_interval": None,
    "check_val_every_n_epoch": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeTest:
    """Result of a range test of the learning rate.

    Args:
        record: Folder, journal and MLflow id of the run.
        curve: Losses over the rates, and the suggested rate.
        verdict: The suggestion in one line, the override first.
        picture: File with the plot of the curve.
        command: Command line that trains with the suggested rate; `None` = there is no suggestion
            or no command line.
        seconds: Time from the start of the command's work to its end.
    """

    record: RunJournal
    curve: LrCurve
    verdict: str
    picture: Path
    command: str | None
    seconds: float

    def print(self) -> None:
        """Print the suggestion with its meaning, and where the files are."""
        lines = [self.verdict, f"picture {self.picture}"]
        if self.command is not None:
            lines.append(f"train   {self.command}")
        lines += [
            f"took    {duration(self.seconds)}; nothing was trained",
            f"run     {self.record.folder}",
            *where_lines(self.record),
        ]
        print_lines(lines)


def range_test(plan: Plan, recorder: RecorderClient | None) -> RangeTest:
    """Take steps of the planned run at rising learning rates, on record; no weights are kept."""
    check_callbacks(plan.options)
    # `last` skips runs with this tag: they have no weights.
    context = replace(plan.context, tags={**plan.context.tags, COMMAND_TAG: FIND_LR})
    with recorded_run(replace(plan, context=context), recorder) as record:
        rates, losses = try_rates(plan)
        curve = read_curve(rates, losses)
        picture = write_curve(record.artifacts, curve, rates, losses)
        suggestion = curve.suggestion
        record.journal.tag(FIND_LR, "none" if suggestion is None else f"{suggestion:g}")
    return RangeTest(
        record=record,
        curve=curve,
        verdict=verdict(curve, plan.options.lr_range),
        picture=picture,
        command=training_command(plan.command, suggestion),
        seconds=perf_counter() - plan.started_at,
    )


@collecting_as_usual()
def try_rates(plan: Plan) -> tuple[list[float], list[float]]:
    """Return the rate of each step, and the loss of its batch before the step.

    Weights and generators are restored afterwards. The run's schedule and callbacks are not used;
    clipping, precision, accumulation and batches are those of its training.
    """
    lr_range = plan.options.lr_range
    generators = generator_states()
    limits = {**UNLIMITED, "max_steps": lr_range.steps}
    trainer_options = plan.options.trainer.model_copy(update=limits)
    options = plan.options.model_copy(update={"scheduler": None, "trainer": trainer_options})
    steps = _RateSteps(lr_range)
    trainer = build_trainer(replace(plan, options=options), callbacks=[steps])
    weights = {key: value.clone() for key, value in plan.network.state_dict().items()}
    with suppress(DivergedError):  # the last loss of the curve is not finite
        trainer.fit(build_task(options, plan.network, plan.prepared), training_batches(plan))
    plan.network.load_state_dict(weights)
    restore_generators(generators)
    return steps.rates, steps.losses


class _RateSteps(Checkpoint):
    """Sets the rate of each step and keeps its loss; a Checkpoint, so that Lightning adds none."""

    def __init__(self, lr_range: LrRangeOptions) -> None:
        lowest = lr_range.lowest
        steps = lr_range.steps
        ratio = lr_range.highest / lowest
        self._planned_rates = [lowest]
        for step in range(2, steps + 1):
            self._planned_rates.append(lowest * ratio ** (step / steps))
        self.rates: list[float] = []
        self.losses: list[float] = []
        #: Losses of the batches since the last step.
        self._batch_losses: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Set the rate."""
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self._planned_rates[trainer.global_step]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Keep the loss; if several batches make one step, keep their mean."""
        del pl_module
        assert isinstance(outputs, Mapping)
        self._batch_losses.append(float(outputs["loss"]))
        if trainer.global_step > len(self.rates):
            self.rates.append(self._planned_rates[len(self.rates)])
            self.losses.append(sum(self._batch_losses) / len(self._batch_losses))
            self._batch_losses.clear()
            trainer.should_stop = not isfinite(self.losses[-1])
