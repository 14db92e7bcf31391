"""Scores a trained model on some rows, on record as a run of its own."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from pipeline.bootstrap import FEWEST_UNITS, MOST_ROWS
from pipeline.config.options import RunConfig, data_options
from pipeline.config.values import TARGET
from pipeline.data.as_saved import NOTHING, split_as_saved
from pipeline.data.checks import fingerprints
from pipeline.data.content import Content, Part
from pipeline.data.prepare import Prepared, content_of
from pipeline.data.reader import reader_of
from pipeline.data.report import DataReport, report_of_test
from pipeline.data.report_text import drifted
from pipeline.data.schema import Schema
from pipeline.data.source import Array, Samples, Series
from pipeline.data.split import Split
from pipeline.devices import choose
from pipeline.errors import ConfigError, DataError, EnvironmentFaultError
from pipeline.networks.inspection import layer_table
from pipeline.paths import cache_folder, replace_text
from pipeline.redaction import redact
from pipeline.running.datasets import Datasets, build_source
from pipeline.running.evaluation_config import EvaluationRequest
from pipeline.running.overview import print_data
from pipeline.running.plan import Occasion, Plan, filled_in
from pipeline.running.recording import connecting, on_record, require_writable
from pipeline.running.results import print_figures, where_lines
from pipeline.running.resuming import Start
from pipeline.serving.decision import Decision
from pipeline.serving.model import Model
from pipeline.signals import stop
from pipeline.terminal import console, duration, number, say
from pipeline.tracking.client import Recorder
from pipeline.tracking.fields import PARENT_TAG
from pipeline.tracking.folders import COMMAND_TAG, read_state
from pipeline.tracking.journal import JOURNAL
from pipeline.tracking.uri import tracking_uri

if TYPE_CHECKING:
    from pipeline.baselines import Baseline
    from pipeline.running.testing import ScoredTest

STAGES = {"validation": "val", "train": "train", "all": "all"}
"""Stage in the names of metrics that are not those of a test."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """Result of an evaluation.

    Args:
        folder: The folder of its run.
        model: What was evaluated.
        stage: Word for the rows: a part of the run's own data, or other data.
        tested: Figures, intervals and classes; the names of its metrics begin with `test/`.
        drift: A line for each column that differs from the training part; `None` = unknown.
        seconds: Time from the start of the command's work to its end.
        unsent: Values that the tracking server has not got yet.
        where_to_look: Command and address that show the runs; empty where nothing is tracked.
    """

    folder: Path
    model: Model
    stage: str
    tested: ScoredTest
    drift: tuple[str, ...] | None
    seconds: float
    unsent: int
    where_to_look: tuple[str, ...]


def evaluate(asked: EvaluationRequest) -> Evaluation:
    """Score the model on the rows that were asked for.

    Args:
        asked: All values checked.

    Raises:
        ConfigError: The model can't be read, or the rows can't be chosen so.
        DataError: The model can't read the rows.
        EnvironmentFaultError: No such device, no room, no tracking server.
    """
    started_at = perf_counter()
    options = asked.options
    uri = None if options.tracking.kind == "none" else tracking_uri(options.tracking)
    require_writable(Path(options.output), uri)
    model = Model.load(asked.place, trust=options.trust)
    prepared, what = _own_rows(asked, model) if asked.is_own else _other_rows(asked, model)
    plan = _plan(asked, model, prepared, uri, started_at=started_at)
    trained, evaluated = _training_report(model), prepared.report
    drift = None if trained is None or evaluated is None else tuple(drifted(trained, evaluated))
    with nullcontext() if uri is None else Recorder() as recorder:
        if options.verbose != 0:
            parameters = sum(layer.parameters for layer in plan.layers)
            line = f"{plan.options.name}: {parameters:,} parameters; {what}; {plan.devices.words}"
            say(console(), line)
            print_data(plan, plan.notes)
        with connecting(recorder, options.tracking, uri) if recorder and uri else nullcontext():
            # Lightning takes seconds to import.
            from pipeline.running.testing import tested_again, with_intervals
            from pipeline.running.trainer import build_task

            stop.check()  # an import may have swallowed it
        decision = model.decision
        if asked.threshold is not None:
            decision = Decision(threshold=asked.threshold, rule=str(asked.threshold))
        with on_record(plan, recorder, uri) as record:
            task = build_task(plan.options, plan.network, plan.prepared)
            tested = with_intervals(plan, tested_again(plan, task, decision))
            tested.write(record.artifacts, model.schema)
            if drift is not None:
                text = json.dumps(list(drift), ensure_ascii=False, indent=1)
                replace_text(record.artifacts / "drift.json", text + "\n")
            stage = STAGES.get(asked.split, "test") if asked.is_own else "test"
            values = tested.metrics.items()
            record.journal.epoch(1, {re.sub("^test/", f"{stage}/", k): v for k, v in values})
        return Evaluation(
            folder=record.folder,
            model=model,
            stage=asked.rows_word,
            tested=tested,
            drift=drift,
            seconds=perf_counter() - started_at,
            unsent=record.unsent,
            where_to_look=record.where_to_look,
        )


class _EvaluationDatasets(Datasets):
    """Has baselines only where there are training rows to fit them on."""

    def baselines(self, prepared: Prepared) -> tuple[Baseline, ...]:
        """Return the predictions of baselines, or nothing."""
        return super().baselines(prepared) if len(prepared.train) else ()


def _plan(
    asked: EvaluationRequest,
    model: Model,
    prepared: Prepared,
    uri: str | None,
    *,
    started_at: float,
) -> Plan:
    """Return the plan of a test of the stored network."""
    options, notes = asked.options.on_one_device(), prepared.notes
    if not len(prepared.train) and options.loss.class_weights == "balanced":
        loss = options.loss.model_copy(update={"class_weights": None})
        options = options.model_copy(update={"loss": loss})
        notes = (
            *notes,
            "test/loss weighs all classes alike: the training rows would say how to balance them",
        )
    devices = choose(options.trainer)
    layers = tuple(layer_table(model.network, model.schema.input_shape))
    options = filled_in(options, prepared, layers, devices)
    torch.set_num_threads(options.trainer.threads or 1)
    torch.set_float32_matmul_precision(options.trainer.matmul_precision)
    run_id, is_here = _run_of(asked.place, model, uri)
    tags = {
        COMMAND_TAG: "evaluate",
        "evaluates": run_id or str(model.facts.get("name") or asked.place.name),
        "evaluated": asked.rows_word,
        **({PARENT_TAG: run_id} if run_id and is_here else {}),
    }
    return Plan(
        options=options,
        config=asked.config,
        start=Start(),
        prepared=prepared,
        network=model.network,
        layers=layers,
        devices=devices,
        started_at=started_at,
        command=None,
        notes=notes,
        occasion=Occasion(datasets=_EvaluationDatasets(), tags=tags),
    )


def _run_of(place: Path, model: Model, uri: str | None) -> tuple[str, bool]:
    """Return MLflow's id of the model's run, and whether this store has it."""
    known = str(model.facts.get("run_id") or "")
    for folder in (place, *place.parents[:3]):
        if (folder / JOURNAL).is_file():
            state = read_state(folder)
            return state.run_id or known, bool(uri) and state.uri == redact(uri or "")
    return known, place.is_relative_to(cache_folder())  # fetched from the store just now


# ── rows ────────────────────────────────────────────────────────────────────────────────────


def _training_report(model: Model) -> DataReport | None:
    plain = model.facts.get("report")
    return None if plain is None else DataReport.from_dict(plain)


def _own_rows(asked: EvaluationRequest, model: Model) -> tuple[Prepared, str]:
    """Return a part of the data that the model was trained on as the test part, and its words."""
    budget, split = asked.options.data["memory_budget"], asked.split
    raw, content, digest = _read_own(asked.options, model.schema)
    parts = content.split.parts()
    if split == "all":
        rows, what = (
            np.sort(np.concatenate(list(parts.values()))),
            "all parts of the run's own data",
        )
    elif split in parts:
        rows, what = parts[split], f"the run's own {split} part"
    else:
        raise ConfigError(
            f"split={split}: the run has no validation rows; expected one of "
            f"{', '.join(parts)}, all"
        )
    tested = replace(content, split=Split(train=NOTHING, validation=None, test=rows))
    prepared = Prepared(
        schema=model.schema,
        train=content.part(content.split.train, budget=budget),
        validation=None,
        test=tested.part(rows, budget=budget),
        content_hash=digest,
        notes=_changed(digest, model, "rows that were trained on may be among them"),
        example=None,
        report=report_of_test(raw, tested, _training_report(model), None),
    )
    return prepared, f"{len(rows)} rows: {what}"


def _other_rows(asked: EvaluationRequest, model: Model) -> tuple[Prepared, str]:
    """Return other data as the test part, beside the model's own training rows, and its words."""
    options, schema = asked.options, model.schema
    raw, content, part = _read_other(options, schema)
    training, prints, notes = _training_rows(asked, model)
    path = options.data.get("path")
    name = Path(str(path)).name if path else str(options.data[TARGET]).rpartition(".")[2]
    prepared = Prepared(
        schema=schema,
        train=training,
        validation=None,
        test=part,
        content_hash=content.digest(),
        notes=(*content.notes, *notes),
        example=None,
        report=report_of_test(raw, content, _training_report(model), prints),
    )
    return prepared, f"{len(part)} rows of {name}"


def _read_own(options: RunConfig, schema: Schema) -> tuple[Samples | Series, Content, str]:
    """Return the run's own data as they are now, split as for the training, and their hash."""
    source = build_source(options)
    raw = source.read()
    content = content_of(raw, data_options(options), what=source.place)
    return raw, split_as_saved(raw, content, schema), content.digest()


def _changed(digest: str, model: Model, consequence: str) -> tuple[str, ...]:
    trained = str(model.facts.get("data", ""))
    if trained in ("", digest):
        return ()
    return (
        f"the run's own data are not those of its training any more: their hash is "
        f"{digest[:12]} and was {trained[:12]}; {consequence}",
    )


def _training_rows(
    asked: EvaluationRequest, model: Model
) -> tuple[Part, Array | None, tuple[str, ...]]:
    """Return the model's own training rows where they can still be read, and their fingerprints."""
    try:
        options = asked.own_options()
        raw, content, digest = _read_own(options, model.schema)
    except (ConfigError, DataError, EnvironmentFaultError, OSError) as error:
        line = str(error).splitlines()[0]
        note = f"no baselines, since the model's own training rows can't be read: {line}"
        return _no_rows(model.schema), None, (note,)
    rows = content.split.train
    prints = fingerprints(content.inputs, rows) if isinstance(raw, Samples) else None
    part = content.part(rows, budget=options.data["memory_budget"])
    return part, prints, _changed(digest, model, "the baselines are fitted on what is there now")


def _no_rows(schema: Schema) -> Part:
    targets = (
        torch.zeros(0, schema.outputs) if schema.task == "regression" else torch.zeros(0).long()
    )
    return Part(
        inputs=torch.zeros(0, *schema.input_shape), targets=targets, offsets=None, rows=NOTHING
    )


def _read_other(options: RunConfig, schema: Schema) -> tuple[Samples | Series, Content, Part]:
    """Return what was read, all of it as the test part of some content, and that part."""
    source = build_source(options)
    return reader_of(schema).evaluated(source, budget=options.data["memory_budget"])


# ── printing ────────────────────────────────────────────────────────────────────────────────


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures beside the baselines', the classes, the drift, and where it all lies."""
    tested, model = evaluation.tested, evaluation.model
    print_figures(
        model.schema, tested.metrics, tested.baselines, tested.classes, heading=evaluation.stage
    )
    for line in (_certainty(evaluation), *_drift_lines(evaluation.drift)):
        say(console(), line)
    last = [
        f"model   {model.file.parent} (epoch {model.facts['epoch']})",
        f"took    {duration(evaluation.seconds)}",
        f"run     {evaluation.folder}",
        *where_lines(evaluation.where_to_look, unsent=evaluation.unsent),
    ]
    console().print("\n".join(last), soft_wrap=True, markup=False)


def _certainty(evaluation: Evaluation) -> str:
    """Return the line on the interval of the main metric."""
    found = evaluation.tested.intervals
    assert found is not None
    key = "rmse" if evaluation.model.schema.task == "regression" else "f1"
    ends = found.ends.get(key)
    if ends is None:
        needs = f"at least {FEWEST_UNITS} groups or blocks, and at most {MOST_ROWS:,} rows"
        why = "it is the same in every draw" if found.draws else f"expected {needs}"
        return f"certain no interval of {key} from {found.units}: {why}"
    own = evaluation.tested.metrics[f"test/{key}"]
    return (
        f"certain {key} {number(own)}, 95 % interval {number(ends[0])} to {number(ends[1])} from "
        f"{found.units}"
    )


def _drift_lines(drift: tuple[str, ...] | None) -> list[str]:
    if drift is None:
        return ["drift   not known: the model has no report on its training data"]
    if not drift:
        return ["drift   none: every column is distributed as in the training part"]
    return ["drift   unlike the training part:", *(f"        {line}" for line in drift)]
