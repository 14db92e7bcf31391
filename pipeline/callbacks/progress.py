"""Progress of a training in a terminal: a line for each epoch, and a bar for the running one."""

from time import perf_counter
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from pipeline.base.terminal import console, duration, rounded, shown_verbosity
from pipeline.callbacks.checkpoints import Keeper
from pipeline.callbacks.once_an_epoch import OnceAnEpoch

REFRESH_SECONDS = 0.1


class EpochLines(OnceAnEpoch, Checkpoint):
    """Prints one line for each finished epoch (`verbose=2`).

    It is a Checkpoint only so that Lightning starts it last, once a restored state was checked.
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

    def print_epoch(self, trainer: pl.Trainer) -> None:
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
        if self._keeper.best.value is None:
            return []
        return [f"best {rounded(self._keeper.best.value)} ({self._keeper.best.epoch})"]

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


def progress_of(monitor: str, keeper: Keeper, *, verbose: int | None) -> EpochLines | None:
    """Return what shows the epochs in the terminal; `None` = nothing is shown."""
    verbosity = shown_verbosity(verbose)
    if verbosity == 0:
        return None
    kind = EpochBars if verbosity == 1 else EpochLines
    return kind(monitor, keeper)
