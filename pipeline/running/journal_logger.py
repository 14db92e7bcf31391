"""The logger of Lightning that fills a run's journal."""

from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning.loggers.logger import Logger

from pipeline.tracking.journal import Journal


class JournalLogger(Logger):
    """Writes the values of each epoch, and everything else that is logged, into the run's journal.

    Epochs are counted from 1 in the journal, and from 0 by Lightning.

    Args:
        journal: The journal. Of a resumed run, it may have epochs that are yet to be repeated.
        finished: Returns the number of epochs that have ended.
    """

    def __init__(self, journal: Journal, finished: Callable[[], int]) -> None:
        super().__init__()
        self._journal = journal
        self._finished = finished

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self._journal.folder.name

    @property
    def version(self) -> str:
        """An empty text: each run has its own folder."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self._journal.folder)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record the values of one epoch; `step`, which counts batches, is not recorded."""
        del step
        values = {key: value for key, value in metrics.items() if key != "epoch"}
        is_test = all(key.startswith("test/") for key in values)
        if "epoch" not in metrics:  # a callback of Lightning's own, such as LearningRateMonitor
            epoch = self._finished() + 1
        elif is_test:  # of the last epoch
            epoch = max(int(metrics["epoch"]), 1)
        else:
            epoch = int(metrics["epoch"]) + 1
        self._journal.epoch(epoch, values)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: the whole configuration is recorded at the start."""
