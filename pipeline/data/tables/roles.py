"""What each column of a table is for: target, feature, name of the row, group, time or part."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.data.source import Task
from pipeline.errors import DataError, did_you_mean

Missing = Literal["mean", "drop", "refuse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys of `conf/data/table.yaml` that say how the table is read.

    Args:
        target: Column to predict; None = the last one.
        task: None = found from the target.
        positive: Class that precision, recall and F1 speak of; None = the rarer one.
        numeric: Columns that must be numbers.
        categorical: Columns whose cells are categories, numbers too.
        drop: Columns that are left out.
        id: Column that names the rows; None = they have no names.
        group: Column of what must stay in one part; None = rows are on their own.
        time: Column that orders the rows; the last ones test.
        split: Column with the words train, validation and test.
        missing: What happens where a feature's cell is empty.
        units: Unit of a regression's target.
        strict: Refuse what is only told otherwise: the target among the features, and test rows
            that also train.
    """

    target: str | None
    task: Task | None
    positive: str | None
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    drop: tuple[str, ...]
    id: str | None
    group: str | None
    time: str | None
    split: str | None
    missing: Missing
    units: str
    strict: bool

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield each key with each column that it names."""
        for key in ("target", "id", "group", "time", "split"):
            if getattr(self, key) is not None:
                yield key, getattr(self, key)
        for key in ("numeric", "categorical", "drop"):
            yield from ((key, name) for name in getattr(self, key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """What the columns of one table are for.

    Args:
        target: What is to be predicted.
        features: What it is predicted from, in the order of the file.
        beside: The columns that are read for another purpose: id, group, time and split.
    """

    target: str
    features: tuple[str, ...]
    beside: tuple[str, ...]

    @property
    def read(self) -> tuple[str, ...]:
        """All columns that are read, each once."""
        return tuple(dict.fromkeys((*self.features, self.target, *self.beside)))


def roles_of(path: Path, names: Sequence[str], keys: Keys) -> Roles:
    """Give every column its role.

    Args:
        path: The file, for messages.
        names: Of its columns.
        keys: What the user says about them.

    Raises:
        DataError: All keys that name no column, or one that can't be what they say.
    """
    if len(names) == 1:
        raise DataError(
            f"{path}: one column found, {names[0]!r}; expected the target and at least one more. "
            "If another sign parts the cells, say which: data.sep=;"
        )
    target = names[-1] if keys.target is None else keys.target
    problems = [*_unknown(path, names, keys), *_contradictions(target, keys)]
    if problems:
        raise DataError(*problems)
    beside = tuple(
        name for name in (keys.id, keys.group, keys.time, keys.split) if name is not None
    )
    left_out = {target, *keys.drop, *beside} - {*keys.numeric, *keys.categorical}
    features = tuple(name for name in names if name not in left_out)
    if not features:
        raise DataError(
            f"{path}: no column is left to predict {target!r} from; its columns are "
            f"{', '.join(names)}. Drop fewer"
        )
    return Roles(target=target, features=features, beside=beside)


def _unknown(path: Path, names: Sequence[str], keys: Keys) -> Iterator[str]:
    for key, name in keys.named():
        if name not in names:
            yield (
                f"data.{key}={name} is no column of {path}; its columns are {', '.join(names)}."
                f"{did_you_mean(name, names)}"
            )


def _contradictions(target: str, keys: Keys) -> Iterator[str]:
    for key, name in keys.named():
        if name == target and key != "target":
            yield f"data.{key}={name} is also the target; name another with data.target=COLUMN"
    for name in keys.drop:
        if name in (*keys.numeric, *keys.categorical):
            yield f"data.drop=[{name}] leaves out a column that another key wants as a feature"
    for name in keys.numeric:
        if name in keys.categorical:
            yield f"{name!r} is in data.numeric and in data.categorical; expected one of them"
    parting = [key for key in ("group", "time", "split") if getattr(keys, key) is not None]
    if len(parting) > 1:
        yield (
            f"data.{parting[0]} and data.{parting[1]} both say how rows are parted; expected one"
        )
