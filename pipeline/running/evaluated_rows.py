"""The rows that an evaluation scores: a part of the run's own data, or other data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipeline.base.errors import ConfigError, DataError, EnvironmentFaultError
from pipeline.config.check import check
from pipeline.config.options import RunConfig, data_options
from pipeline.config.targets import TARGET
from pipeline.data.parsing.row_blocks import fingerprints
from pipeline.data.preparation.content import Content, Part
from pipeline.data.preparation.prepare import Prepared, content_of
from pipeline.data.preparation.reader import NOTHING, reader_of, split_as_saved
from pipeline.data.preparation.report import DataReport, data_report
from pipeline.data.preparation.report_text import drifted
from pipeline.data.preparation.schema import Schema
from pipeline.data.preparation.split import Split
from pipeline.data.source import Array, Indices, Samples, Series
from pipeline.running.datasets import build_source
from pipeline.running.evaluation_plan import EvaluationRequest
from pipeline.serving.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedRows:
    """The rows of an evaluation.

    Args:
        prepared: The rows as a test part, beside the model's training rows.
        description: How many rows there are, and of which data.
        drift: What has drifted since the training, a line for each column; `None` = unknown.
    """

    prepared: Prepared
    description: str
    drift: tuple[str, ...] | None


def evaluated_rows(request: EvaluationRequest, model: Model) -> EvaluatedRows:
    """Read the rows that an evaluation asks for.

    Raises:
        ConfigError: The run does not have the part, or the model's data report is damaged.
        DataError: The rows can't be read with the model's schema.
    """
    options = request.options
    schema = model.schema
    training_report = _report_of(model)
    training_prints = None
    budget = options.data["memory_budget"]
    if request.is_own:
        raw, content, digest = _read_own(options, schema)
        rows, part_name = _rows_of_split(content, request.split)
        train = content.part(content.split.train, budget=budget)
        content = replace(content, split=Split(train=NOTHING, validation=None, test=rows))
        test = content.part(rows, budget=budget)
        description = f"{len(rows):,} rows: {part_name}"
        notes = _change_notes(digest, model, "these rows may include training rows")
    else:
        raw, content, test = reader_of(schema).evaluated(build_source(options), budget=budget)
        train, training_prints, training_notes = _training_rows(request, model)
        digest = content.digest()
        notes = (*content.notes, *training_notes)
        path = options.data.get("path")
        name = Path(str(path)).name if path else str(options.data[TARGET]).rpartition(".")[2]
        description = f"{len(test):,} rows of {name}"
    report = data_report(raw, content, like=training_report, trained=training_prints)
    prepared = Prepared(
        schema=schema,
        train=train,
        validation=None,
        test=test,
        content_hash=digest,
        notes=notes,
        example=None,
        report=report,
    )
    drift = None if training_report is None else tuple(drifted(training_report, report))
    return EvaluatedRows(prepared=prepared, description=description, drift=drift)


def _report_of(model: Model) -> DataReport | None:
    """Return the report on a model's training rows; `None` if it has none.

    Raises:
        ConfigError: The report is damaged, or of other columns than the model.
    """
    saved = model.facts.get("report")
    if saved is None:
        return None
    encoder = model.schema.encoder
    codes = () if encoder is None else encoder.codes
    levels = {code.name: set(code.levels) for code in codes}
    try:
        report = DataReport.from_dict(saved)
        for column in report.columns:
            if not levels.get(column.name, set()).issuperset(column.levels):
                raise ValueError(f"{column.name!r} has other levels")
    except ValueError as error:
        raise ConfigError(
            f"{model.file} has no usable report on its training rows: it is damaged or from "
            "another version; train the model again"
        ) from error
    return report


def _rows_of_split(content: Content, split: str) -> tuple[Indices, str]:
    """Return the rows of a part of the run's own data, and a description of them.

    Raises:
        ConfigError: The run does not have this part.
    """
    parts = content.split.parts()
    if split == "all":
        return np.sort(np.concatenate(list(parts.values()))), "all parts of the run's own data"
    if split in parts:
        return parts[split], f"the run's own {split} part"
    raise ConfigError(
        f"split={split}: the run has no validation rows; expected one of {', '.join(parts)}, all"
    )


def _read_own(options: RunConfig, schema: Schema) -> tuple[Samples | Series, Content, str]:
    """Return the run's own data as they are now, split as in the training, and their hash."""
    source = build_source(options)
    raw = source.read()
    content = content_of(raw, data_options(options), what=source.place)
    return raw, split_as_saved(raw, content, schema), content.digest()


def _change_notes(digest: str, model: Model, consequence: str) -> tuple[str, ...]:
    """Return a note if the run's data have changed since training."""
    trained_digest = str(model.facts.get("data", ""))
    if trained_digest in ("", digest):
        return ()
    return (
        f"the run's data have changed since training: their hash is {digest[:12]} and was "
        f"{trained_digest[:12]}; {consequence}",
    )


def _training_rows(
    request: EvaluationRequest, model: Model
) -> tuple[Part, Array | None, tuple[str, ...]]:
    """Return the model's training rows, their fingerprints, and notes on what has changed.

    If the rows can't be read any more, the part is empty and there are no fingerprints.
    """
    try:
        options = check(request.own_config, trust=request.options.trust)
        raw, content, digest = _read_own(options, model.schema)
    except (ConfigError, DataError, EnvironmentFaultError, OSError) as error:
        reason = str(error).splitlines()[0]
        note = f"no baselines: the training rows of the model can't be read: {reason}"
        schema = model.schema
        is_regression = schema.task == "regression"
        no_rows = Part(
            inputs=torch.zeros(0, *schema.input_shape),
            targets=torch.zeros(0, schema.outputs) if is_regression else torch.zeros(0).long(),
            offsets=None,
            rows=NOTHING,
        )
        return no_rows, None, (note,)
    rows = content.split.train
    prints = fingerprints(content.inputs, rows) if isinstance(raw, Samples) else None
    part = content.part(rows, budget=options.data["memory_budget"])
    notes = _change_notes(digest, model, "the baselines are fitted on the current data")
    return part, prints, notes
