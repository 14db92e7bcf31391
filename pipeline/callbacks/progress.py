"""How far training is: a line an epoch, or a bar an epoch as well."""

from time import perf_counter
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from pipeline.callbacks.checkpoints import Keeper
from pipeline.terminal import console, duration, number

REFRESH_SECONDS = 0.1


class EpochLines(Checkpoint):
    """Prints one line of each finished epoch (`verbose=2`).

    A Checkpoint by its base class alone, so that it comes last and knows the best epoch.

    Args:
        monitor: Metric that decides which epoch is best.
        keeper: Knows the best epoch so far.
    """

    _tells_remaining = True

    def __init__(self, monitor: str, keeper: Keeper) -> None:
        super().__init__()
        self._monitor = monitor
        self._keeper = keeper
        self._console = console()
        self._started_at = 0.0
        self._first_epoch = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        del pl_module
        self._started_at = perf_counter()
        self._first_epoch = trainer.current_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the finished epoch."""
        del pl_module
        self._console.print(self._line(trainer), soft_wrap=True)

    def _line(self, trainer: pl.Trainer) -> str:
        """Say what the finished epoch came to, in one line of the terminal."""
        known = trainer.callback_metrics
        shown = dict.fromkeys(["train/loss", "val/loss", self._monitor])
        values = [f"{key} {number(float(known[key]))}" for key in shown if key in known]
        took = [duration(float(known["time/epoch"]))] if "time/epoch" in known else []
        remaining = [self.remaining(trainer, 1.0)] if self._tells_remaining else []
        # What a narrow terminal has no room for goes, the least important first.
        words = [self.epoch(trainer), *values]
        for last in ([*took, *self.best(), *remaining], [*took, *self.best()], self.best(), []):
            line = "  ".join(filter(None, [*words, *last]))
            if not self._console.is_terminal or len(line) <= self._console.width:
                break
        return line

    def epoch(self, trainer: pl.Trainer) -> str:
        """Name the running epoch, counted from 1."""
        total = str(trainer.max_epochs)
        return f"{trainer.current_epoch + 1:>{len(total)}}/{total}"

    def best(self) -> list[str]:
        """Say which epoch is the best so far."""
        if self._keeper.best_value is None:
            return []
        return [f"best {number(self._keeper.best_value)} ({self._keeper.best_epoch})"]

    def remaining(self, trainer: pl.Trainer, share_of_epoch: float) -> str:
        """Say how long the remaining epochs take at the speed so far."""
        done = trainer.current_epoch - self._first_epoch + share_of_epoch
        left = (trainer.max_epochs or 0) - self._first_epoch - done
        if not done or left <= 0:
            return ""
        return f"eta {duration((perf_counter() - self._started_at) / done * left)}"


class EpochBars(EpochLines):
    """Draws a bar of the running epoch below the lines of the finished ones (`verbose=1`).

    The bar is drawn ten times a second at most, whatever the number of steps.
    """

    _tells_remaining = False  # the bar does

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
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, unless it was drawn within the last tenth of a second."""
        del outputs, batch
        now = perf_counter()
        if self._progress is None or now - self._drawn_at < REFRESH_SECONDS:
            return
        self._drawn_at = now
        steps = int(trainer.num_training_batches)
        loss = f"loss {number(pl_module.latest_loss)}"
        words = [loss, *self.best(), self.remaining(trainer, (batch_idx + 1) / steps)]
        self._progress.update(
            self._progress.task_ids[0],
            description=self.epoch(trainer),
            completed=batch_idx + 1,
            total=steps,
            words="  ".join(filter(None, words)),
        )
        self._progress.refresh()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the bar away."""
        del trainer, pl_module
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Take the bar away, so that the error stands alone."""
        del trainer, pl_module, exception
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
