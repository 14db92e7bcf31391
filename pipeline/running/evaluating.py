"""Scores a trained model on some rows, on record as a run of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from pipeline.data.drift import drifted
from pipeline.data.report import DataReport
from pipeline.devices import choose
from pipeline.networks.summary import layer_table
from pipeline.paths import replace_text
from pipeline.running.connecting import connecting
from pipeline.running.datasets import Datasets
from pipeline.running.evaluated_data import Evaluated, Trained, other_rows, own_rows
from pipeline.running.evaluation_config import Asked, loss_note, with_known_loss
from pipeline.running.evaluation_tags import evaluation_tags
from pipeline.running.occasion import Occasion
from pipeline.running.places import require_writable
from pipeline.running.plan import Plan, filled_in
from pipeline.running.recording import Record, on_record
from pipeline.running.resuming import Start
from pipeline.serving.decision import Decision
from pipeline.serving.model import Model
from pipeline.signals import stop
from pipeline.tracking.client import Recorder
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
            from pipeline.running.kept_network import tested_network  # Lightning takes seconds
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
    devices = choose(trainer.accelerator, trainer.devices, precision=trainer.precision)
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
    from pipeline.running.certainty import intervals_of, write_intervals

    tested.write(record.artifacts, plan)
    found = intervals_of(plan, tested)
    write_intervals(record.artifacts, found)
    if drift is not None:
        text = json.dumps(list(drift), ensure_ascii=False, indent=1)
        replace_text(record.artifacts / "drift.json", text + "\n")
    return found
