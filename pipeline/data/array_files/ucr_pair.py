"""The two files of a data set of the UCR archive, `NAME_TRAIN` and `NAME_TEST`."""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.array_files.places import files_in, require_content
from pipeline.errors import DataError

_NAME = re.compile(r"(?P<name>.+)_(?P<part>train|test)\.(?P<suffix>ts|tsv|txt)", re.IGNORECASE)
SUFFIXES = ("ts", "tsv", "txt")
"""The one that says most comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UcrPair:
    """Files of one data set.

    Args:
        train: With the rows to train on, or all rows.
        test: None = a share of `train` is split off.
        notes: What was chosen.
    """

    train: Path
    test: Path | None
    notes: tuple[str, ...] = ()


def find_pair(place: Path) -> UcrPair:
    """Find both files from their folder, or from one of them.

    Raises:
        DataError: There is no training file, or several data sets lie there.
    """
    found = _in_folder(place) if place.is_dir() else _beside(place)
    for file in (found.train, found.test):
        if file is not None:
            require_content(file)
    return found


def _beside(file: Path) -> UcrPair:
    match = _NAME.fullmatch(file.name)
    if match is None:
        return UcrPair(train=file, test=None)
    parts = _sets(file.parent)[match["name"].lower(), match["suffix"].lower()]
    if "train" not in parts:
        raise DataError(
            f"{file} has the test alone; expected {match['name']}_TRAIN.{match['suffix']} beside it"
        )
    return UcrPair(train=parts["train"], test=parts.get("test"), notes=_test_note(parts))


def _in_folder(folder: Path) -> UcrPair:
    sets = {key: parts for key, parts in _sets(folder).items() if "train" in parts}
    names = sorted({name for name, _ in sets})
    if not names:
        raise DataError(
            f"{folder} has no file of series; expected NAME_TRAIN.tsv and NAME_TEST.tsv in it "
            "(or .txt, .ts)"
        )
    own = folder.resolve().name.lower()
    if len(names) > 1 and own not in names:
        listed = ", ".join(str(parts["train"].name) for parts in sets.values())
        raise DataError(
            f"{folder} has several data sets: {listed}; say which: "
            f"data.path={folder}/NAME_TRAIN.tsv"
        )
    name = own if own in names else names[0]
    suffixes = [suffix for suffix in SUFFIXES if (name, suffix) in sets]
    parts = sets[name, suffixes[0]]
    chosen = f"{parts['train'].name} is read; {', '.join(suffixes[1:])} files of it lie there too"
    notes = (chosen,) if len(suffixes) > 1 else ()
    return UcrPair(train=parts["train"], test=parts.get("test"), notes=(*notes, *_test_note(parts)))


def _sets(folder: Path) -> dict[tuple[str, str], dict[str, Path]]:
    sets: dict[tuple[str, str], dict[str, Path]] = {}
    for file in files_in(folder):
        match = _NAME.fullmatch(file.name)
        if match is not None:
            key = match["name"].lower(), match["suffix"].lower()
            sets.setdefault(key, {})[match["part"].lower()] = file
    return sets


def _test_note(parts: dict[str, Path]) -> tuple[str, ...]:
    if "test" in parts:
        return ()
    return (f"{parts['train'].name} has no _TEST file beside it; a share of its rows tests",)
