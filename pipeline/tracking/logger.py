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
        self._journal.epoch(self._epoch(metrics), values)

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Record nothing: the whole configuration is on record from the beginning."""

    def _epoch(self, metrics: Mapping[str, float]) -> int:
        """Return the epoch in progress, or the last one where values come from a test."""
        if "epoch" not in metrics:  # a callback of Lightning's own, such as LearningRateMonitor
            return self._journal.latest_epoch() + 1
        finished = int(metrics["epoch"])
        is_test = all(key.startswith("test/") for key in metrics if key != "epoch")
        return max(finished, 1) if is_test else finished + 1
