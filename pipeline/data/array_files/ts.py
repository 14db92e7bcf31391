"""Series in `.ts` files: a header of `@` lines, channels parted by `:`, the label last."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data.array_files.labelled import Labelled, Vector, channel
from pipeline.data.array_files.texts import lines
from pipeline.errors import DataError, did_you_mean

CLASSES, VALUES = "classlabel", "targetlabel"


@dataclass(frozen=True, slots=True, kw_only=True)
class TsFile:
    """What a `.ts` file holds.

    Args:
        series: In the order of the lines.
        classes: Names in the header's order; empty = the header names none.
        regression: Whether the labels are values to predict.
        notes: Where the header contradicts the lines.
    """

    series: list[Labelled]
    classes: tuple[str, ...]
    regression: bool
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Header:
    file: Path
    entries: dict[str, list[str]] = field(default_factory=dict)

    def says(self, key: str) -> bool:
        """Return whether a key stands there and is not false."""
        words = self.entries.get(key)
        return words is not None and (not words or words[0].lower() != "false")

    def count(self, *keys: str) -> int | None:
        """Return the number that one of the keys gives."""
        for key in keys:
            words = self.entries.get(key, [])
            if words and words[0].isdigit():
                return int(words[0])
        return None

    @property
    def labelled(self) -> bool:
        """Whether lines end in a label."""
        return self.says(CLASSES) or self.says(VALUES)


def read_ts(file: Path) -> TsFile:
    """Read a `.ts` file.

    Raises:
        DataError: The header or a line can't be read; names the line.
    """
    numbered = lines(file)
    header = _header(file, numbered)
    series = [
        _series(text, f"{file.name} line {number}", header)
        for number, text in numbered
        if not text.startswith(("#", "%"))
    ]
    if not series:
        raise DataError(f"{file} has 0 series behind @data; expected one a line")
    return TsFile(
        series=series,
        classes=tuple(header.entries.get(CLASSES, [])[1:]) if header.says(CLASSES) else (),
        regression=header.says(VALUES),
        notes=tuple(_contradictions(header, series)),
    )


def _header(file: Path, numbered: Iterator[tuple[int, str]]) -> _Header:
    header = _Header(file)
    for number, text in numbered:
        if text.startswith(("#", "%")):
            continue
        if not text.startswith("@"):
            raise DataError(
                f"{file.name} line {number} is {text[:20]!r} before @data; expected header lines "
                "such as '@classLabel true A B' and then @data"
            )
        key, *words = text[1:].split() or [""]
        if key.lower() == "data":
            _check_header(header, f"{file.name} line {number}")
            return header
        header.entries[key.lower()] = words
    raise DataError(f"{file} has no @data line; expected one between the header and the series")


def _check_header(header: _Header, where: str) -> None:
    if header.says("timestamps"):
        raise DataError(
            f"{header.file.name} says @timeStamps true; expected values alone, evenly spaced. "
            "Leave the times out and write @timeStamps false"
        )
    if CLASSES not in header.entries and VALUES not in header.entries:
        known = [key for key in header.entries if did_you_mean(key, (CLASSES, VALUES))]
        seen = f" '@{known[0]}' is neither." if known else ""
        raise DataError(
            f"{where}: the header has neither @classLabel nor @targetLabel;{seen} expected "
            "'@classLabel true A B', '@classLabel false' or '@targetLabel true'"
        )


def _series(text: str, where: str, header: _Header) -> Labelled:
    if "(" in text:
        raise DataError(
            f"{where} has values with timestamps, '(time,value)'; expected values alone, evenly "
            "spaced. Leave the times out"
        )
    parts = text.split(":")
    label = None
    if header.labelled:
        if len(parts) < 2:
            raise DataError(f"{where} has no ':'; expected values, ':' and the label")
        *parts, label = parts
    return Labelled(
        where=where,
        label=None if label is None else label.strip(),
        channels=tuple(_channels(parts, where)),
    )


def _channels(parts: Sequence[str], where: str) -> Iterator[Vector]:
    for number, part in enumerate(parts, start=1):
        place = where if len(parts) == 1 else f"{where}, channel {number}"
        yield channel(part.split(","), place)


def _contradictions(header: _Header, series: list[Labelled]) -> Iterator[str]:
    found = {
        "@dimensions": (header.count("dimensions", "dimension"), len(series[0].channels)),
        "@seriesLength": (header.count("serieslength"), len(series[0].channels[0])),
    }
    for key, (said, counted) in found.items():
        if said not in (None, 0, counted):
            yield (
                f"{header.file.name} says {key} {said}, but its first series has {counted}; "
                "the lines decide"
            )
