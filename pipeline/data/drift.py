"""Which columns of some rows are unlike those that a model was trained on.

Two figures decide together, so that neither a large table alarms over nothing nor a small one over
chance: the population stability index over the deciles, or levels, of the training part, and how
likely as large an index is among rows of the same source (twice the sum of rows' information is
chi-squared: Kullback 1959; for the index see Yurdakul and Naranjo 2020).
"""

from collections.abc import Iterator

import numpy as np

from pipeline.data.report import ColumnReport, DataReport
from pipeline.data.report_text import named
from pipeline.markup import plain

LARGE = 0.25
"""Index above which the field speaks of another distribution."""
CHANCE = 1e-3
"""Chance of a false alarm in a whole table."""
MORE_MISSING = 0.05
FEWEST_SHARE = 0.01
"""Share of a level in training below which nobody wonders that it is gone."""
TOLD = 8
"""Lines before "…"."""


def drifted(trained: DataReport, new: DataReport) -> list[str]:
    """Return a line for each column that has drifted, the largest index first, and at most a few.

    Args:
        trained: Report of a model's training part.
        new: Of other rows, whose shares were counted between the edges, and for the levels, of
            the training part's report.
    """
    now = {column.name: column for column in (*new.columns, *new.targets)}
    pairs = [
        (column, now[column.name])
        for column in (*trained.columns, *trained.targets)
        if column.name in now
    ]
    found = [
        (index, f"{plain(then.name)}: {'; '.join(words)}")
        for then, later in pairs
        for index, words in [_differences(then, later, chance=CHANCE / max(1, len(pairs)))]
        if words
    ]
    lines = [line for _, line in sorted(found, key=lambda pair: -pair[0])]
    more = len(lines) - TOLD
    return [*lines[:TOLD], *([f"… and {more} more columns"] if more > 0 else [])]


def stability_index(then: ColumnReport, now: ColumnReport) -> float:
    """Return the population stability index of one column: the sum of (q - p) ln(q / p).

    Half a row is added to each count, so that an empty share has a logarithm.
    """
    before, after = (np.asarray(column.shares) * _known(column) for column in (then, now))
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (before, after))
    return float(((q - p) * np.log(q / p)).sum())


def _differences(
    then: ColumnReport, now: ColumnReport, *, chance: float
) -> tuple[float, list[str]]:
    comparable = (then.levels, then.edges) == (now.levels, now.edges) and _known(then) > 0
    index = stability_index(then, now) if comparable and _known(now) > 0 else 0.0
    words = list(_missing(then, now, chance=chance))
    if index > LARGE and index > _by_chance(then, now, chance=chance):
        words.insert(0, f"{_moved(then, now)} (stability index {index:.2f})")
    if comparable:
        words += _levels(then, now, chance=chance)
    return index, words


def _by_chance(then: ColumnReport, now: ColumnReport, *, chance: float) -> float:
    """Return the index that rows of one source exceed with the given chance."""
    from scipy.special import chdtri  # type: ignore[import-untyped] # scipy brings no types

    freedom = max(1, sum(share > 0 for share in then.shares) - 1)
    return float(chdtri(freedom, chance) * (1 / _known(then) + 1 / _known(now)))


def _moved(then: ColumnReport, now: ColumnReport) -> str:
    if then.is_category:
        names = (*then.levels, "other levels")
        changes = np.asarray(now.shares) - np.asarray(then.shares)
        most = int(np.abs(changes).argmax())
        return f"{plain(names[most])} is {now.shares[most]:.1%} and was {then.shares[most]:.1%}"
    return (
        f"mean {_number(now.mean)} (sd {_number(now.deviation)}) and was {_number(then.mean)} "
        f"(sd {_number(then.deviation)})"
    )


def _missing(then: ColumnReport, now: ColumnReport, *, chance: float) -> Iterator[str]:
    from scipy.special import ndtri

    p, q = (column.missing / max(1, column.rows) for column in (then, now))
    both = (then.missing + now.missing) / max(1, then.rows + now.rows)
    spread = both * (1 - both) * (1 / max(1, then.rows) + 1 / max(1, now.rows))
    by_chance = -ndtri(chance / 2) * np.sqrt(spread)
    if abs(q - p) > max(MORE_MISSING, by_chance):
        yield f"{q:.1%} are missing and {p:.1%} were"


def _levels(then: ColumnReport, now: ColumnReport, *, chance: float) -> Iterator[str]:
    """Say which levels are new, and which have gone though chance would hardly leave them out."""
    if now.unknown:
        yield f"{now.unknown} of {now.rows} rows have a level that training never saw"
    rows = _known(now)
    gone = [
        name
        for name, p, q in zip(then.levels, then.shares, now.shares, strict=False)
        if p >= FEWEST_SHARE and q == 0 and (1 - p) ** rows < chance / len(then.levels)
    ]
    if gone:
        yield f"no row has {named(gone)}"


def _known(column: ColumnReport) -> int:
    return column.rows - column.missing


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
