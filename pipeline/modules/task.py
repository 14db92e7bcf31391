"""Training and evaluation of a network, and the losses of classification and regression."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from time import perf_counter
from types import MappingProxyType
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pipeline.base.errors import DivergedError
from pipeline.data.preparation.loader import Shared
from pipeline.data.preparation.schema import as_float64
from pipeline.modules.epoch import Algorithm, Clipper, EpochMean, EpochOutputs, WeightWatch
from pipeline.modules.short_steps import ShortSteps, can_be_short, set_step_counts
from pipeline.networks.inspection import probabilities
from pipeline.scoring.scores import Scores

#: Inputs (batch, *input_shape) and targets (batch, …), or a rank's share of them.
Batch = tuple[Tensor, Tensor] | Shared

#: Attributes that are set in each step and are neither parameters nor modules. Lightning sets the
#: first around each of its hooks, twenty times a step.
PLAIN = frozenset(("_current_fx_name", "_lr"))
#: Number of outputs whose loss is computed at once in float64.
LOSS_NUMBERS = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimization:
    """Optimizer and schedule.

    Args:
        optimizer: Builds the optimizer for some parameters.
        scheduler: Builds the schedule for an optimizer and its total number of steps; `None` = the
            learning rate is constant.
        interval: Whether the schedule moves after each `epoch` or each `step`.
        monitor: Metric that a `ReduceLROnPlateau` follows.
    """

    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    scheduler: Callable[[Optimizer, int], LRScheduler] | None
    interval: Literal["epoch", "step"] = "epoch"
    monitor: str = "val/loss"


class Task(pl.LightningModule):
    """A network with its loss and its metrics, trained and evaluated by Lightning.

    Args:
        network: Maps inputs (batch, *input_shape) to outputs (batch, outputs).
        scores: Metrics of a whole part, from `pipeline.scoring.scores`; they may be replaced later.
        optimization: Optimizer and schedule.

    After an epoch, `trainer.callback_metrics` and `trainer.logged_metrics` hold its values as
    `stage/metric`. After a test, `test_outputs` holds the final outputs and targets of all test
    rows, in order.
    """

    # Lightning calls these hooks only where they are callable; calling empty ones takes time.
    on_train_batch_start: Any = None
    on_train_batch_end: Any = None

    offsets: Mapping[str, Tensor | None] = MappingProxyType({})
    """Offsets of the rows of each part, `val` or `test`; `None` = the part has no offsets."""

    def __init__(self, network: nn.Module, *, scores: Scores, optimization: Optimization) -> None:
        super().__init__()
        self.network = network
        self.scores = scores
        self._optimization = optimization
        #: Takes the steps of a fit; `None` = Lightning does, by automatic optimization.
        self._short_steps: ShortSteps | None = None
        #: State of the schedule before the first step; empty = there is no schedule.
        self.fresh_schedule: Mapping[str, Any] = {}
        self._plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None
        self._clipper = Clipper()
        self._training_loss = EpochMean()
        self._outputs = EpochOutputs()
        self._lr = 0.0
        self._epoch_started_at = 0.0
        self.test_outputs: tuple[Tensor, Tensor] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        # torch's own method checks every time whether the value is a parameter or a module.
        if name in PLAIN:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the trainer and its callbacks out of copies, as Lightning does."""
        return {**super().__getstate__(), "_short_steps": None}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of outputs (rows, outputs) for targets (rows, …)."""
        raise NotImplementedError

    def exact_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss over all rows of a part, computed in float64 in blocks of rows."""
        rows = max(1, LOSS_NUMBERS // outputs[:1].numel())
        losses = []
        weights = []
        for start in range(0, len(outputs), rows):
            block = as_float64(outputs[start : start + rows])
            true = targets[start : start + rows]
            true = as_float64(true) if true.is_floating_point() else true.to(block.device)
            losses.append(self.loss(block, true))
            weight = torch.as_tensor(self.weight(true))
            weights.append(as_float64(weight).to(block.device))
        shares = torch.stack(weights)
        return torch.stack(losses) @ (shares / shares.sum())

    def weight(self, targets: Tensor) -> Tensor | float:
        """Return the total weight of rows in a batch's mean loss, from their targets (rows, …)."""
        return float(len(targets))

    def to_scores(
        self, outputs: Tensor, targets: Tensor, offsets: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return outputs and targets in the form that metrics take; offsets are per row."""
        raise NotImplementedError

    def measured(
        self, outputs: Tensor, targets: Tensor, offsets: Tensor | None
    ) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
        """Return loss and metrics of a part's rows by name, and the result of `to_scores`."""
        loss = self.exact_loss(outputs, targets)
        final = self.to_scores(outputs, targets, offsets)
        return {"loss": loss, **self.scores(*final)}, final

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (batch, *input_shape) to outputs (batch, outputs)."""
        outputs: Tensor = self.network(inputs)
        return outputs

    @property
    def _ranks(self) -> int:
        """Number of processes that train together."""
        return int(self.trainer.world_size)

    # ── training ────────────────────────────────────────────────────────────────────────────

    def on_fit_start(self) -> None:
        """Choose manual or automatic optimization, after Lightning's checks."""
        is_short = can_be_short(self.trainer)
        self._short_steps = ShortSteps(self, self.trainer) if is_short else None
        self.automatic_optimization = self._short_steps is None

    def on_fit_end(self) -> None:
        """Return to automatic optimization, so that Lightning's checks apply to the next fit."""
        self._short_steps = None
        self.automatic_optimization = True

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Return a batch that is already on the device unchanged."""
        if batch[0].device == device:
            return batch
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved

    def on_train_epoch_start(self) -> None:
        """Start the clock, and clear the values of the previous epoch."""
        self._epoch_started_at = perf_counter()
        self.trainer.callback_metrics.clear()
        steps = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        self.watch.pace(step=self.trainer.global_step, steps=steps)

    def training_step(self, batch: Batch) -> Tensor:
        """Return the mean loss of a batch; in manual optimization, also take the step."""
        if isinstance(batch, Shared):
            return self._shared_step(batch)
        inputs, targets = batch
        loss = self.loss(self.network(inputs), targets)
        self._training_loss.add(loss.detach(), len(targets))
        return loss if self._short_steps is None else self._short_steps.descend(loss)

    def _shared_step(self, batch: Shared) -> Tensor:
        """Return a rank's loss, weighted so that the mean over the ranks is the batch's loss."""
        outputs = self.network(batch.inputs)
        if len(batch.targets):
            share = self.weight(batch.targets) / self.weight(batch.batch_targets)
            loss = self.loss(outputs, batch.targets) * share
        else:
            loss = outputs.sum() * 0.0  # no rows; DDP needs gradients from each rank
        self._training_loss.add(loss.detach(), len(batch.batch_targets))
        return loss * self._ranks

    # Lightning inspects the signature at each step; an attribute makes that cheap.
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined] # read by inspect

    @property
    def watch(self) -> WeightWatch:
        """Recorder of the gradients and updates of each weight."""
        return self._clipper.watch

    @property
    def latest_loss(self) -> float:
        """Loss of the newest training batch; reading it waits for the device."""
        newest = self._training_loss.last
        return float("nan") if newest is None else float(newest)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients as configured, and record their norms."""
        clipped: list[nn.Parameter] = []
        for group in optimizer.param_groups:
            clipped += group["params"]
        self._lr = optimizer.param_groups[0]["lr"]
        is_by_value = gradient_clip_val is not None and gradient_clip_algorithm == "value"
        algorithm: Algorithm = "value" if is_by_value else "norm"
        self._clipper.clip(clipped, threshold=gradient_clip_val, algorithm=algorithm)

    def on_train_epoch_end(self) -> None:
        """Publish the values of the epoch.

        Raises:
            DivergedError: The training loss is not finite.
        """
        values = {
            "train/loss": self._training_loss.compute(ranks=self._ranks),
            **self._clipper.compute(),
        }
        self._require_finite("train/loss", values["train/loss"])
        values["lr"] = torch.tensor(self._lr)  # of the last step: the schedule has moved since
        values["time/epoch"] = torch.tensor(perf_counter() - self._epoch_started_at)
        self._publish(values)
        # Lightning steps a plateau schedule only after the checkpoint of the epoch is written and
        # loses its state on resume, so a resumed run would differ: it is stepped here instead.
        if self._plateau is None:
            return
        if self._plateau_state is not None:
            self._plateau.load_state_dict(self._plateau_state)
            self._plateau_state = None
        followed = self.trainer.callback_metrics.get(self._optimization.monitor)
        if followed is not None:
            self._plateau.step(float(followed))

    # ── evaluation ──────────────────────────────────────────────────────────────────────────

    def on_validation_start(self) -> None:
        """Give all ranks the same buffers, since running means differ between ranks."""
        if self._ranks > 1:
            for buffer in self.network.buffers():
                distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch) -> None:
        """Keep a batch's outputs until the end of the epoch or the test."""
        targets = batch.batch_targets if isinstance(batch, Shared) else batch[1]
        self._outputs.add(self.network(batch[0]), targets)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Publish the loss and the metrics of the validation part.

        Raises:
            DivergedError: The validation loss is not finite.
        """
        values = self._evaluate("val")
        self._require_finite("val/loss", values["val/loss"])
        self._publish(values)

    def on_test_epoch_end(self) -> None:
        """Publish the loss and the metrics of the test part."""
        self._publish(self._evaluate("test"))

    def _publish(self, values: Mapping[str, Tensor]) -> None:
        # `self.log_dict` gives callbacks the same values, but takes 0.13 ms per value in Lightning
        # 2.6: 200 epochs on iris take 1.5 s with it and 0.9 s without. `EpochRecord` passes the
        # values of a finished epoch to the loggers.
        self.trainer.callback_metrics.update(values)
        self.trainer.logged_metrics.update(values)

    def _evaluate(self, stage: str) -> dict[str, Tensor]:
        outputs, targets = self._outputs.take(ranks=self._ranks)
        offsets = self.offsets.get(stage)
        if offsets is not None:
            offsets = offsets[: len(targets)]
        scores, (final_outputs, final_targets) = self.measured(outputs, targets, offsets)
        if stage == "test":
            self.test_outputs = (final_outputs.cpu(), final_targets.cpu())
        values = {f"{stage}/{key}": value for key, value in scores.items()}
        if self._ranks == 1:
            return values
        # All ranks use the values of the first rank, so that they take the same decisions.
        shared = torch.stack([value.double() for value in values.values()])
        distributed.broadcast(shared, 0)
        for key, value in zip([*values], shared, strict=True):
            values[key] = value.to(values[key].dtype)
        return values

    def _require_finite(self, key: str, value: Tensor) -> None:
        if not torch.isfinite(value):
            raise DivergedError(
                f"{key} is {float(value)} in epoch {self.current_epoch + 1}: training diverged; "
                "try a smaller optimizer.lr, or trainer.gradient_clip_val=1.0"
            )

    # ── optimization ────────────────────────────────────────────────────────────────────────

    def configure_optimizers(self) -> Any:
        """Build the optimizer, and the schedule if there is one."""
        optimizer = self._optimization.optimizer(self.network.parameters())
        if self._optimization.scheduler is None:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = self._optimization.scheduler(optimizer, steps)
        self.fresh_schedule = deepcopy(scheduler.state_dict())
        if isinstance(scheduler, ReduceLROnPlateau):
            self._plateau = scheduler
            return optimizer
        schedule = {"scheduler": scheduler, "interval": self._optimization.interval}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def restored_schedule(self) -> Any:
        """Return the state of the schedule that a checkpoint has given; empty = there is none."""
        if self._plateau is not None:
            return self._plateau_state or {}
        configs = self.trainer.lr_scheduler_configs
        return configs[0].scheduler.state_dict() if configs else {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state of a plateau schedule, which Lightning does not know."""
        if self._plateau is not None:
            checkpoint["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Set the step counts; remember the state of a plateau schedule until it is used."""
        set_step_counts(checkpoint)
        self._plateau_state = checkpoint.get("plateau")


class Classifier(Task):
    """A network that predicts classes.

    Args:
        network: Maps inputs to a single logit (two classes) or to one logit per class.
        class_weights: Weight of each class in the loss, (classes,); `None` = equal weights.
        label_smoothing: Share of the target that is spread over all classes, 0 to 1.
        options: Further arguments of `Task`.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        *,
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self._label_smoothing = label_smoothing

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of logits (rows, outputs) for classes (rows,)."""
        weights = self.class_weights
        smoothing = self._label_smoothing
        if outputs.shape[1] == 1:
            logits = outputs.squeeze(1)
            if weights is None:
                smoothed = targets.to(logits.dtype) * (1 - smoothing) + smoothing / 2
                return functional.binary_cross_entropy_with_logits(logits, smoothed)
            # One logit is equivalent to two logits of which the first is 0.
            outputs = torch.stack([torch.zeros_like(logits), logits], dim=1)
        if weights is not None:
            weights = weights.to(outputs)
        return functional.cross_entropy(outputs, targets, weight=weights, label_smoothing=smoothing)

    def weight(self, targets: Tensor) -> Tensor | float:
        """Return the total weight of rows in the mean loss: the sum of their classes' weights."""
        if self.class_weights is None:
            return super().weight(targets)
        return self.class_weights.to(targets.device)[targets].sum()

    def to_scores(self, outputs: Tensor, targets: Tensor, _: object) -> tuple[Tensor, Tensor]:
        """Return probabilities, (rows,) of the positive class or (rows, classes), and classes."""
        return probabilities(outputs), targets


class Regressor(Task):
    """A network that predicts values.

    Args:
        network: Maps inputs to scaled values (batch, outputs).
        to_units: Maps scaled values (rows, outputs), and offsets of the same shape or `None`, to
            values in the target's units.
        offsets: Values to add to the rows of the parts `val` and `test` after unscaling, in order.
        options: Further arguments of `Task`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        to_units: Callable[[Tensor, Tensor | None], Tensor],
        offsets: Mapping[str, Tensor | None],
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self._to_units = to_units
        self.offsets = offsets

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error of scaled values (rows, outputs).

        Raises:
            ValueError: The shapes differ; broadcasting would silently give a wrong number.
        """
        if outputs.shape != targets.shape:
            raise ValueError(
                f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} differ in shape"
            )
        return functional.mse_loss(outputs, targets)

    def to_scores(
        self, outputs: Tensor, targets: Tensor, offsets: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return predicted and true values (rows, outputs) in the target's units, float64."""
        return self._to_units(outputs, offsets), self._to_units(targets, offsets)
