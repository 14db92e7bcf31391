"""A learning-rate range test on record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning.tuner.tuning import Tuner
from torch import Tensor
from torch.optim import Optimizer

from pipeline.config.check import check_callbacks
from pipeline.findings.records import LrCurve
from pipeline.modules.task import Batch, Task
from pipeline.running.lr_curve import read_curve, training_command, verdict, write_curve
from pipeline.running.plan import Plan
from pipeline.running.recording import on_record
from pipeline.running.results import where_lines
from pipeline.running.trainer import build_task, build_trainer, training_batches
from pipeline.terminal import console, duration, shown_verbosity
from pipeline.tracking.client import Recorder
from pipeline.tracking.find import COMMAND_TAG, FIND_LR

if TYPE_CHECKING:
    from pipeline.running.peers import Peers


UNLIMITED = {
    "max_epochs": -1,
    "min_epochs": None,
    "max_steps": -1,
    "min_steps": None,
    "max_time": None,
    "num_sanity_val_steps": 0,
    "val_check_interval": None,
    "check_val_every_n_epoch": 1,
}
"""Of the Trainer's options, those that would end the test early, or validate in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeTest:
    """What a range test of the learning rate leaves.

    Args:
        folder: The run's folder.
        run_id: MLflow's id of the run; `None` where nothing is tracked.
        curve: The losses over the rates, and what they say.
        verdict: The same in one line, the override first.
        picture: Where the curve is drawn.
        command: What trains with the suggested rate; `None` = there is none, or no command line.
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


def range_test(
    plan: Plan, recorder: Recorder | None, uri: str | None, peers: Peers | None = None
) -> RangeTest:
    """Take steps of the planned run at rising learning rates, on record; nothing is kept.

    Args:
        plan: The run; on one device.
        recorder: Fills MLflow; `None` = nobody does.
        uri: Where it is tracked; `None` = nowhere.
        peers: Nobody: the rules of the configuration see to that.
    """
    del peers
    check_callbacks(plan.options)
    # By this tag `last` passes over the run: it has no weights.
    occasion = replace(plan.occasion, tags={**plan.occasion.tags, COMMAND_TAG: FIND_LR})
    plan = replace(plan, occasion=occasion)
    with on_record(plan, recorder, uri) as record:
        rates, losses = try_rates(plan)
        curve = read_curve(rates, losses)
        picture = write_curve(record.artifacts, curve, rates, losses)
        found = curve.suggestion
        record.journal.tag(FIND_LR, "none" if found is None else f"{found:g}")
    return RangeTest(
        folder=record.folder,
        run_id=record.run_id,
        curve=curve,
        verdict=verdict(curve, plan.options.lr_range),
        picture=picture,
        command=None
        if found is None or plan.command is None
        else training_command(plan.command, found),
        seconds=perf_counter() - plan.started_at,
        unsent=record.unsent,
        where_to_look=record.where_to_look,
    )


def print_range_test(test: RangeTest) -> None:
    """Print the suggestion with what it means, and where everything lies."""
    console().print("\n".join(_lines(test)), soft_wrap=True, markup=False)


def _lines(test: RangeTest) -> Iterator[str]:
    yield test.verdict
    yield f"picture {test.picture}"
    if test.command is not None:
        yield f"train   {test.command}"
    yield f"took    {duration(test.seconds)}; nothing was trained"
    yield f"run     {test.folder}"
    yield from where_lines(test.where_to_look, unsent=test.unsent)


def try_rates(plan: Plan) -> tuple[list[float], list[float]]:
    """Take a step at each of the rising learning rates, and put everything back as it was.

    Weights, generators and the order of the rows are afterwards what they were before. The
    schedule and the callbacks of the run have no part in it; clipping, precision, accumulation
    and the batches are those of its training.

    Args:
        plan: The run; on one device.

    Returns:
        The rate that each step was taken with, and the loss of its batch before the step. They
        end with the first loss that is no number.
    """
    options = plan.options
    trainer_options = options.trainer.model_copy(update=UNLIMITED)
    options = options.model_copy(update={"scheduler": None, "trainer": trainer_options})
    module = _RateSteps(
        build_task(options, plan.network, plan.prepared),
        shows_bar=shown_verbosity(options.verbose) == 1,
    )
    trainer = build_trainer(
        options, plan.devices, callbacks=[], logger=False, writer=_InMemory(), rank=plan.rank
    )
    Tuner(trainer).lr_find(
        module,
        training_batches(plan),
        min_lr=options.lr_range.lowest,
        max_lr=options.lr_range.highest,
        num_training=options.lr_range.steps,
        early_stop_threshold=None,  # it is the curve that says where the loss blows up
        update_attr=False,
    )
    return module.rates, module.losses


class _RateSteps(pl.LightningModule):
    """The steps of a task alone, each with its rate and its loss.

    A task by itself would be evaluated at the end of an epoch, and refuse a loss that is no
    number, which is what this test is looking for.

    Args:
        task: Its network, its loss, its optimizer.
        shows_bar: Let the finder draw its bar.
    """

    def __init__(self, task: Task, *, shows_bar: bool) -> None:
        super().__init__()
        self.task = task
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._shows_bar = shows_bar
        self._rate = 0.0
        self._parts: list[float] = []

    def configure_optimizers(self) -> Any:
        """Make the optimizer, whose rates the finder will set."""
        return self.task.configure_optimizers()

    def on_train_start(self) -> None:
        """Keep the finder from drawing its bar where nobody watches one."""
        if not self._shows_bar:
            for callback in vars(self.trainer)["callbacks"]:  # the finder's own, alone
                callback.progress_bar_refresh_rate = 0

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Note the rate: when the batch has ended it is the next one's."""
        del batch, batch_idx
        self._rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def training_step(self, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        return self.task.training_step(batch)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the task does."""
        self.task.configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_batch_end(
        self, outputs: Tensor | Mapping[str, Any] | None, batch: Batch, batch_idx: int
    ) -> None:
        """Note the loss; of several batches that make one step, their mean."""
        del batch, batch_idx
        assert isinstance(outputs, Mapping)
        self._parts.append(float(outputs["loss"]))
        if self.trainer.global_step > len(self.rates):
            loss = sum(self._parts) / len(self._parts)
            self._parts.clear()
            self.rates.append(self._rate)
            self.losses.append(loss)
            self.trainer.should_stop = not isfinite(loss)


class _InMemory(CheckpointIO):
    """Keeps the checkpoint that the finder goes back to: no file, so that a kill leaves none."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Any]] = {}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Keep a copy, since the weights are about to move."""
        del storage_options
        self._kept[str(path)] = deepcopy(checkpoint)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return what was kept under this path."""
        del map_location, weights_only
        return self._kept[str(path)]

    def remove_checkpoint(self, path: str | Path) -> None:
        """Forget it."""
        del self._kept[str(path)]
