"""Control charts of six kinds, drawn by the process of Alcock and Manolopoulos (1999)."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt

from pipeline.data.source import Array, Samples, Source

STEPS = 60
CLASSES = ("normal", "cyclic", "increasing", "decreasing", "upward shift", "downward shift")


@dataclass(kw_only=True, eq=False)
class SyntheticControl(Source):
    """Series of 60 steps around 30: noise alone, or with a cycle, a trend or a shift in it.

    Args:
        per_class: Series of each class in the training part, and as many in the test part.
        process_seed: Seed of the training rows; the test rows use the next one.
        normalise_each: Whether to give each series mean 0 and deviation 1, as in the UCR archive;
            classes then differ in shape only.

    Source: Alcock and Manolopoulos, Time-Series Similarity Queries Employing a Feature-Based
    Approach, 7th Hellenic Conference on Informatics, Ioannina 1999.
    """

    per_class: Annotated[int, Gt(0)]
    process_seed: Annotated[int, Ge(0)]
    normalise_each: bool

    def read(self) -> Samples:
        """Draw the series, (rows, 60, 1)."""
        labels = np.repeat(np.arange(len(CLASSES)), self.per_class)
        series = np.concatenate([draw(labels, seed=self.process_seed + part) for part in (0, 1)])
        if self.normalise_each:
            series -= series.mean(1, keepdims=True)
            series /= series.std(1, keepdims=True)
        return Samples(
            inputs=series[:, :, None],
            targets=np.tile(labels, 2),
            task="multiclass",
            classes=CLASSES,
            features=("value",),
            test=np.arange(len(labels), 2 * len(labels)),
        )


def draw(labels: Array, *, seed: int) -> Array:
    """Draw one series per label (rows,), float64 (rows, steps).

    Each series is 30 + 2 r(t) with r uniform in [-3, 3] at each step. Depending on the class,
    a sin(2πt/T), g t or a shift from t₃ on is added; a, T, g, the shift and t₃ are drawn once per
    series.
    """
    generator = np.random.default_rng(seed)
    column = (len(labels), 1)
    time = np.arange(1, STEPS + 1)
    noise = 30 + 2 * generator.uniform(-3, 3, (len(labels), STEPS))
    cycle = generator.uniform(10, 15, column) * np.sin(
        2 * np.pi * time / generator.uniform(10, 15, column)
    )
    trend = generator.uniform(0.2, 0.5, column) * time
    shift = generator.uniform(7.5, 20, column) * (time >= generator.uniform(20, 40, column))
    added = np.stack([np.zeros_like(noise), cycle, trend, -trend, shift, -shift])
    series: Array = noise + added[labels, np.arange(len(labels))]
    return series
