"""Base of the callbacks that act once an epoch."""

from typing import Any

import pytorch_lightning as pl


class OnceAnEpoch(pl.Callback):
    """Base of callbacks that do nothing at a batch.

    Lightning calls the hooks of a batch only where they are callable: what surrounds the call of an
    empty one takes longer than an addition in torch.
    """

    on_train_batch_start: Any = None
    on_train_batch_end: Any = None
