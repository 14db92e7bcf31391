"""From a source's raw content to the parts a network trains, validates and tests on."""

from dataclasses import dataclass
from typing import Any

from pipeline.config.options import DataOptions
from pipeline.data.content import Content, Part, independent
from pipeline.data.reader import reader_of
from pipeline.data.report import DataReport, data_report
from pipeline.data.report_text import warnings
from pipeline.data.schema import Schema
from pipeline.data.source import Samples, Series, Source
from pipeline.data.windows import timed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """All that a run needs of its data.

    Args:
        schema: The meaning of inputs and outputs.
        train: The part the network learns from, and all scaling is fitted on.
        validation: The part that decides which epoch is best; None = there is none.
        test: The part that is touched once.
        content_hash: sha256 of the content and of what lies in which part.
        notes: Lines worth telling.
        example: A few raw rows, as a model gets new ones.
        report: What the data are; `None` where nobody reads it.
    """

    schema: Schema
    train: Part
    validation: Part | None
    test: Part
    content_hash: str
    notes: tuple[str, ...]
    example: Any
    report: DataReport | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the result should know of the data, a line each."""
        return () if self.report is None else tuple(warnings(self.report))


def prepare(source: Source, options: DataOptions, *, reports: bool = True) -> Prepared:
    """Read, split, scale, window and hash the data of `source`.

    Args:
        source: Where they come from.
        options: What happens to them.
        reports: Measure the data for the report, too.

    Raises:
        ConfigError: An option can't apply to this data.
        DataError: The data can't be learned from as they stand.
    """
    raw = source.read()
    content = content_of(raw, options, what=source.place)
    parts = {
        name: content.part(rows, budget=options.memory_budget)
        for name, rows in content.split.parts().items()
    }
    rows, size = len(parts["train"]), options.batch_size
    large = (
        f"data.batch_size={size} is larger than the training part of {rows} rows: "
        "an epoch is one step"
    )
    return Prepared(
        schema=content.schema,
        train=parts["train"],
        validation=parts.get("validation"),
        test=parts["test"],
        content_hash=content.digest(),
        notes=(*content.notes, large) if size > rows else content.notes,
        example=reader_of(content.schema).example(raw, content),
        report=data_report(raw, content, options) if reports else None,
    )


def content_of(raw: Samples | Series, options: DataOptions, *, what: str = "the data") -> Content:
    """Split and measure what a source has read.

    Args:
        raw: What it has read.
        options: What happens to it.
        what: Name of the data in messages.

    Raises:
        ConfigError: An option can't apply to this data.
        DataError: The data can't be learned from as they stand.
    """
    if isinstance(raw, Samples):
        return independent(raw, options, what=what)
    return timed(raw, options, what=what)
