"""Data that a test makes, trains a model on and asks it about."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

CITIES = ("Berlin", "Paris", "Rome")
TABLE = ("patient", "age", "city", "bmi", "outcome")
VALUES = ("x1", "x2", "y")


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def patients(count: int, *, seed: int = 0) -> list[list[object]]:
    """Rows of `TABLE`: `bmi` has holes, and one of the classes is called like a formula."""
    random = np.random.default_rng(seed)
    rows: list[list[object]] = []
    for number in range(count):
        age, bmi = round(random.normal(50, 10), 2), round(random.normal(25, 4), 2)
        ill = age + bmi + random.normal(0, 3) > 78
        hole = number % 29 == 5
        city = str(random.choice(CITIES))
        rows.append([f"p{number}", age, city, "" if hole else bmi, "=ill" if ill else "well"])
    return rows


def measured(count: int, *, seed: int = 0) -> list[list[float]]:
    """Rows of `VALUES`."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(count, 2))
    noise = random.normal(0, 0.1, count)
    return [
        [float(a), float(b), float(3 * a - b + e)] for (a, b), e in zip(inputs, noise, strict=True)
    ]


def waves(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Series (rows, 12, 2) of three classes, with their classes (rows,)."""
    random = np.random.default_rng(seed)
    classes = np.arange(count) % 3
    time = np.arange(12)
    phases = time[None, :, None] * (classes[:, None, None] + 1) * 0.5 + np.array([0.0, 1.0])
    return np.sin(phases) + random.normal(0, 0.3, (count, 12, 2)), classes


def write_pictures(folder: Path, count: int, *, seed: int = 0) -> Path:
    """Write grey pictures of 8 × 8 into the folders of two classes."""
    from PIL import Image

    random = np.random.default_rng(seed)
    for number in range(count):
        name = ("dark", "light")[number % 2]
        low = 120 * (number % 2)
        pixels = random.integers(low, low + 120, (8, 8), dtype=np.uint8)
        place = folder / name / f"{number:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    return folder


def months(count: int) -> list[list[object]]:
    """Rows of a monthly series: `month`, `sales`."""
    random = np.random.default_rng(0)
    return [
        [
            f"{2000 + n // 12}-{n % 12 + 1:02}",
            round(100 + n + 10 * np.sin(n / 2) + random.normal(), 3),
        ]
        for n in range(count)
    ]
