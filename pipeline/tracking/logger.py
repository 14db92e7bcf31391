"""Lightning's door to the journal."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from pipeline.tracking.journal import Journal


class JournalLogger(Logger):
    """Writes what Lightning logs into the run's journal, by epochs counted from 1.

    Args:
        journal: The run's.
    """

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self._journal.folder.name

    @property
    def version(self) -> str:
        """No version: each run has a folder of its own."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self._journal.folder)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record values of one epoch; `step` counts batches, which nothing here is drawn over."""
        del step
        values = {key: value for key, value in metrics.items() if key != "epoch"}
        if "epoch" not in metrics:  # a callback of Lightning's own, such as LearningRateMonitor
            epoch = self._journal.latest_epoch() + 1
        elif all(key.startswith("test/") for key in values):  # of the last epoch
            epoch = max(int(metrics["epoch"]), 1)
        else:
            epoch = int(metrics["epoch"]) + 1
        self._journal.epoch(epoch, values)

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Record nothing: the whole configuration is on record from the beginning."""
