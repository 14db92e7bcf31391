"""Actions at the end of an epoch: record and show its values, and prune the trial of a study."""

import re
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import Logger
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch import Tensor, nn

from pipeline.base.errors import DivergedError
from pipeline.base.findings import Vitals
from pipeline.base.terminal import console, duration, rounded
from pipeline.callbacks.checkpoint_file import form_problem
from pipeline.callbacks.checkpoints import Keeper
from pipeline.data.preparation.schema import as_float64
from pipeline.modules.task import Task
from pipeline.networks.layers import LearnedPool

REFRESH_SECONDS = 0.1
_RECURRENT = re.compile(r"weight_(ih|hh|hr)_l(\d+)(_reverse)?")
_OF = {"ih": "input", "hh": "state", "hr": "projection"}


class OnceAnEpoch(pl.Callback):
    """Base of callbacks that do nothing at a batch.

    Lightning calls the hooks of a batch only where they are callable: what surrounds the call of an
    empty one takes longer than an addition in torch.
    """

    on_train_batch_start: Any = None
    on_train_batch_end: Any = None


class EpochRecord(OnceAnEpoch, Checkpoint):
    """Passes all values of a finished epoch to the run's logger and to those of the Trainer.

    It is a Checkpoint only so that Lightning calls this last, after everything is logged.

    Args:
        logger: The logger of the run; with `fast_dev_run` the Trainer does not have it.
        reached: Called with the number of the epoch, counted from 1, and its values, after the
            loggers; `None` = no call.
    """

    def __init__(
        self, logger: Logger, reached: Callable[[int, Mapping[str, float]], None] | None
    ) -> None:
        super().__init__()
        self._logger = logger
        self._reached = reached
        self.history: dict[int, dict[str, float]] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the values of the epoch."""
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        # One copy to the host for all of them.
        tensors = [as_float64(value.to(pl_module.device)) for value in metrics.values()]
        values = dict(zip(metrics, torch.stack(tensors).tolist(), strict=True))
        self.history[trainer.current_epoch + 1] = values
        for logger in dict.fromkeys([self._logger, *trainer.loggers]):
            logger.log_metrics({**values, "epoch": trainer.current_epoch}, trainer.global_step)
            logger.save()  # as Lightning does
        if self._reached is not None:
            self._reached(trainer.current_epoch + 1, values)


class PrunedError(Exception):
    """The trial was pruned."""


class Pruning(OnceAnEpoch, Checkpoint):
    """Asks `prunes` at the end of each epoch, counted from 1, whether training ends there.

    It is a Checkpoint only so that Lightning calls this last, with the epoch on record.
    """

    def __init__(self, prunes: Callable[[int], bool]) -> None:
        super().__init__()
        self._prunes = prunes

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Call `prunes`, and end the training if it returns true.

        Raises:
            PrunedError: `prunes` returned true. `trainer.should_stop` would wait for `min_epochs`.
        """
        try:
            answer = self._prunes(trainer.current_epoch + 1)
        except Exception:
            trainer.strategy.broadcast(True)  # so that the other ranks end here too
            raise
        if trainer.strategy.broadcast(answer):  # the first rank decides for all
            raise PrunedError


class VitalSigns(OnceAnEpoch):
    """Keeps the gradient norms and updates of the weights of each epoch, as the task measured them.

    An epoch that ended by divergence counts as far as its gradients were finite.
    """

    def __init__(self) -> None:
        self._layers: tuple[str, ...] = ()
        self._sizes: tuple[int, ...] = ()
        self._first: Tensor | None = None
        self._epochs: dict[int, Tensor] = {}

    def vitals(self) -> Vitals | None:
        """Return the values of all epochs so far; `None` before the first step."""
        if self._first is None or not self._epochs:
            return None
        rows = torch.stack(list(self._epochs.values())).numpy()  # (epochs, 2, layers)
        return Vitals(
            layers=self._layers,
            epochs=torch.tensor(list(self._epochs)).numpy(),
            gradients=rows[:, 0],
            updates=rows[:, 1],
            first=self._first.numpy(),
            sizes=torch.tensor(self._sizes).numpy(),
        )

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Keep the values of an epoch that diverged."""
        if isinstance(exception, DivergedError):  # after another error the device may be unusable
            self.on_train_epoch_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the values of all epochs, for a resumed run."""
        return {
            "layers": list(self._layers),
            "sizes": list(self._sizes),
            "first": self._first,
            "epochs": list(self._epochs),
            "values": torch.stack(list(self._epochs.values())) if self._epochs else None,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the values that `state_dict` returned.

        Raises:
            ValueError: They have another form.
        """
        layers = len(state_dict["layers"])
        epochs = len(state_dict["epochs"])
        usual = {
            "layers": [""] * layers,
            "sizes": [0] * layers,
            "epochs": [0] * epochs,
            "first": None if state_dict["first"] is None else torch.zeros(layers),
            "values": torch.zeros(epochs, 2, layers) if epochs else None,
        }
        problem = form_problem(usual, state_dict, "VitalSigns")
        if problem is not None:
            raise ValueError(problem)
        self._layers = tuple(state_dict["layers"])
        self._sizes = tuple(state_dict["sizes"])
        self._first = state_dict["first"]
        values = state_dict["values"]
        values_of_epochs = () if values is None else values.unbind()
        self._epochs = dict(zip(state_dict["epochs"], values_of_epochs, strict=True))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the epoch's values."""
        if not isinstance(pl_module, Task):
            return
        statistics = pl_module.watch.take()
        if statistics is None:
            return
        names = layer_names(pl_module.network)
        layers = []
        sizes = []
        indices = []
        for index, weight in enumerate(statistics.weights):
            if id(weight) in names:
                layers.append(names[id(weight)])
                sizes.append(weight.numel())
                indices.append(index)
        if tuple(layers) != self._layers:  # other weights have gradients than before
            self._layers = tuple(layers)
            self._sizes = tuple(sizes)
            self._first = None
            self._epochs = {}
        # One copy to the host for all of them.
        values = torch.stack([statistics.gradients, statistics.updates, statistics.first])
        values = values[:, indices].detach().double().cpu()
        self._epochs[trainer.current_epoch + 1] = values[:2].clone()
        if self._first is None:
            # A run resumed from one without these values has not seen the very first step.
            has_first = trainer.current_epoch == 0
            self._first = values[2].clone() if has_first else torch.full_like(values[2], torch.nan)


def layer_names(network: nn.Module) -> Mapping[int, str]:
    """Return the name of each weight of a network by its `id`, from the input to the output.

    A weight has the name of its module. Weights of recurrent layers also state what they apply to:
    `layers.layer1.recurrent (state)`. Weights of a learned pooling are left out.
    """
    labels = {}
    for module_name, module in network.named_modules():
        if isinstance(module, LearnedPool):
            continue
        for name, weight in module.named_parameters(recurse=False):
            if weight.ndim > 1:
                labels[id(weight)] = _label(module_name, name)
    return labels


def _label(module: str, name: str) -> str:
    if name == "weight" and module:
        return module
    recurrent = _RECURRENT.fullmatch(name)
    if recurrent is None:
        return f"{module}.{name}" if module else name
    kind, layer, backwards = recurrent.groups()
    words = _OF[kind]
    if layer != "0":
        words += f" {int(layer) + 1}"
    if backwards:
        words += ", backwards"
    return f"{module} ({words})".strip()


# ── progress ──────────────────────────────────────────────────────────────────────────────────────


class EpochLines(OnceAnEpoch, Checkpoint):
    """Prints one line for each finished epoch (`verbose=2`).

    It is a Checkpoint only so that Lightning calls this last, when `keeper` knows the best epoch.
    """

    _tells_remaining = True

    def __init__(self, monitor: str, keeper: Keeper) -> None:
        super().__init__()
        self._monitor = monitor
        self._keeper = keeper
        self._console = console()
        self._started_at = 0.0
        self._first_epoch = 0

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Start the clock."""
        self._started_at = perf_counter()
        self._first_epoch = trainer.current_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Print the finished epoch."""
        self._console.print(self._line(trainer), soft_wrap=True)

    def _line(self, trainer: pl.Trainer) -> str:
        """Return the values of the finished epoch in one line of the terminal."""
        metrics = trainer.callback_metrics
        words = [self.epoch(trainer)]
        for key in dict.fromkeys(["train/loss", "val/loss", self._monitor]):
            if key in metrics:
                words.append(f"{key} {rounded(float(metrics[key])):6}")
        seconds = [duration(float(metrics["time/epoch"]))] if "time/epoch" in metrics else []
        remaining = [self.remaining(trainer, 1.0)] if self._tells_remaining else []
        best = self.best()
        # A narrow terminal leaves out words, the least important first.
        for ending in ([*seconds, *best, *remaining], [*seconds, *best], best, []):
            line = "  ".join(filter(None, [*words, *ending])).rstrip()
            if not self._console.is_terminal or len(line) <= self._console.width:
                break
        return line

    def epoch(self, trainer: pl.Trainer) -> str:
        """Return the number of the running epoch, counted from 1, and the total."""
        total = str(trainer.max_epochs)
        return f"{trainer.current_epoch + 1:>{len(total)}}/{total}"

    def best(self) -> list[str]:
        """Return the words for the best epoch so far; empty if there is none."""
        if self._keeper.best_value is None:
            return []
        return [f"best {rounded(self._keeper.best_value)} ({self._keeper.best_epoch})"]

    def remaining(self, trainer: pl.Trainer, share_of_epoch: float) -> str:
        """Return how long the remaining epochs take at the speed so far; empty if unknown."""
        epochs_trained = trainer.current_epoch - self._first_epoch + share_of_epoch
        epochs_left = (trainer.max_epochs or 0) - self._first_epoch - epochs_trained
        if not epochs_trained or epochs_left <= 0:
            return ""
        seconds = perf_counter() - self._started_at
        return f"eta {duration(seconds / epochs_trained * epochs_left)}"


class EpochBars(EpochLines):
    """Draws a bar for the running epoch below the lines of the finished ones (`verbose=1`)."""

    _tells_remaining = False  # the bar shows it

    def __init__(self, monitor: str, keeper: Keeper) -> None:
        super().__init__(monitor, keeper)
        self._progress: Progress | None = None
        self._drawn_at = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        super().on_train_start(trainer, pl_module)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
            console=self._console,
            auto_refresh=False,
            transient=True,
        )
        self._progress.add_task(self.epoch(trainer), total=None, words="")
        self._progress.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, _: Any, __: Any, batch_idx: int
    ) -> None:
        """Move the bar, unless it was drawn within the last tenth of a second."""
        now = perf_counter()
        if self._progress is None or now - self._drawn_at < REFRESH_SECONDS:
            return
        self._drawn_at = now
        steps = int(trainer.num_training_batches)
        steps_trained = batch_idx + 1
        loss = f"loss {rounded(pl_module.latest_loss)}"
        words = [loss, *self.best(), self.remaining(trainer, steps_trained / steps)]
        self._progress.update(
            self._progress.task_ids[0],
            description=self.epoch(trainer),
            completed=steps_trained,
            total=steps,
            words="  ".join(filter(None, words)),
        )
        self._progress.refresh()

    def on_train_end(self, *_: Any) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def on_exception(self, *_: Any) -> None:
        """Remove the bar before the error is printed."""
        self.on_train_end()
