"""A user's own table: a CSV or Parquet file, a row a sample."""

from typing import Literal

from pipeline.data.source import Samples, Source, Task
from pipeline.data.tables.address import local_file
from pipeline.data.tables.parts import TEST, TRAIN, VALIDATION
from pipeline.data.tables.reading import Files, read_samples
from pipeline.data.tables.roles import Keys
from pipeline.data.tables.store import is_large, stored
from pipeline.errors import ConfigError

Named = str | int | None


class Table(Source):
    """Columns of a file as features, and one of them as what is to be predicted.

    Args:
        path: The file, with a line of names.
        target: Column to predict; None = the last one.
        test_path: File of the test rows; None = they are split off.
        validation_path: File of the validation rows; None = likewise.
        task: What is to be predicted; None = found from the target.
        positive: Class that precision, recall and F1 speak of; None = the rarer one.
        numeric: Columns that must be numbers.
        categorical: Columns whose cells are categories, numbers too.
        drop: Columns that are left out.
        id: Column that names the rows; None = they have no names.
        group: Column of what must stay in one part, such as a patient; None = no groups.
        time: Column that orders the rows: the last ones test; None = rows are drawn.
        split: Column with the words train, validation and test; None = rows are drawn.
        missing: What happens to the row of an empty cell.
        sep: Sign between the cells of a CSV; None = found.
        units: Unit of a regression's target; empty = none.
        strict: Refuse a feature that tells the target, and test rows that also train.
        allow_url: Whether the path may be a URL.
    """

    def __init__(
        self,
        *,
        path: str,
        target: Named,
        test_path: str | None,
        validation_path: str | None,
        task: Task | None,
        positive: str | int | float | bool | None,
        numeric: tuple[str | int, ...],
        categorical: tuple[str | int, ...],
        drop: tuple[str | int, ...],
        id: Named,  # noqa: A002 - the key's name
        group: Named,
        time: Named,
        split: Named,
        missing: Literal["mean", "drop", "refuse"],
        sep: str | None,
        units: str,
        strict: bool,
        allow_url: bool,
    ) -> None:
        self.path, self.test_path, self.validation_path = path, test_path, validation_path
        self.sep = sep
        self.allow_url = allow_url
        self.keys = Keys(
            target=_text(target),
            task=task,
            positive=_text(positive),
            numeric=tuple(map(str, numeric)),
            categorical=tuple(map(str, categorical)),
            drop=tuple(map(str, drop)),
            id=_text(id),
            group=_text(group),
            time=_text(time),
            split=_text(split),
            missing=missing,
            units=units,
            strict=strict,
        )

    def read(self) -> Samples:
        """Read the table, (rows, columns); a large one is mapped from the cache."""
        self._refuse_two_splits()
        given = (
            ("path", self.path, TRAIN),
            ("validation_path", self.validation_path, VALIDATION),
            ("test_path", self.test_path, TEST),
        )
        paths = tuple(
            (local_file(path, key=f"data.{key}", allow_url=self.allow_url), part)
            for key, path, part in given
            if path is not None
        )
        files = Files(paths=paths, sep=self.sep)
        return stored(files, self.keys) if is_large(files) else read_samples(files, self.keys)

    def _refuse_two_splits(self) -> None:
        """Refuse files and columns that both say which rows test."""
        by_file = [key for key in ("test_path", "validation_path") if getattr(self, key)]
        by_column = [key for key in ("time", "split") if getattr(self.keys, key)]
        if by_file and by_column:
            raise ConfigError(
                f"data.{by_file[0]} and data.{by_column[0]} both say how rows are parted; "
                "expected one of them"
            )


def _text(value: str | float | None) -> str | None:
    return None if value is None else str(value)
