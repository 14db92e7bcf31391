"""Scores a trained model on some rows and records the evaluation as a run of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from pipeline.base.errors import ConfigError, DataError, EnvironmentFaultError
from pipeline.base.findings import save_findings
from pipeline.base.paths import cache_folder, replace_json
from pipeline.base.redaction import redact
from pipeline.base.signals import stop
from pipeline.base.terminal import console, duration, headed, print_lines, say, waiting_for
from pipeline.config.check import check
from pipeline.config.options import RunConfig, data_options
from pipeline.config.values import TARGET
from pipeline.data.preparation.checks import fingerprints
from pipeline.data.preparation.content import Content, Part
from pipeline.data.preparation.prepare import Prepared, content_of
from pipeline.data.preparation.reader import NOTHING, reader_of, split_as_saved
from pipeline.data.preparation.report import DataReport, data_report
from pipeline.data.preparation.report_text import drifted
from pipeline.data.preparation.schema import Schema
from pipeline.data.preparation.split import Split
from pipeline.data.source import Array, Indices, Samples, Series
from pipeline.networks.inspection import layer_table
from pipeline.running.devices import choose
from pipeline.running.plan import Plan, RunContext, build_source
from pipeline.running.recording import connecting, recorded_run, writable_store
from pipeline.running.results import (
    print_data,
    print_figures,
    print_header,
    where_lines,
)
from pipeline.serving.model import Decision, Model
from pipeline.tracking.client import Recorder
from pipeline.tracking.fields import COMMAND_TAG, EVALUATE, PARENT_TAG
from pipeline.tracking.folders import read_state
from pipeline.tracking.journal import JOURNAL
from pipeline.tracking.ownership import is_own
from pipeline.tracking.uri import store_uri

#: Stage in the names of the metrics of other parts than the test part.
STAGES = {"validation": "val", "train": "train", "all": "all"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """An evaluation whose values are all checked.

    Args:
        place: Folder or file that the model is read from.
        split: Part of the run's own data: `test`, `validation`, `train` or `all`.
        is_own: Whether a part of the run's own data is scored.
        options: The run's options, as the command has changed them.
        config: The same options as plain values that may be stored.
        threshold: Replaces the model's threshold in a binary task; `None` = keep the model's.
        own_config: The same config with the run's own data, which may no longer exist.
    """

    place: Path
    split: str
    is_own: bool
    options: RunConfig
    config: Mapping[str, Any]
    threshold: float | None
    own_config: Mapping[str, Any]

    @property
    def rows_word(self) -> str:
        """Word for the scored rows: a part of the run's own data, or `other data`."""
        return self.split if self.is_own else "other data"


def evaluate(request: EvaluationRequest) -> None:
    """Score the model on the requested rows, record the evaluation, and print the result.

    Raises:
        PipelineError: The model or the rows can't be read, or the environment is at fault.
    """
    started_at = perf_counter()
    options = request.options
    uri = writable_store(options)
    model = Model.load(request.place, trust=options.trust)
    prepared, rows_description, drift = _rows(request, model)
    plan = _plan(request, model, prepared, started_at)
    with nullcontext() if uri is None else Recorder() as recorder:
        if options.verbose != 0:
            print_header(plan, rows_description, plan.devices.words.partition("; here: ")[0])
            print_data(plan, plan.notes)
        with (
            waiting_for("loading Lightning", options.verbose),
            connecting(recorder, options.tracking, uri),
        ):
            # Lightning takes seconds to import.
            from pipeline.running.kept_weights import scored_test, with_intervals
            from pipeline.running.run_findings import findings_of_test
            from pipeline.running.trainer import build_task

            stop.check()  # an import may have swallowed it
        decision = model.decision
        if request.threshold is not None:
            decision = Decision(threshold=request.threshold, rule=str(request.threshold))
        with waiting_for("scoring", options.verbose), recorded_run(plan, recorder) as record:
            task = build_task(plan.options, plan.network, plan.prepared)
            test = with_intervals(plan, scored_test(plan, task, decision, None))
            test.write(record.artifacts, model.schema)
            if drift is not None:
                replace_json(record.artifacts / "drift.json", drift)
            stage = STAGES.get(request.rows_word, "test")
            if stage == "test":  # reports call these figures test metrics
                findings = findings_of_test(plan, test, record.run_id or "")
                save_findings(findings, record.artifacts)
            values = {}
            for key, value in test.metrics.items():
                values[re.sub("^test/", f"{stage}/", key)] = value
            record.journal.epoch(1, values)
        seconds = perf_counter() - started_at
    if options.verbose != 0:
        print_figures(model.schema, test, part=request.rows_word, details=options.details)
        _print_drift(drift)
        lines = [
            f"model   {model.file.parent} (epoch {model.facts['epoch']})",
            f"took    {duration(seconds)}",
            f"run     {record.folder}",
        ]
        print_lines([*lines, *where_lines(record)])


def _plan(request: EvaluationRequest, model: Model, prepared: Prepared, started_at: float) -> Plan:
    """Return the plan of a test of the stored network."""
    options = request.options.on_one_device()
    notes = prepared.notes
    if request.rows_word != "test":  # the limits of the training do not apply to other rows
        unlimited = {"limit_test_batches": None, "fast_dev_run": False, "overfit_batches": 0.0}
        trainer = options.trainer.model_copy(update=unlimited)
        options = options.model_copy(update={"trainer": trainer})
    if not len(prepared.train) and options.loss.class_weights == "balanced":
        loss = options.loss.model_copy(update={"class_weights": None})
        options = options.model_copy(update={"loss": loss})
        notes = (
            *notes,
            "test/loss uses equal class weights, as there are no training rows",
        )
    run_id = str(model.facts.get("run_id") or "")
    is_in_store = request.place.is_relative_to(cache_folder())  # fetched from it just now
    for folder in (request.place, *request.place.parents[:3]):
        if (folder / JOURNAL).is_file():
            state = read_state(folder)
            uri = store_uri(options.tracking)
            run_id = state.run_id or run_id
            # The id in a foreign folder may be that of any run.
            is_in_store = uri is not None and state.uri == redact(uri) and is_own(folder)
            break
    tags = {
        COMMAND_TAG: EVALUATE,
        "evaluates": run_id or str(model.facts.get("name") or request.place.name),
        "evaluated": request.rows_word,
    }
    if run_id and is_in_store:
        tags[PARENT_TAG] = run_id
    return Plan(
        options=options,
        config=request.config,
        prepared=prepared,
        network=model.network,
        layers=tuple(layer_table(model.network, model.schema.input_shape)),
        devices=choose(options.trainer),
        started_at=started_at,
        notes=notes,
        context=RunContext(tags=tags),
    ).filled_in()


# ── rows ────────────────────────────────────────────────────────────────────────────────────


def _rows(request: EvaluationRequest, model: Model) -> tuple[Prepared, str, tuple[str, ...] | None]:
    """Return the scored rows as a test part beside the model's training rows.

    A description of the rows follows, and what has drifted since training; `None` = unknown.
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
    return prepared, description, drift


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


# ── printing ────────────────────────────────────────────────────────────────────────────────


def _print_drift(drift: tuple[str, ...] | None) -> None:
    if drift is None:
        lines = ["unknown: the model has no data report"]
    elif not drift:
        lines = ["none: no column differs significantly from the training rows"]
    else:
        lines = ["columns distributed differently from the training rows:", *drift]
    for line in headed("drift", lines):
        say(console(), line)
