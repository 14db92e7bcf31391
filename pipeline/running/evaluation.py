"""A trained model scored on some rows, on record as a run of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from pipeline.bootstrap import FEWEST_UNITS, MOST_ROWS
from pipeline.data.drift import drifted
from pipeline.data.report import DataReport
from pipeline.data.report_text import lines
from pipeline.devices import choose
from pipeline.networks.inspection import layer_table
from pipeline.paths import cache_folder, replace_text
from pipeline.redaction import redact
from pipeline.running.datasets import Datasets
from pipeline.running.evaluation_config import Asked, loss_note, with_known_loss
from pipeline.running.evaluation_data import Evaluated, Trained, other_rows, own_rows
from pipeline.running.plan import Occasion, Plan, filled_in
from pipeline.running.recording import Record, on_record
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
    from pipeline.bootstrap import Intervals
    from pipeline.data.prepare import Prepared
    from pipeline.running.testing import Tested


STAGES = {"validation": "val", "train": "train", "all": "all"}
"""What a metric's name begins with where it is not that of a test."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What an evaluation came to.

    Args:
        folder: The folder of its run.
        run_id: MLflow's id of it; `None` where nothing is tracked.
        model: Where the model was read from.
        data: What was evaluated.
        stage: The word for what was evaluated.
        tested: Figures and classes; the names of its metrics begin with `test/`.
        intervals: Of these figures, by metric.
        metrics: The figures as they are on record.
        drift: A line for each column that is unlike the training part; `None` = not known.
        seconds: Time from the start of the command's work to its end.
        unsent: Values that the tracking server has not got yet.
        where_to_look: Command and address that show the runs; empty where nothing is tracked.
    """

    folder: Path
    run_id: str | None
    model: Model
    data: Evaluated
    stage: str
    tested: Tested
    intervals: Intervals
    metrics: Mapping[str, float]
    drift: tuple[str, ...] | None
    seconds: float
    unsent: int
    where_to_look: tuple[str, ...]


class _FittedOnOwn(Datasets):
    """Has baselines only where there are training rows to fit them on."""

    def __init__(self, *, has_training: bool) -> None:
        self._has_training = has_training

    def baselines(self, prepared: Prepared) -> tuple[Baseline, ...]:
        """Return what simpler predictors say, or nothing."""
        return super().baselines(prepared) if self._has_training else ()


def evaluate(asked: Asked, *, told: Callable[[Plan, Evaluated], None] | None = None) -> Evaluation:
    """Score the model on the rows that were asked for.

    Args:
        asked: All values checked.
        told: Is given the plan and the rows before they are evaluated.

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
    trained = Trained(
        schema=model.schema, data_hash=str(model.facts.get("data", "")), report=_report(model)
    )
    data = _data(asked, trained)
    plan = _plan(asked, model, data, uri, started_at=started_at)
    work = _Work(asked=asked, model=model, data=data, plan=plan, drift=_drift(trained, data))
    with nullcontext() if uri is None else Recorder() as recorder:
        if told is not None:
            told(plan, data)
        with connecting(recorder, options.tracking, uri) if recorder and uri else nullcontext():
            from pipeline.running.testing import tested_network  # Lightning takes seconds
        stop.check()  # an import may have swallowed it
        return _on_record(work, recorder, uri, tested_network)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Work:
    """An evaluation that can begin: all that is known before the first row is scored."""

    asked: Asked
    model: Model
    data: Evaluated
    plan: Plan
    drift: tuple[str, ...] | None


def _on_record(
    work: _Work,
    recorder: Recorder | None,
    uri: str | None,
    test: Callable[[Plan, Decision], Tested],
) -> Evaluation:
    """Score the rows, and put what comes of it on record."""
    with on_record(work.plan, recorder, uri) as record:
        tested = test(work.plan, _decision(work.asked, work.model))
        found = _written(record, work.plan, tested, work.drift)
        metrics = _named(tested.metrics, work.asked)
        record.journal.epoch(1, metrics)
    return Evaluation(
        folder=record.folder,
        run_id=record.run_id,
        model=work.model,
        data=work.data,
        stage=work.asked.split if work.asked.is_own else "other data",
        tested=tested,
        intervals=found,
        metrics=metrics,
        drift=work.drift,
        seconds=perf_counter() - work.plan.started_at,
        unsent=record.unsent,
        where_to_look=record.where_to_look,
    )


def _data(asked: Asked, trained: Trained) -> Evaluated:
    if asked.is_own:
        return own_rows(asked.options, trained, asked.split)
    return other_rows(asked.options, asked.own_options, trained)


def _plan(
    asked: Asked, model: Model, data: Evaluated, uri: str | None, *, started_at: float
) -> Plan:
    """Put together what a test needs, with the network as it was kept."""
    options = asked.options.on_one_device()
    trainer = options.trainer
    devices = choose(trainer.model_copy(update={"strategy": "auto", "num_nodes": 1}))
    layers = tuple(layer_table(model.network, model.schema.input_shape))
    options = filled_in(
        with_known_loss(options, has_training=data.has_training), data.prepared, layers, devices
    )
    torch.set_num_threads(options.trainer.threads or 1)
    torch.set_float32_matmul_precision(options.trainer.matmul_precision)
    return Plan(
        options=options,
        config=asked.config,
        start=Start(),
        prepared=data.prepared,
        network=model.network,
        layers=layers,
        devices=devices,
        started_at=started_at,
        command=None,
        notes=(*data.notes, *loss_note(asked.options, has_training=data.has_training)),
        occasion=Occasion(
            datasets=_FittedOnOwn(has_training=data.has_training),
            tags=evaluation_tags(asked, model, uri),
        ),
    )


def _report(model: Model) -> DataReport | None:
    plain_report = model.facts.get("report")
    return None if plain_report is None else DataReport.from_dict(plain_report)


def _drift(trained: Trained, data: Evaluated) -> tuple[str, ...] | None:
    if trained.report is None or data.prepared.report is None:
        return None
    return tuple(drifted(trained.report, data.prepared.report))


def _decision(asked: Asked, model: Model) -> Decision:
    if asked.threshold is None:
        return model.decision
    return Decision(threshold=asked.threshold, rule=str(asked.threshold))


def _named(metrics: Mapping[str, float], asked: Asked) -> dict[str, float]:
    """Return the figures under the name of what was evaluated: `val/f1` of validation rows."""
    stage = STAGES.get(asked.split, "test") if asked.is_own else "test"
    return {
        f"{stage}/{key.removeprefix('test/')}" if key.startswith("test/") else key: value
        for key, value in metrics.items()
    }


def _written(
    record: Record, plan: Plan, tested: Tested, drift: tuple[str, ...] | None
) -> Intervals:
    """Write the tables of an evaluation, and return the intervals of its figures."""
    from pipeline.running.testing import intervals_of, write_intervals

    tested.write(record.artifacts, plan)
    found = intervals_of(plan, tested)
    write_intervals(record.artifacts, found)
    if drift is not None:
        text = json.dumps(list(drift), ensure_ascii=False, indent=1)
        replace_text(record.artifacts / "drift.json", text + "\n")
    return found


def evaluation_tags(asked: Asked, model: Model, uri: str | None) -> dict[str, str]:
    """Say which run the model is of; the evaluation is its child where both lie in one store."""
    run_id, is_here = _run_of(asked.place, model, uri)
    evaluated = asked.split if asked.is_own else "other data"
    tags = {
        COMMAND_TAG: "evaluate",
        "evaluates": run_id or str(model.facts.get("name") or asked.place.name),
        "evaluated": evaluated,
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


def print_rows(plan: Plan, data: Evaluated) -> None:
    """Say what is about to be scored, and what to beware of."""
    shown, report = console(), plan.prepared.report
    parameters = sum(layer.parameters for layer in plan.layers)
    say(shown, f"{plan.options.name}: {parameters:,} parameters; {data.what}; {plan.devices.words}")
    if report is not None:
        for line in lines(report):
            say(shown, line)
    for note in plan.notes:
        say(shown, f"note: {note}")


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures beside the baselines', the classes, the drift, and where it all lies."""
    shown, tested = console(), evaluation.tested
    names = [baseline.name for baseline in tested.part.baselines]
    schema, heading = evaluation.model.schema, evaluation.stage
    shown.print(figures_table(schema, tested.metrics, names, tested.classes, heading=heading))
    if tested.classes:
        shown.print(class_table(tested.classes))
    if len(tested.classes) > 2:
        say(shown, macro_footnote(tested.metrics), style="dim")
    for line in (_certainty(evaluation), *_drift_lines(evaluation)):
        say(shown, line)
    shown.print("\n".join(_last_lines(evaluation)), soft_wrap=True, markup=False)


def _certainty(evaluation: Evaluation) -> str:
    """Say how far the figure that tells most could be elsewhere."""
    found = evaluation.intervals
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


def _drift_lines(evaluation: Evaluation) -> list[str]:
    if evaluation.drift is None:
        return ["drift   not known: the model has no report on its training data"]
    if not evaluation.drift:
        return ["drift   none: every column is distributed as in the training part"]
    heading = "drift   unlike the training part:"
    return [heading, *(f"        {line}" for line in evaluation.drift)]


def _last_lines(evaluation: Evaluation) -> list[str]:
    model = evaluation.model
    return [
        f"model   {model.file.parent} (epoch {model.facts['epoch']})",
        f"took    {duration(evaluation.seconds)}",
        f"run     {evaluation.folder}",
        *where_lines(evaluation.where_to_look, unsent=evaluation.unsent),
    ]
