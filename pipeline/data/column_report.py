"""What some rows say about each column of a table, or each channel of an array or a series."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.data.encode import MOST_LEVELS, UNKNOWN, Code
from pipeline.data.scale import statistics
from pipeline.data.source import Array

DECILES = tuple(round(0.1 * n, 1) for n in range(1, 10))


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnReport:
    """One column or channel.

    Args:
        name: Of the column or the channel.
        levels: Its most frequent categories; empty = it holds numbers.
        rows: Rows that were measured.
        missing: Those of them without a value.
        unknown: Those of them with a category that the training part did not have.
        filled: What takes the place of a missing value; empty = nothing does.
        mean: Of the numbers; `None` = there are none.
        deviation: Their standard deviation.
        minimum: The smallest.
        maximum: The largest.
        edges: Numbers between which the shares are counted: deciles of the training part. A value
            that holds a tenth of the rows or more has a share of its own.
        shares: Share of the values up to each edge and above the last one, or of each level and
            of all others; they add up to 1.
    """

    name: str
    levels: tuple[str, ...]
    rows: int
    missing: int
    unknown: int
    filled: str
    mean: float | None
    deviation: float | None
    minimum: float | None
    maximum: float | None
    edges: tuple[float, ...]
    shares: tuple[float, ...]

    @property
    def is_category(self) -> bool:
        """Whether it holds categories."""
        return bool(self.levels)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "ColumnReport":
        """Read what `dataclasses.asdict` wrote."""
        lists = ("levels", "edges", "shares")
        return cls(**{**plain, **{key: tuple(plain[key]) for key in lists}})


def numbers(
    name: str, values: Array, *, rows: int, filled: str = "", like: ColumnReport | None = None
) -> ColumnReport:
    """Measure numbers.

    Args:
        name: Of the column or channel.
        values: float64 (values,); NaN = missing. A channel has several of each row.
        rows: How many rows they come from.
        filled: What takes the place of a missing one.
        like: The training part's report, whose edges are used; `None` = this is the training part.
    """
    known = values[~np.isnan(values)]
    edges = _edges(known) if like is None else np.asarray(like.edges)
    counts = np.bincount(np.searchsorted(edges, known), minlength=len(edges) + 1)
    measured = statistics(known[:, None], np.arange(len(known))) if len(known) else None
    mean, deviation, minimum, maximum = (
        None if measured is None else float(getattr(measured, end)[0])
        for end in ("mean", "deviation", "minimum", "maximum")
    )
    return ColumnReport(
        name=name,
        levels=(),
        rows=rows,
        missing=round((len(values) - len(known)) * rows / max(1, len(values))),
        unknown=0,
        filled=filled,
        mean=mean,
        deviation=deviation,
        minimum=minimum,
        maximum=maximum,
        edges=tuple(edges.tolist()),
        shares=_shares(counts),
    )


def categories(code: Code, cells: Array, *, like: ColumnReport | None = None) -> ColumnReport:
    """Measure categories, float64 (rows,): the index of each, NaN = missing.

    Args:
        code: How the column is encoded.
        cells: The indices, which are those of `code.levels`.
        like: The training part's report, whose levels are used; `None` = this is the training
            part.
    """
    known = cells[~np.isnan(cells)]
    counts = np.bincount(known[known > UNKNOWN].astype(np.int64), minlength=len(code.levels))
    if like is None:
        named = [int(index) for index in np.argsort(-counts, kind="stable")[:MOST_LEVELS]]
        named = [index for index in named if counts[index]] or [0]
    else:
        named = [code.levels.index(level) for level in like.levels]
    chosen = counts[named]
    return ColumnReport(
        name=code.name,
        levels=tuple(code.levels[index] for index in named),
        rows=len(cells),
        missing=len(cells) - len(known),
        unknown=int((known <= UNKNOWN).sum()),
        filled=filling(code),
        mean=None,
        deviation=None,
        minimum=None,
        maximum=None,
        edges=(),
        shares=_shares(np.append(chosen, len(known) - chosen.sum())),
    )


def filling(code: Code) -> str:
    """Say what a missing cell of a column becomes."""
    if not code.is_category:
        return f"the mean {code.fill:.4g}"
    return "no category" if code.fill == UNKNOWN else code.levels[int(code.fill)]


def _edges(known: Array) -> Array:
    """Return the deciles; where several are one value, that value has a share of its own."""
    if not len(known):
        return np.empty(0)
    edges, times = np.unique(np.quantile(known, DECILES), return_counts=True)
    below = np.nextafter(edges[times > 1], -np.inf)
    return np.unique(np.concatenate([edges, below]))


def _shares(counts: Array) -> tuple[float, ...]:
    shares = counts / max(1, counts.sum())
    return tuple(float(share) for share in shares)
