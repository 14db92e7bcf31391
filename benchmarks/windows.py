"""1,000 training windows of 12 steps of one value, and 250 for validation."""

import numpy as np

from pipeline.data.source import Samples, Source


def windows() -> tuple[np.ndarray, np.ndarray]:
    """Return windows (1350, 12, 1) of a noisy sine and the value that follows each."""
    generator = np.random.default_rng(0)
    series = np.sin(np.arange(1362) / 5) + 0.1 * generator.normal(size=1362)
    inputs = np.lib.stride_tricks.sliding_window_view(series, 12)[:1350, :, None]
    return inputs.astype(np.float32), series[12:1362, None].astype(np.float32)


class Windows(Source):
    """The windows as a source: the last 100 rows are for the test."""

    def read(self) -> Samples:
        """Return all rows."""
        inputs, targets = windows()
        return Samples(
            inputs=inputs,
            targets=targets,
            task="regression",
            classes=(),
            features=("value",),
            units="",
            test=np.arange(1250, 1350),
            groups=None,
        )
