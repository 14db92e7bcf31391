"""Which array of a file is the input and which the target of which part, told by its name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import ConfigError, DataError, did_you_mean

PartName = Literal["train", "validation", "test"]
Role = Literal["x", "y"]

EXPECTED = "x_train, y_train, x_test, y_test (and x_val, y_val), or x and y"

_ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("x", "inputs", "images"), "x"),
    **dict.fromkeys(("y", "labels", "targets"), "y"),
}
PARTS: Mapping[str, PartName] = {
    "train": "train",
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    "test": "test",
}
"""The part that a word in the name of an array or a folder stands for."""
_ROLE, _PART = "|".join(_ROLES), "|".join(PARTS)
_NAME = re.compile(
    rf"(?:(?P<before>{_PART})_)?(?P<role>{_ROLE})(?:_(?P<after>{_PART}))?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Names of the arrays of one part."""

    x: str
    y: str


def pairs(names: Iterable[str], *, file: str) -> dict[PartName, Pair]:
    """Tell the parts of a file by the names of its arrays.

    Args:
        names: Such as `x_train`, `X`, `train_images`.
        file: The file, for messages.

    Raises:
        DataError: No inputs, inputs without targets, or two arrays for one place.
    """
    names = list(names)
    found = _places(names, file)
    parts: dict[PartName, Pair] = {}
    for part in ("train", "validation", "test"):
        x, y = found.get((part, "x")), found.get((part, "y"))
        if x and y:
            parts[part] = Pair(x=x, y=y)
        elif x or y:
            raise DataError(
                f"{file} has {x or y} but no {'targets' if x else 'inputs'} beside it; its arrays "
                f"are {', '.join(names)}; expected {EXPECTED}"
            )
    if "train" not in parts:
        raise DataError(
            f"{file} has no inputs to train on; its arrays are {', '.join(names)}; expected "
            f"{EXPECTED}, or say which they are: data.x=NAME data.y=NAME"
        )
    return parts


def named_pair(names: Iterable[str], *, x: str | None, y: str | None, file: str) -> Pair:
    """Return the arrays that the user names; what he leaves open is told by its name.

    Raises:
        ConfigError: There is no array of this name, with the nearest.
        DataError: What is left open can't be told.
    """
    names = list(names)
    for key, name in (("data.x", x), ("data.y", y)):
        if name is not None and name not in names:
            raise ConfigError(
                f"{key}={name!r} is not in {file}; its arrays are {', '.join(names)}."
                f"{did_you_mean(name, names)}"
            )
    if x is not None and y is not None:
        return Pair(x=x, y=y)
    told = _places([name for name in names if name not in (x, y)], file)
    x, y = x or told.get(("train", "x")), y or told.get(("train", "y"))
    if x is None or y is None:
        raise DataError(
            f"{file} has no {'inputs' if x is None else 'targets'} beside it; its arrays are "
            f"{', '.join(names)}; name both: data.x=NAME data.y=NAME"
        )
    return Pair(x=x, y=y)


def inputs_name(names: Iterable[str], *, trained: str, file: str) -> str:
    """Return the name of the array with new inputs, of which there may be one only.

    Args:
        names: Of the arrays in the file.
        trained: Name of the inputs in training, which wins.
        file: The file, for messages.

    Raises:
        DataError: None or several could be meant.
    """
    names = list(names)
    if trained in names and not _is_part(trained):
        return trained
    inputs = [name for name in names if _role(name) == "x"] or (names if len(names) == 1 else [])
    whole = [name for name in inputs if not _is_part(name)]
    chosen = whole if len(whole) == 1 else inputs
    if len(chosen) != 1:
        raise DataError(
            f"{file} has {len(chosen)} arrays that could be the new rows; its arrays are "
            f"{', '.join(names)}; expected one named {trained or 'x'}"
        )
    return chosen[0]


def _places(names: list[str], file: str) -> dict[tuple[PartName, Role], str]:
    found: dict[tuple[PartName, Role], str] = {}
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        part = PARTS[(match["before"] or match["after"] or "train").lower()]
        place = part, _ROLES[match["role"].lower()]
        other = found.get(place)
        if other is not None and _is_letter(other) == _is_letter(name):
            raise DataError(
                f"{file} has both {other} and {name}; expected one of them. Say which: "
                "data.x=NAME data.y=NAME"
            )
        if other is None or _is_letter(name):
            found[place] = name
    return found


def _is_letter(name: str) -> bool:
    """Tell `x` and `y_train`, which win, from `images` and `train_labels`."""
    match = _NAME.fullmatch(name)
    return match is not None and len(match["role"]) == 1


def _role(name: str) -> Role | None:
    match = _NAME.fullmatch(name)
    return None if match is None else _ROLES[match["role"].lower()]


def _is_part(name: str) -> bool:
    match = _NAME.fullmatch(name)
    return match is not None and bool(match["before"] or match["after"])
