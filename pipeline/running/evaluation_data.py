"""The rows that a trained model is evaluated on, beside those that it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipeline.config.options import RunConfig, data_options, source_target
from pipeline.config.targets import TARGET
from pipeline.data.as_saved import NOTHING, rows_as_saved, split_as_saved
from pipeline.data.checks import fingerprints
from pipeline.data.content import Content
from pipeline.data.part import Part
from pipeline.data.prepare import Prepared, content_of, part_with
from pipeline.data.report import DataReport, report_of_test
from pipeline.data.schema import Schema
from pipeline.data.source import Array, Indices, Samples, Series
from pipeline.data.split import Split
from pipeline.errors import ConfigError, DataError, EnvironmentFaultError
from pipeline.running.assembly import build_source
from pipeline.running.evaluation_config import Chosen


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """What a model brings with it.

    Args:
        schema: The meaning of inputs and outputs.
        data_hash: Of the data that it was trained on; empty = not known.
        report: On them; `None` = it has none.
    """

    schema: Schema
    data_hash: str
    report: DataReport | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluated:
    """Rows to evaluate, and rows to fit baselines on.

    Args:
        prepared: Its test part is what is evaluated; its training part is the model's own.
        has_training: Whether that part could be read.
        what: The rows in words.
        notes: Lines worth telling.
    """

    prepared: Prepared
    has_training: bool
    what: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Own:
    """The run's own data, read now."""

    raw: Samples | Series
    content: Content
    data_hash: str


def own_rows(options: RunConfig, trained: Trained, split: Chosen) -> Evaluated:
    """Read the data that the model was trained on, and choose a part of them.

    Raises:
        ConfigError: There is no such part.
        DataError: The data can't be read any more, or not by this model.
    """
    own = _own(options, trained.schema)
    rows = _rows(own.content.split, split)
    tested = replace(own.content, split=Split(train=NOTHING, validation=None, test=rows))
    prepared = _prepared(
        training=part_with(
            own.content, own.content.split.train, budget=options.data["memory_budget"]
        ),
        test=part_with(tested, rows, budget=options.data["memory_budget"]),
        schema=trained.schema,
        data_hash=own.data_hash,
        report=report_of_test(own.raw, tested, trained.report, None),
    )
    return Evaluated(
        prepared=prepared,
        has_training=True,
        what=f"{len(rows)} rows: {_part_words(split)}",
        notes=_changed(own, trained, "rows that were trained on may be among them"),
    )


def other_rows(options: RunConfig, own: Callable[[], RunConfig], trained: Trained) -> Evaluated:
    """Read other data, all rows of which are evaluated, and the model's own for baselines.

    Args:
        options: Of this command: they name the other data.
        own: Returns those of the run, which name the data that the model was trained on.
        trained: The model.

    Raises:
        DataError: The other data can't be read by this model.
    """
    raw, content, part = read_other(options, trained.schema)
    training, prints, notes = _training(own, trained)
    prepared = _prepared(
        training=training or _no_rows(trained.schema),
        test=part,
        schema=trained.schema,
        data_hash=content.digest(),
        report=report_of_test(raw, content, trained.report, prints),
    )
    return Evaluated(
        prepared=prepared,
        has_training=training is not None,
        what=f"{len(part)} rows of {data_name(options)}",
        notes=(*content.notes, *notes),
    )


def _own(options: RunConfig, schema: Schema) -> _Own:
    source = build_source(options)
    raw = source.read()
    content = content_of(raw, data_options(options), what=source.place)
    return _Own(raw=raw, content=split_as_saved(raw, content, schema), data_hash=content.digest())


def _rows(split: Split, chosen: Chosen) -> Indices:
    parts = split.parts()
    if chosen == "all":
        return np.sort(np.concatenate(list(parts.values())))
    if chosen not in parts:
        raise ConfigError(
            f"split={chosen}: the run has no validation rows; expected one of "
            f"{', '.join(parts)}, all"
        )
    return parts[chosen]


def _part_words(split: Chosen) -> str:
    return "all parts of the run's own data" if split == "all" else f"the run's own {split} part"


def _changed(own: _Own, trained: Trained, consequence: str) -> tuple[str, ...]:
    if not trained.data_hash or own.data_hash == trained.data_hash:
        return ()
    return (
        f"the run's own data are not those of its training any more: their hash is "
        f"{own.data_hash[:12]} and was {trained.data_hash[:12]}; {consequence}",
    )


def _training(
    own: Callable[[], RunConfig], trained: Trained
) -> tuple[Part | None, Array | None, tuple[str, ...]]:
    """Return the model's own training rows where they can still be read, and their fingerprints."""
    try:
        options = own()
        found = _own(options, trained.schema)
    except (ConfigError, DataError, EnvironmentFaultError, OSError) as error:
        line = str(error).splitlines()[0]
        note = f"no baselines, since the model's own training rows can't be read: {line}"
        return None, None, (note,)
    content = found.content
    prints = None
    if isinstance(found.raw, Samples):
        prints = fingerprints(content.inputs, content.split.train)
    part = part_with(content, content.split.train, budget=options.data["memory_budget"])
    return part, prints, _changed(found, trained, "the baselines are fitted on what is there now")


def _no_rows(schema: Schema) -> Part:
    targets = (
        torch.zeros(0, schema.outputs) if schema.task == "regression" else torch.zeros(0).long()
    )
    return Part(
        inputs=torch.zeros(0, *schema.input_shape), targets=targets, offsets=None, rows=NOTHING
    )


def _prepared(
    *,
    training: Part,
    test: Part,
    schema: Schema,
    data_hash: str,
    report: DataReport,
) -> Prepared:
    return Prepared(
        schema=schema,
        train=training,
        validation=None,
        test=test,
        content_hash=data_hash,
        notes=(),
        example=None,
        report=report,
    )


TABLE = "pipeline.data.table.Table"


def read_other(options: RunConfig, schema: Schema) -> tuple[Samples | Series, Content, Part]:
    """Return what was read, all of it as the test part of some content, and that part.

    Raises:
        DataError: The model can't read it.
    """
    if options.data[TARGET] == TABLE and schema.reading.get("target") is not None:
        return _of_table(options, schema)
    source = build_source(options)
    raw = source.read()
    if isinstance(raw, Series):
        return _of_series(raw, schema, what=source.place)
    content = rows_as_saved(raw, schema, what=source.place)
    return (
        raw,
        content,
        part_with(content, content.split.test, budget=options.data["memory_budget"]),
    )


def _of_table(options: RunConfig, schema: Schema) -> tuple[Samples, Content, Part]:
    from pipeline.data.as_saved_table import table_as_saved
    from pipeline.data.tables.address import local_file

    file = source_target(options)
    path = local_file(file["path"], key="data.path", allow_url=file["allow_url"])
    content = table_as_saved(path, schema, sep=file["sep"], group=file["group"])
    raw = Samples(
        inputs=content.inputs,
        targets=content.targets,
        task=schema.task,
        classes=schema.classes,
        features=schema.features,
    )
    return (
        raw,
        content,
        part_with(content, content.split.test, budget=options.data["memory_budget"]),
    )


def _of_series(raw: Series, schema: Schema, *, what: str) -> tuple[Series, Content, Part]:
    if schema.window is None:
        raise DataError(
            "the data are values in time, and the model was trained on independent rows; expected "
            "data of the kind that it knows"
        )
    from pipeline.data.series_file.again import windows_for

    inputs, targets, offsets, first = windows_for(raw, schema, what=what)
    rows = np.arange(len(first))
    content = Content(
        inputs=inputs.numpy(),
        targets=targets.numpy(),
        offsets=None if offsets is None else offsets.numpy(),
        numbers=first,
        split=Split(train=NOTHING, validation=None, test=rows),
        schema=schema,
        notes=raw.notes,
    )
    return raw, content, Part(inputs=inputs, targets=targets, offsets=offsets, rows=first)


def data_name(options: RunConfig) -> str:
    """Return what a person calls the data: the name of their file, or of their source."""
    path = options.data.get("path")
    return Path(str(path)).name if path else str(options.data[TARGET]).rpartition(".")[2]
