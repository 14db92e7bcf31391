"""Keeps the weights of the best and of the last epoch, and the state that a resumed run needs.

`Checkpoints` writes files for a run; `KeptWeights` holds the weights of a trial in memory.
"""

import math
import random
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import Checkpoint
from torch import optim
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pipeline import __version__
from pipeline.base.errors import ConfigError, DivergedError, EnvironmentFaultError
from pipeline.base.paths import replace_file
from pipeline.callbacks.checkpoint_file import FORMAT, form_problem, read_checkpoint, write_problem
from pipeline.callbacks.checkpoint_writer import IS_BEST, AtomicCheckpointIO, MemoryIO, link_or_copy
from pipeline.metrics import Direction
from pipeline.modules.task import Task

#: Optimizers whose state has a value for each number of a weight, and names of other states.
ELEMENTWISE = (
    *(optim.SGD, optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.Adamax, optim.Adagrad),
    *(optim.Adadelta, optim.RMSprop, optim.Rprop, optim.ASGD),
)
SCALARS = ("step", "eta", "mu", "mu_product")


def optimizer_problem(optimizer: Optimizer) -> str | None:
    """Return the key of the first restored option or state of an unusual form, or `None`."""
    for group in optimizer.param_groups:
        options = {key: group.get(key) for key in optimizer.defaults}
        problem = form_problem(optimizer.defaults, options, "optimizer_states")
        if problem is not None or type(optimizer) not in ELEMENTWISE:
            return problem
        for weight in group["params"]:
            for name, value in optimizer.state[weight].items():
                if not _is_state_of(weight, name, value):
                    return f"optimizer_states.{name}"
    return None


def _is_state_of(weight: torch.Tensor, name: str, value: object) -> bool:
    if isinstance(value, torch.Tensor):
        is_finite = bool(torch.isfinite(value).all())
        return is_finite and value.shape == (() if name in SCALARS else weight.shape)
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return value is None or (is_number and name in SCALARS)


def unusable_state(path: str, problem: str) -> ConfigError:
    """Return the error for a checkpoint whose weights are usable and whose state is not."""
    return ConfigError(
        f"{path} holds no usable state of a training ({problem}); start a new run, or resume "
        "another checkpoint"
    )


class BestEpoch:
    """The epoch with the best value of a metric; of equal values, the lowest `val/loss` decides.

    Args:
        monitor: The metric; `None` = no epoch is better than the last.
        better: Whether a larger or a smaller value is better.
    """

    def __init__(self, monitor: str | None, better: Direction) -> None:
        self.monitor = monitor
        self._is_higher_better = better == "max"
        #: Number of the epoch, counted from 1; `None` = there is none.
        self.epoch: int | None = None
        self.value: float | None = None
        self.loss = 0.0

    def update(self, epoch: int, metrics: Mapping[str, Any]) -> bool:
        """Return whether an epoch with these values is better than all before; note it if so."""
        if self.monitor is None or self.monitor not in metrics:
            return False
        value = float(metrics[self.monitor])
        if math.isnan(value):  # the metric is undefined on these rows
            return False
        loss = float(metrics.get("val/loss", 0.0))
        if not self._is_better(value, loss):
            return False
        self.epoch = epoch
        self.value = value
        self.loss = loss
        return True

    def _is_better(self, value: float, loss: float) -> bool:
        if self.value is None:
            return True
        if value == self.value:
            # On few validation rows many epochs have the same score, and the first is early.
            return loss < self.loss
        return value > self.value if self._is_higher_better else value < self.value


class Keeper(Checkpoint):
    """Base of the callbacks that keep weights; knows the best epoch and adds facts to checkpoints.

    Args:
        writer: Receives the checkpoints that Lightning makes.
        monitor: Metric that decides which epoch is kept; of equal values, the lowest validation
            loss decides. `None` = the last epoch.
        better: Whether a larger or a smaller value of `monitor` is better.
        facts: Plain values that are stored with the weights: the config, the data's schema.
    """

    def __init__(
        self,
        writer: CheckpointIO,
        *,
        monitor: str | None,
        better: Direction,
        facts: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.writer = writer
        self.best = BestEpoch(monitor, better)
        self._facts = dict(facts)
        self._epoch = 0
        self.is_started = False

    def best_weights(self) -> Mapping[str, Any] | None:
        """Return the weights of the best epoch; `None` if the last ones are kept."""
        raise NotImplementedError

    def keep(self, trainer: pl.Trainer, *, is_best: bool) -> None:
        """Keep the weights of the epoch, after validation and all that was logged."""
        raise NotImplementedError

    def write_waiting(self) -> None:
        """Write what waits in memory for its file; nothing does here.

        Raises:
            EnvironmentFaultError: It could not be written.
        """

    def keep_epoch(self, epoch: int, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights of an epoch; non-finite weights are refused, and the earlier ones stay.

        Raises:
            DivergedError: A weight is not finite.
        """
        self._epoch = epoch
        # The last steps of an epoch can ruin weights whose loss was not computed yet.
        weights = []
        for weight in pl_module.state_dict().values():
            if weight.is_floating_point() and weight.numel():
                weights.append(weight)
        largest = [norm.float() for norm in torch._foreach_norm(weights, float("inf"))]
        if not bool(torch.isfinite(torch.stack(largest)).all()):
            raise DivergedError(
                f"a weight is NaN or infinite after epoch {self._epoch}: training diverged; try a "
                "smaller optimizer.lr, or trainer.gradient_clip_val=1.0"
            )
        self.keep(trainer, is_best=self.best.update(epoch, trainer.callback_metrics))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, _: Any, checkpoint: Mapping[str, Any]
    ) -> None:
        """Compare the loops of a training with fresh ones, before Lightning restores them.

        Raises:
            ConfigError: A loop has another form.
        """
        usual = {"fit_loop": trainer.fit_loop.state_dict()}
        problem = form_problem(usual, checkpoint.get("loops"), "loops")
        if problem is not None:
            raise unusable_state(str(trainer.ckpt_path), problem)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the restored state of an earlier training.

        Raises:
            ConfigError: A part of it has another form than a fresh one.
        """
        self.is_started = True
        if trainer.ckpt_path is None:
            return
        problems = [optimizer_problem(optimizer) for optimizer in trainer.optimizers]
        if isinstance(pl_module, Task):
            saved = pl_module.restored_schedule()
            problems.append(form_problem(pl_module.fresh_schedule, saved, "lr_schedulers"))
        for problem in problems:
            if problem is not None:
                raise unusable_state(str(trainer.ckpt_path), problem)

    def on_save_checkpoint(self, _: Any, __: Any, checkpoint: dict[str, Any]) -> None:
        """Add format, version, epoch and facts to the checkpoint."""
        facts = {"format": FORMAT, "version": __version__, "epoch": self._epoch}
        checkpoint["pipeline"] = {**facts, **self._facts}


class Checkpoints(Keeper):
    """Writes `last.ckpt` after an epoch, and `best.ckpt` if it has the best weights so far.

    Both follow the training by `seconds` at most. The checkpoint of a shorter epoch reaches the
    disk while the next epochs run.

    Args:
        folder: Folder of the two files.
        seconds: Shortest time between two checkpoints; 0 = one after every epoch.
        adopts: Whether the checkpoint to start with is another run's.
        options: Further arguments of `Keeper`.
    """

    def __init__(
        self, folder: Path, *, seconds: float, adopts: bool = False, **options: Any
    ) -> None:
        self._folder = folder
        self._last_file = folder / "last.ckpt"
        self._best_file = folder / "best.ckpt"
        self._seconds = seconds
        self._files = AtomicCheckpointIO(
            self._last_file, self._best_file, seconds=seconds, adopts=adopts
        )
        super().__init__(self._files, **options)
        self._states: dict[str, Any] | None = None

    def best_weights(self) -> Mapping[str, Any] | None:
        """Read the weights of the best epoch; `None` if the last ones are kept."""
        if self.best.monitor is None or not self._best_file.exists():
            return None
        weights: Mapping[str, Any] = read_checkpoint(self._best_file)["state_dict"]
        return weights

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Create the folder."""
        del pl_module
        if stage == "fit" and trainer.is_global_zero:
            self._folder.mkdir(parents=True, exist_ok=True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the generators' states of the interrupted run.

        Building the network and restoring its weights have drawn numbers in the meantime.
        """
        states = self._states
        self._states = None
        if states is not None:
            restore_generators(states)
        super().on_train_start(trainer, pl_module)
        if states is None or not trainer.is_global_zero:
            return
        continues_last = str(trainer.ckpt_path) == str(self._last_file)
        if continues_last and self.best.epoch == trainer.current_epoch:
            # The run was killed between writing the two.
            link_or_copy(self._last_file, self._best_file)

    def keep(self, trainer: pl.Trainer, *, is_best: bool) -> None:
        """Write the epoch's checkpoint if it is due."""
        options = {IS_BEST: is_best}
        trainer.save_checkpoint(self._last_file, weights_only=False, storage_options=options)
        if float(trainer.callback_metrics["time/epoch"]) > self._seconds:
            self._files.finish()

    def write_waiting(self) -> None:
        """Write the checkpoints that wait in memory, and wait for the disk."""
        self._files.write_waiting()

    def on_train_end(self, *_: Any) -> None:
        """Write the last checkpoint, before the test."""
        self.write_waiting()

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch and the states of the generators."""
        return {
            "best_value": self.best.value,
            "best_epoch": self.best.epoch,
            "best_loss": self.best.loss,
            "generators": generator_states(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best epoch; the generators are restored when training starts.

        Raises:
            ValueError: The best epoch has another form.
        """
        usual = {"best_value": None, "best_epoch": None, "best_loss": 0.0}
        problem = form_problem(usual, state_dict, "callbacks")
        if problem is not None:
            raise ValueError(problem)
        self.best.value = state_dict["best_value"]
        self.best.epoch = state_dict["best_epoch"]
        self.best.loss = state_dict["best_loss"]
        self._states = state_dict["generators"]


class KeptWeights(Keeper):
    """Holds the weights of the best epoch, or of the last one; no files are written in training."""

    def __init__(self, **options: Any) -> None:
        self._memory = MemoryIO()
        super().__init__(self._memory, **options)

    def best_weights(self) -> Mapping[str, Any] | None:
        """Return the weights of the best epoch; `None` if the last ones are kept."""
        return None if self.best.epoch is None else dict(self._memory.content["state_dict"])

    def keep(self, trainer: pl.Trainer, *, is_best: bool) -> None:
        """Copy the weights if the epoch is the best so far."""
        if is_best:
            trainer.save_checkpoint("memory", weights_only=False)

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Copy the last weights if there is no best epoch."""
        self.keep(trainer, is_best=self.best.epoch is None)

    def write(self, path: Path) -> None:
        """Write the kept weights to a file, completely or not at all.

        Raises:
            EnvironmentFaultError: The file can't be written.
        """
        try:
            path.parent.mkdir(exist_ok=True)
            replace_file(path, lambda file: torch.save(self._memory.content, file))
        except (OSError, RuntimeError) as error:
            raise EnvironmentFaultError(write_problem(path, error)) from error


def generator_states() -> dict[str, Any]:
    """Return the states of all random number generators, as tensors, which are fast to save."""
    legacy = np.random.get_state(legacy=False)
    version, internal, gauss_next = random.getstate()
    key = torch.from_numpy(legacy["state"]["key"].astype(np.int64))
    return {
        "python": [version, torch.from_numpy(np.array(internal, dtype=np.int64)), gauss_next],
        "numpy": {**legacy, "state": {**legacy["state"], "key": key}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_generators(states: dict[str, Any]) -> None:
    """Restore the states that `generator_states` returned."""
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal.tolist()), gauss_next))
    inner = states["numpy"]["state"]
    key = inner["key"].cpu().numpy().astype(np.uint32)
    np.random.set_state({**states["numpy"], "state": {**inner, "key": key}})
    torch.set_rng_state(states["torch"].cpu())
    for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state.cpu(), index)


class OwnNoise(Checkpoint):
    """Gives each rank but the first its own random numbers, for example for dropout.

    The numbers follow from those of the first rank. The base class is Checkpoint only so that
    Lightning calls this last.
    """

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Seed torch from the next number of the shared sequence and the rank."""
        if trainer.global_rank:
            seed = int(torch.randint(2**31, ()))
            torch.manual_seed(seed + trainer.global_rank)


class WaitingIsWritten(Callback):
    """Writes the checkpoints that wait in memory as soon as a training is stopped or fails.

    It comes before all other callbacks, any of which may fail then, or take its time.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def on_exception(self, *_: Any) -> None:
        """Write them, unless the disk is the reason of the failure."""
        with suppress(EnvironmentFaultError):
            self._keeper.write_waiting()


class ScheduleCatchesUp(Callback):
    """Moves a fresh schedule to its position after the epochs that were trained earlier."""

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Step the schedules as often as the earlier epochs would have."""
        for config in trainer.lr_scheduler_configs:
            moves = trainer.current_epoch
            if config.interval == "step":
                share = trainer.current_epoch / max(trainer.max_epochs or 1, 1)
                moves = round(float(trainer.estimated_stepping_batches) * share)
            if not isinstance(config.scheduler, ReduceLROnPlateau):  # which follows a metric
                for _step in range(moves):
                    config.scheduler.step()
