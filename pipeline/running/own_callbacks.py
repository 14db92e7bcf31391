"""Lightning's callbacks and the user's own, as far as a run stays true with them."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    LearningRateFinder,
    ModelCheckpoint,
    ProgressBar,
    StochasticWeightAveraging,
)

from pipeline.config.options import RunConfig
from pipeline.config.targets import TARGET, build, find
from pipeline.errors import ConfigError

REFUSED: Mapping[type[Callback], str] = {
    ModelCheckpoint: "a run keeps its weights itself; keep=best|last says which count",
    ProgressBar: "choose with verbose=0|1|2",
    StochasticWeightAveraging: "it changes the weights once all checkpoints are written; "
    "callbacks=ema averages them inside of the checkpoints",
    BatchSizeFinder: "it trains with another data.batch_size than the config says",
    LearningRateFinder: "it trains with another optimizer.lr than the config says",
}
"""Callbacks with which the record would not be true, each with the reason."""


def require_truthful(options: RunConfig) -> None:
    """Refuse callbacks that do what is the program's own, or what no record would show.

    Raises:
        ConfigError: One line for each.
    """
    problems = [
        f"callbacks.{name} is a {kind.__name__}, which is refused: {reason}."
        for name, target in options.callbacks.items()
        for kind, reason in REFUSED.items()
        if issubclass(find(target[TARGET]), kind)
    ]
    if problems:
        raise ConfigError(*problems)


def build_callback(target: Mapping[str, Any]) -> Callback:
    """Build a callback that was judged before."""
    filled: dict[str, object] = {}
    if issubclass(find(target[TARGET]), EarlyStopping):
        # Lightning looks at the end of every epoch, also of one that had no validation.
        filled["check_on_train_epoch_end"] = str(target.get("monitor")).startswith("train/")
    callback = build(target, **filled)
    assert isinstance(callback, Callback)
    return callback
