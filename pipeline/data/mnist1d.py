"""MNIST-1D: ten digits drawn as series of 40 steps (Greydanus and Kobak 2024)."""

import random
from dataclasses import dataclass

import numpy as np

from pipeline.data.shipped import Arrays, cached
from pipeline.data.source import Samples, Source

SHUFFLE_SEED = 0


@dataclass(kw_only=True, eq=False)
class MNIST1D(Source):
    """The paper's data set of 4,000 + 1,000 series of 40 steps, generated locally.

    Args:
        shuffled_positions: Whether to permute the steps, in the same way in all series. This
            removes what a network can gain from their order.

    Source: arXiv 2011.14439.
    """

    shuffled_positions: bool

    def read(self) -> Samples:
        """Make the series or read them from the cache."""
        arrays = cached("mnist1d", _make, made_by="mnist1d")
        inputs = arrays["inputs"]  # (rows, steps)
        rows, steps = inputs.shape
        if self.shuffled_positions:
            inputs = inputs[:, np.random.default_rng(SHUFFLE_SEED).permutation(steps)]
        return Samples(
            inputs=inputs[:, :, None],
            targets=arrays["targets"],
            task="multiclass",
            classes=tuple(str(digit) for digit in range(10)),
            features=("height",),
            test=np.arange(rows - int(arrays["test_rows"]), rows),
        )


def _make() -> Arrays:
    # make_dataset seeds both global generators; their states are restored afterwards.
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    try:
        from mnist1d.data import get_dataset_args, make_dataset

        dataset = make_dataset(get_dataset_args())
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
    return {
        "inputs": np.concatenate([dataset["x"], dataset["x_test"]]).astype(np.float32),
        "targets": np.concatenate([dataset["y"], dataset["y_test"]]).astype(np.int64),
        "test_rows": np.array(len(dataset["y_test"])),
    }
