"""Data that a model was not trained on, read in its own terms."""

from pathlib import Path

import numpy as np

from pipeline.config.options import RunConfig
from pipeline.config.sections import source_target
from pipeline.config.targets import TARGET
from pipeline.data.as_saved import NOTHING, rows_as_saved
from pipeline.data.content import Content
from pipeline.data.part import Part
from pipeline.data.prepare import part_with
from pipeline.data.schema import Schema
from pipeline.data.source import Samples, Series
from pipeline.data.split import Split
from pipeline.errors import DataError
from pipeline.running.assembly import build_source

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
