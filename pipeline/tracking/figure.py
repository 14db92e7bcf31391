"""What a model is judged by, and whether it is better than the one that is champion."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from pipeline.terminal import number

Direction = Literal["max", "min"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The validation value of a model, and of which data.

    Args:
        data: Hash of the data that it was trained on.
        monitor: Metric of the validation rows; `None` = none was followed.
        value: What that came to for the weights that are kept; `None` = not known.
        better: Whether more or less of it is better.
    """

    data: str
    monitor: str | None
    value: float | None
    better: Direction

    def tags(self) -> dict[str, str]:
        """Return the figure as tags of a registered version."""
        known = {"data.hash": self.data, "monitor": self.monitor, "value": self.value}
        return {key: str(value) for key, value in known.items() if value is not None}

    @classmethod
    def of(cls, tags: Mapping[str, str], *, better: Direction) -> "Figure":
        """Read the tags of a version, whoever has set them."""
        value = None
        with suppress(KeyError, ValueError):
            value = float(tags["value"])
        return cls(
            data=tags.get("data.hash", ""),
            monitor=tags.get("monitor"),
            value=value if value is not None and math.isfinite(value) else None,
            better=better,
        )


def verdict(mine: Figure, theirs: Figure | None, champion: str | None) -> tuple[bool, str]:
    """Say whether a new version becomes champion, and why, as the end of a sentence.

    Args:
        mine: The new version's figure.
        theirs: The figure of the champion by now; `None` = there is no other.
        champion: Its version.
    """
    if theirs is None:
        return True, ", and its champion"
    reason = _why_not(mine, theirs)
    if reason is not None:
        return False, f"; champion stays version {champion}: {reason}"
    ours, before = _apart(mine.value, theirs.value)
    words = f"{mine.monitor} {ours} against {before}"
    return True, f", and champion in place of version {champion}: {words}"


def _why_not(mine: Figure, champion: Figure) -> str | None:
    """Say why a champion stays; `None` = it does not."""
    if mine.data != champion.data:
        theirs = champion.data[:12] or "unknown"
        return f"it was trained on other data: {theirs} against {mine.data[:12]} here"
    if mine.monitor != champion.monitor:
        return f"it was judged by {champion.monitor or 'nothing'}, not by {mine.monitor} as here"
    if mine.value is None or champion.value is None:
        return f"{mine.monitor} is not known of both; it needs validation rows"
    rises = mine.better == "max"
    if mine.value > champion.value if rises else mine.value < champion.value:
        return None
    theirs, ours = _apart(champion.value, mine.value)
    return f"{mine.monitor} {theirs} against {ours} here"


def _apart(one: float | None, other: float | None) -> tuple[str, str]:
    """Write two values so that those which differ look different."""
    if one is None or other is None:
        return str(one), str(other)
    short = number(one), number(other)
    return short if one == other or short[0] != short[1] else (repr(one), repr(other))
