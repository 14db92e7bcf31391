"""How much of a view is kept: as much as a picture can show."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from torch import Tensor

from pipeline.findings.records import Floats

MOST_VALUES = 2**22
"""Values of all views of a run together, 16 MiB before they are compressed; all get as many."""

MOST_OF = {"pixel": 128, "position": 1024, "step": 256, "channel": 32, "unit": 64, "value": 1024}
"""Entries along an axis, by what they are."""

_ALONG = ("pixel", "position", "step")
"""Neighbours resemble each other, so that every so many of them will do; of others, the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Something to see, still in full.

    Args:
        name: Of it, as `state/layers.layer1`.
        values: (samples, …).
        axes: What lies along each axis after the first, a word of `MOST_OF`.
    """

    name: str
    values: Tensor
    axes: tuple[str, ...]


def bounded(views: Sequence[View]) -> dict[str, Floats]:
    """Thin views to what all of them together may hold, and say so behind their names."""
    most = MOST_VALUES // max(1, len(views))
    return dict(_thinned(view, most=most) for view in views)


def _cuts(view: View, *, skipped: int) -> list[slice]:
    """Return which entries of each axis after the first are kept."""
    lengths = list(zip(view.values.shape[1:], view.axes, strict=True))
    # A picture keeps its shape: both its sides are thinned alike.
    longest = {axis: max(length for length, of in lengths if of == axis) for axis in view.axes}
    return [
        slice(0, length, -(-longest[axis] // MOST_OF[axis]) + skipped)
        if axis in _ALONG
        else slice(0, min(length, MOST_OF[axis]), 1)
        for length, axis in lengths
    ]


def _fitting(view: View, *, most: int) -> list[slice]:
    for skipped in range(max(view.values.shape)):
        cuts = _cuts(view, skipped=skipped)
        kept = zip(view.values.shape[1:], cuts, strict=True)
        size = len(view.values) * prod(len(range(*cut.indices(length))) for length, cut in kept)
        if size <= most:
            break
    return cuts


def _thinned(view: View, *, most: int) -> tuple[str, Floats]:
    cuts = _fitting(view, most=most)
    notes = []
    for length, axis, cut in zip(view.values.shape[1:], view.axes, cuts, strict=True):
        if cut.step > 1:
            notes.append(f"every {_ordinal(cut.step)} {axis}")
        elif cut.stop < length:
            notes.append(f"{cut.stop} of {length} {axis}s")
    note = f" ({', '.join(dict.fromkeys(notes))})" if notes else ""
    values = view.values[(slice(None), *cuts)].float().cpu().numpy()
    return view.name + note, np.ascontiguousarray(values, dtype=np.float32)


def _ordinal(number: int) -> str:
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
