"""A trained model scored on some rows, on record as a run of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from pipeline.bootstrap import FEWEST_UNITS, MOST_ROWS
from pipeline.config.options import RunConfig, data_options
from pipeline.config.targets import TARGET
from pipeline.data.as_saved import NOTHING, split_as_saved
from pipeline.data.checks import fingerprints
from pipeline.data.content import Content
from pipeline.data.drift import drifted
from pipeline.data.part import Part
from pipeline.data.prepare import Prepared, content_of
from pipeline.data.reader import reader_of
from pipeline.data.report import DataReport, report_of_test
from pipeline.data.report_text import lines
from pipeline.data.schema import Schema
from pipeline.data.source import Array, Indices, Samples, Series
from pipeline.data.split import Split
from pipeline.devices import choose
from pipeline.errors import ConfigError, DataError, EnvironmentFaultError
from pipeline.networks.inspection import layer_table
from pipeline.paths import cache_folder, replace_text
from pipeline.redaction import redact
from pipeline.running.assembly import build_source
from pipeline.running.datasets import Datasets
from pipeline.running.evaluation_config import Chosen, EvaluationRequest
from pipeline.running.plan import Occasion, Plan, filled_in
from pipeline.running.recording import on_record
from pipeline.running.results import class_table, figures_table, macro_footnote, where_lines
from pipeline.running.resuming import Start
from pipeline.running.store import connecting, require_writable
from pipeline.serving.decision import Decision
from pipeline.serving.model import Model
from pipeline.signals import stop
from pipeline.terminal import console, duration, number, say
from pipeline.tracking.books import PARENT_TAG
from pipeline.tracking.client import Recorder
from pipeline.tracking.find import COMMAND_TAG
from pipeline.tracking.journal import JOURNAL
from pipeline.tracking.state import read_state
from pipeline.tracking.uri import tracking_uri

if TYPE_CHECKING:
    from pipeline.baselines import Baseline
    from pipeline.running.testing import ScoredTest

STAGES = {"validation": "val", "train": "train", "all": "all"}
"""What a metric's name begins with where it is not that of a test."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What an evaluation came to.

    Args:
        folder: The folder of its run.
        model: What was evaluated.
        stage: The word for the rows that it was evaluated on.
        tested: Figures, intervals and classes; the names of its metrics begin with `test/`.
        drift: A line for each column that is unlike the training part; `None` = not known.
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
    rows = _own_rows(asked, model) if asked.is_own else _other_rows(asked, model)
    plan = _plan(asked, model, rows, uri, started_at=started_at)
    trained, evaluated = _training_report(model), rows.prepared.report
    drift = None if trained is None or evaluated is None else tuple(drifted(trained, evaluated))
    with nullcontext() if uri is None else Recorder() as recorder:
        if options.verbose != 0:
            _print_rows(plan, rows)
        with connecting(recorder, options.tracking, uri) if recorder and uri else nullcontext():
            # Lightning takes seconds to import.
            from pipeline.running.testing import tested_again, with_intervals
            from pipeline.running.trainer import build_task
        stop.check()  # an import may have swallowed it
        with on_record(plan, recorder, uri) as record:
            task = build_task(plan.options, plan.network, plan.prepared)
            tested = with_intervals(plan, tested_again(plan, task, _decision(asked, model)))
            tested.write(record.artifacts, model.schema)
            if drift is not None:
                text = json.dumps(list(drift), ensure_ascii=False, indent=1)
                replace_text(record.artifacts / "drift.json", text + "\n")
            record.journal.epoch(1, _named(tested.metrics, asked))
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


def _training_report(model: Model) -> DataReport | None:
    plain = model.facts.get("report")
    return None if plain is None else DataReport.from_dict(plain)


def _decision(asked: EvaluationRequest, model: Model) -> Decision:
    if asked.threshold is None:
        return model.decision
    return Decision(threshold=asked.threshold, rule=str(asked.threshold))


def _named(metrics: Mapping[str, float], asked: EvaluationRequest) -> dict[str, float]:
    """Return the figures under the name of what was evaluated: `val/f1` of validation rows."""
    stage = STAGES.get(asked.split, "test") if asked.is_own else "test"
    return {
        f"{stage}/{key.removeprefix('test/')}" if key.startswith("test/") else key: value
        for key, value in metrics.items()
    }


class _EvaluationDatasets(Datasets):
    """Has baselines only where there are training rows to fit them on."""

    def __init__(self, *, has_training: bool) -> None:
        self._has_training = has_training

    def baselines(self, prepared: Prepared) -> tuple[Baseline, ...]:
        """Return what simpler predictors say, or nothing."""
        return super().baselines(prepared) if self._has_training else ()


def _plan(
    asked: EvaluationRequest, model: Model, rows: _Rows, uri: str | None, *, started_at: float
) -> Plan:
    """Put together what a test needs, with the network as it was kept."""
    options, notes = asked.options.on_one_device(), rows.notes
    if not rows.has_training and options.loss.class_weights == "balanced":
        loss = options.loss.model_copy(update={"class_weights": None})
        options = options.model_copy(update={"loss": loss})
        notes = (
            *notes,
            "test/loss weighs all classes alike: the training rows would say how to balance them",
        )
    devices = choose(options.trainer)
    layers = tuple(layer_table(model.network, model.schema.input_shape))
    options = filled_in(options, rows.prepared, layers, devices)
    torch.set_num_threads(options.trainer.threads or 1)
    torch.set_float32_matmul_precision(options.trainer.matmul_precision)
    return Plan(
        options=options,
        config=asked.config,
        start=Start(),
        prepared=rows.prepared,
        network=model.network,
        layers=layers,
        devices=devices,
        started_at=started_at,
        command=None,
        notes=notes,
        occasion=Occasion(
            datasets=_EvaluationDatasets(has_training=rows.has_training),
            tags=_tags(asked, model, uri),
        ),
    )


def _tags(asked: EvaluationRequest, model: Model, uri: str | None) -> dict[str, str]:
    """Say which run the model is of; the evaluation is its child where both lie in one store."""
    run_id, is_here = _run_of(asked.place, model, uri)
    tags = {
        COMMAND_TAG: "evaluate",
        "evaluates": run_id or str(model.facts.get("name") or asked.place.name),
        "evaluated": asked.rows_word,
    }
    return {**tags, PARENT_TAG: run_id} if run_id and is_here else tags


def _run_of(place: Path, model: Model, uri: str | None) -> tuple[str, bool]:
    """Return MLflow's id of the model's run, and whether this store has it."""
    known = str(model.facts.get("run_id") or "")
    for folder in (place, *place.parents[:3]):
        if (folder / JOURNAL).is_file():
            state = read_state(folder)
            return state.run_id or known, bool(uri) and state.uri == redact(uri or "")
    return known, place.is_relative_to(cache_folder())  # fetched from the store just now


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
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


def _own_rows(asked: EvaluationRequest, model: Model) -> _Rows:
    """Read the data that the model was trained on, and choose a part of them."""
    budget = asked.options.data["memory_budget"]
    raw, content, digest = _read_own(asked.options, model.schema)
    rows = _chosen(content.split, asked.split)
    tested = replace(content, split=Split(train=NOTHING, validation=None, test=rows))
    of_which = f"the run's own {asked.split} part"
    return _Rows(
        prepared=_prepared(
            training=content.part(content.split.train, budget=budget),
            test=tested.part(rows, budget=budget),
            schema=model.schema,
            digest=digest,
            report=report_of_test(raw, tested, _training_report(model), None),
        ),
        has_training=True,
        what=f"{len(rows)} rows: "
        + ("all parts of the run's own data" if asked.split == "all" else of_which),
        notes=_changed(digest, model, "rows that were trained on may be among them"),
    )


def _other_rows(asked: EvaluationRequest, model: Model) -> _Rows:
    """Read other data, all rows of which are evaluated, and the model's own for baselines."""
    options, schema = asked.options, model.schema
    raw, content, part = _read_other(options, schema)
    training, prints, notes = _training_rows(asked, model)
    path = options.data.get("path")
    name = Path(str(path)).name if path else str(options.data[TARGET]).rpartition(".")[2]
    return _Rows(
        prepared=_prepared(
            training=_no_rows(schema) if training is None else training,
            test=part,
            schema=schema,
            digest=content.digest(),
            report=report_of_test(raw, content, _training_report(model), prints),
        ),
        has_training=training is not None,
        what=f"{len(part)} rows of {name}",
        notes=(*content.notes, *notes),
    )


def _prepared(
    *, training: Part, test: Part, schema: Schema, digest: str, report: DataReport
) -> Prepared:
    return Prepared(
        schema=schema,
        train=training,
        validation=None,
        test=test,
        content_hash=digest,
        notes=(),
        example=None,
        report=report,
    )


def _read_own(options: RunConfig, schema: Schema) -> tuple[Samples | Series, Content, str]:
    """Return the run's own data as they are now, as the model splits them, and their hash."""
    source = build_source(options)
    raw = source.read()
    content = content_of(raw, data_options(options), what=source.place)
    return raw, split_as_saved(raw, content, schema), content.digest()


def _chosen(split: Split, chosen: Chosen) -> Indices:
    parts = split.parts()
    if chosen == "all":
        return np.sort(np.concatenate(list(parts.values())))
    if chosen not in parts:
        raise ConfigError(
            f"split={chosen}: the run has no validation rows; expected one of "
            f"{', '.join(parts)}, all"
        )
    return parts[chosen]


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
) -> tuple[Part | None, Array | None, tuple[str, ...]]:
    """Return the model's own training rows where they can still be read, and their fingerprints."""
    try:
        options = asked.own_options()
        raw, content, digest = _read_own(options, model.schema)
    except (ConfigError, DataError, EnvironmentFaultError, OSError) as error:
        line = str(error).splitlines()[0]
        note = f"no baselines, since the model's own training rows can't be read: {line}"
        return None, None, (note,)
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


def _print_rows(plan: Plan, rows: _Rows) -> None:
    """Print what is about to be scored, and what to beware of."""
    shown, report = console(), plan.prepared.report
    parameters = sum(layer.parameters for layer in plan.layers)
    say(shown, f"{plan.options.name}: {parameters:,} parameters; {rows.what}; {plan.devices.words}")
    if report is not None:
        for line in lines(report):
            say(shown, line)
    for note in plan.notes:
        say(shown, f"note: {note}")


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures beside the baselines', the classes, the drift, and where it all lies."""
    shown, tested, model = console(), evaluation.tested, evaluation.model
    heading = evaluation.stage
    shown.print(
        figures_table(
            model.schema, tested.metrics, tested.baselines, tested.classes, heading=heading
        )
    )
    if tested.classes:
        shown.print(class_table(tested.classes))
    if len(tested.classes) > 2:
        say(shown, macro_footnote(tested.metrics), style="dim")
    for line in (_certainty(evaluation), *_drift_lines(evaluation.drift)):
        say(shown, line)
    last = [
        f"model   {model.file.parent} (epoch {model.facts['epoch']})",
        f"took    {duration(evaluation.seconds)}",
        f"run     {evaluation.folder}",
        *where_lines(evaluation.where_to_look, unsent=evaluation.unsent),
    ]
    shown.print("\n".join(last), soft_wrap=True, markup=False)


def _certainty(evaluation: Evaluation) -> str:
    """Return the line on the interval of the figure that tells most."""
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
