"""Tables with a known fault: rare classes, pure noise, a column that tells the target, ….

    python -m benchmarks.doctor_tables FOLDER

Each is drawn from its own seed, so that it is the same wherever it is made.
"""

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Made = tuple[list[str], list[Sequence[Any]]]


def _named(inputs: Array, targets: Sequence[Any], names: Sequence[str] = ()) -> Made:
    columns = [*names, *(f"x{number}" for number in range(inputs.shape[1] - len(names)))]
    rows: list[Sequence[Any]] = []
    for row, target in zip(inputs, targets, strict=True):
        rows.append([*map(float, row), target])
    return [*columns, "target"], rows


def _rare(seed: int, *, rows: int, columns: int, shares: Sequence[float], shift: float) -> Made:
    """Classes whose means lie `shift` deviations apart along columns of their own."""
    draw = np.random.default_rng(seed)
    targets = draw.choice(len(shares), size=rows, p=shares)
    inputs = draw.normal(size=(rows, columns))
    inputs[np.arange(rows), targets % columns] += shift * (targets > 0)
    return _named(inputs, [f"kind {target}" for target in targets])


def _noise(seed: int, *, rows: int, columns: int, classes: int) -> Made:
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(rows, columns))
    if classes:
        return _named(inputs, [f"kind {one}" for one in draw.integers(classes, size=rows)])
    return _named(inputs, draw.normal(size=rows).tolist())


def _line(seed: int, *, rows: int, columns: int, noise: float, classes: bool) -> Made:
    """A target that is a weighted sum of all columns."""
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(rows, columns))
    sums = inputs @ draw.normal(size=columns) / np.sqrt(columns)
    sums = sums + noise * draw.normal(size=rows)
    return _named(inputs, [f"kind {int(one > 0)}" for one in sums] if classes else sums.tolist())


def _wave(seed: int) -> Made:
    """A wave of which a line tells a quarter."""
    draw = np.random.default_rng(seed)
    inputs = draw.uniform(-1, 1, size=(800, 2))
    waves = np.cos(6 * inputs[:, 0]) * np.cos(6 * inputs[:, 1])
    return _named(inputs, (waves + 0.5 * inputs[:, 0] + 0.05 * draw.normal(size=800)).tolist())


def _leak(seed: int, tells: Callable[[Array, np.random.Generator], Array], name: str) -> Made:
    """A target that three columns explain in part, and one tells."""
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(600, 8))
    hidden = inputs[:, 1:4].sum(1) / 2 + 1.5 * draw.normal(size=600)
    inputs[:, 0] = tells(hidden, draw)
    return _named(inputs, hidden.tolist(), (name,))


def _leak_classes(seed: int, *, classes: int, name: str) -> Made:
    def sorted_into(values: Array) -> Array:
        edges = np.quantile(values, np.linspace(0, 1, classes + 1)[1:-1])
        return np.searchsorted(edges, values)

    names, rows = _leak(seed, lambda hidden, _: 3.0 * sorted_into(hidden), name)
    kinds = sorted_into(np.array([row[-1] for row in rows]))
    return names, [[*row[:-1], f"kind {kind}"] for row, kind in zip(rows, kinds, strict=True)]


def _walk(seed: int) -> Made:
    draw = np.random.default_rng(seed)
    return ["value"], [[float(one)] for one in np.cumsum(draw.normal(size=600))]


def _product(seed: int) -> Made:
    """Classes by the sign of a product of two columns, of which a line tells nothing."""
    draw = np.random.default_rng(seed)
    inputs = draw.uniform(-1, 1, size=(1200, 3))
    return _named(inputs, [f"kind {int(one > 0)}" for one in inputs[:, 0] * inputs[:, 1]])


def _cosine(seed: int) -> Made:
    draw = np.random.default_rng(seed)
    inputs = draw.uniform(-1, 1, size=(900, 2))
    return _named(inputs, (np.cos(4 * inputs[:, 0]) + 0.1 * draw.normal(size=900)).tolist())


def _two_leaks(seed: int) -> Made:
    """A target that is the difference of two columns."""
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(900, 7))
    hidden = inputs[:, 2:5].sum(1) / 2 + 1.5 * draw.normal(size=900)
    inputs[:, 0] = hidden + inputs[:, 1]
    return _named(inputs, hidden.tolist(), ("gross", "tax"))


def _quiet_days(seed: int) -> Made:
    """Classes in order of time, one of which does not occur from day 600 to day 750."""
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(1000, 4))
    sums = inputs.sum(1) + 0.5 * draw.normal(size=1000)
    is_turned = np.abs(np.arange(1000) - 675) <= 75
    signs = np.where(is_turned & (sums > 0), -1, 1)
    labels = [f"kind {int(one > 0)}" for one in signs * sums]
    rows = np.column_stack([np.arange(1000), signs[:, None] * inputs])
    return _named(rows, labels, ("day",))


def _copies(seed: int) -> Made:
    """Random labels of rows that occur five times, with the number of each row."""
    draw = np.random.default_rng(seed)
    inputs = np.column_stack([np.arange(200), draw.normal(size=(200, 6))])
    labels = [f"kind {one}" for one in draw.integers(2, size=200)]
    return _named(np.tile(inputs, (5, 1)), labels * 5, ("row",))


TABLES: dict[str, Callable[[], Made]] = {
    "rare": lambda: _rare(1, rows=1600, columns=6, shares=(0.95, 0.05), shift=1.0),
    "rare_three": lambda: _rare(2, rows=1600, columns=6, shares=(0.88, 0.06, 0.06), shift=1.5),
    "rarer": lambda: _rare(3, rows=2400, columns=12, shares=(0.96, 0.04), shift=1.5),
    "rare_four": lambda: _rare(4, rows=2000, columns=8, shares=(0.85, 0.05, 0.05, 0.05), shift=1.5),
    "noise_two": lambda: _noise(5, rows=1500, columns=6, classes=2),
    "noise_number": lambda: _noise(6, rows=1500, columns=6, classes=0),
    "noise_five": lambda: _noise(7, rows=2000, columns=10, classes=5),
    "line": lambda: _line(8, rows=750, columns=60, noise=0.3, classes=False),
    "line_classes": lambda: _line(9, rows=3000, columns=80, noise=0.2, classes=True),
    "line_wide": lambda: _line(10, rows=600, columns=40, noise=0.4, classes=False),
    "few_rows": lambda: _line(11, rows=300, columns=60, noise=0.5, classes=True),
    "more_rows": lambda: _line(11, rows=6000, columns=60, noise=0.5, classes=True),
    "few_numbers": lambda: _line(19, rows=160, columns=50, noise=0.7, classes=False),
    "more_numbers": lambda: _line(19, rows=6000, columns=50, noise=0.7, classes=False),
    "rarest": lambda: _rare(20, rows=2400, columns=8, shares=(0.97, 0.03), shift=1.5),
    "rare_five": lambda: _rare(
        21, rows=2400, columns=10, shares=(0.8, 0.05, 0.05, 0.05, 0.05), shift=1.5
    ),
    "hard": lambda: _line(12, rows=1000, columns=8, noise=0.5, classes=True),
    "wave": lambda: _wave(13),
    "leak_class": lambda: _leak_classes(14, classes=2, name="code"),
    "leak_three": lambda: _leak_classes(15, classes=3, name="ward"),
    "leak_number": lambda: _leak(16, lambda hidden, _: 1.8 * hidden + 32, "fahrenheit"),
    "leak_later": lambda: _leak(
        17, lambda hidden, draw: hidden + 0.01 * draw.normal(size=len(hidden)), "later"
    ),
    "walk": lambda: _walk(18),
    "product": lambda: _product(22),
    "cosine": lambda: _cosine(23),
    "two_leaks": lambda: _two_leaks(24),
    "quiet_days": lambda: _quiet_days(27),
    "copies": lambda: _copies(25),
    "noisy_few": lambda: _line(26, rows=260, columns=6, noise=1.5, classes=False),
}


def write_tables(folder: Path) -> None:
    """Write all tables as CSV files, those alone that are not there yet."""
    for name, made in TABLES.items():
        path = folder / f"{name}.csv"
        if not path.exists():
            names, rows = made()
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([names, *rows])


def main() -> None:
    """Write them into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(folder)


if __name__ == "__main__":
    main()
