"""Ends a training that is not worth going on with."""

from collections.abc import Callable

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint


class PrunedError(Exception):
    """The training was ended because others did better by now."""


class Rungs(Checkpoint):
    """Asks at the end of each epoch, counted from 1, whether to prune.

    A Checkpoint by its base class alone, so that it comes last and the epoch is on record.

    Args:
        prunes: Takes the epoch and says whether training ends here.
    """

    def __init__(self, prunes: Callable[[int], bool]) -> None:
        super().__init__()
        self._prunes = prunes

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask.

        Raises:
            PrunedError: The answer was yes. The Trainer's own wish to stop would wait until
                `min_epochs` have passed.
        """
        del pl_module
        try:
            answer = self._prunes(trainer.current_epoch + 1)
        except Exception:
            trainer.strategy.broadcast(True)  # the other ranks end here, too
            raise
        if trainer.strategy.broadcast(answer):  # that of the first rank is that of all
            raise PrunedError
