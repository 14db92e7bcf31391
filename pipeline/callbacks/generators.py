"""The state of every random number generator, as values that a checkpoint may hold."""

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint


def generator_states() -> dict[str, Any]:
    """Return the states of Python's, numpy's and torch's generators, GPUs included.

    Their long lists of numbers are tensors, which a file takes in a tenth of the time.
    """
    legacy = np.random.get_state(legacy=False)
    version, internal, gauss_next = random.getstate()
    key = torch.from_numpy(legacy["state"]["key"].astype(np.int64))
    return {
        "python": [version, torch.from_numpy(np.array(internal, dtype=np.int64)), gauss_next],
        "numpy": {**legacy, "state": {**legacy["state"], "key": key}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_generators(states: dict[str, Any]) -> None:
    """Put all generators back to where `generator_states` found them."""
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal.tolist()), gauss_next))
    inner = states["numpy"]["state"]
    key = inner["key"].cpu().numpy().astype(np.uint32)
    np.random.set_state({**states["numpy"], "state": {**inner, "key": key}})
    torch.set_rng_state(states["torch"].cpu())
    for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state.cpu(), index)


class OwnNoise(Checkpoint):
    """Gives each rank but the first random numbers of its own, for dropout say.

    They follow from the first rank's, which are those of the seed or of the checkpoint. A
    Checkpoint by its base class alone, so that it comes after what restores those.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the first rank's sequence."""
        del pl_module
        if trainer.global_rank:
            seed = int(torch.randint(2**31, ()))
            torch.manual_seed(seed + trainer.global_rank)
