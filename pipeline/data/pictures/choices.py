"""Which size and mode all pictures get, decided by their headers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.data.pictures.decoding import Look, Mode, Size
from pipeline.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What all pictures become.

    Args:
        mode: L = grey, RGB = colour.
        size: Height and width.
        notes: What was decided.
    """

    mode: Mode
    size: Size
    notes: tuple[str, ...]


def choose(
    looks: Sequence[Look], names: Sequence[str], *, mode: Mode | None, size: Size | None
) -> Choice:
    """Decide size and mode.

    Args:
        looks: One a picture.
        names: Their names in messages.
        mode: As asked; None = grey where all are grey, else colour.
        size: As asked; None = that of all.

    Raises:
        DataError: The sizes differ and none is asked for; names two pictures.
    """
    return Choice(
        mode=mode or ("L" if all(one.grey for one in looks) else "RGB"),
        size=size or _common_size(looks, names),
        notes=(
            *_mode_note(looks, mode),
            *_size_note(looks, size),
            *_transparency_note(looks),
        ),
    )


def _common_size(looks: Sequence[Look], names: Sequence[str]) -> Size:
    first = looks[0].size
    for one, name in zip(looks, names, strict=True):
        if one.size != first:
            (height, width), _ = Counter(each.size for each in looks).most_common(1)[0]
            raise DataError(
                f"{names[0]} is {_told(first)} and {name} is {_told(one.size)} (height×width); "
                f"expected one size. Resize all: data.image_size=[{height},{width}]"
            )
    return first


def _mode_note(looks: Sequence[Look], asked: Mode | None) -> list[str]:
    grey = sum(one.grey for one in looks)
    if asked is not None:
        return []
    if grey == len(looks):
        return ["all pictures are grey and read so; data.image_mode=RGB says otherwise"]
    mixed = f", {grey} of {len(looks)} are grey" if grey else ""
    return [f"the pictures are read in colour{mixed}; data.image_mode=L makes them grey"]


def _size_note(looks: Sequence[Look], asked: Size | None) -> list[str]:
    others = 0 if asked is None else sum(one.size != asked for one in looks)
    if asked is None or not others:
        return []
    return [f"{others} of {len(looks)} pictures are resized to {_told(asked)} (height×width)"]


def _transparency_note(looks: Sequence[Look]) -> list[str]:
    transparent = sum(one.transparent for one in looks)
    if not transparent:
        return []
    return [f"{transparent} of {len(looks)} pictures can be transparent; what is lies on white"]


def _told(size: Size) -> str:
    return f"{size[0]}×{size[1]}"
