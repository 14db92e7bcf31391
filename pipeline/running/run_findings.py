"""The findings of a run, for the doctor, the pictures, the reports and MLflow's page."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from pipeline.base.ends import End
from pipeline.base.findings import Clipping, Findings, TestRows
from pipeline.base.paths import conf_folder
from pipeline.config.targets import TARGET
from pipeline.data.parsing.times import season_of
from pipeline.data.preparation.prepare import Prepared
from pipeline.data.preparation.report import DataReport
from pipeline.running.final_test import ScoredTest
from pipeline.running.kept_weights import TrainedWeights
from pipeline.running.participant import Participant
from pipeline.running.plan import Plan
from pipeline.running.results import Result
from pipeline.running.scoring import direction_of, trained_rows
from pipeline.running.training_scores import with_scores
from pipeline.scoring.importance import evenly_spaced
from pipeline.tracking.folders import read_state

#: Outputs of test rows that are kept for pictures and reports: 40 MB before compression.
MOST_NUMBERS = 10_000_000
#: Unexplained share of the next value's variance, up to which a column holds it, and the windows or
#: rows that it is measured on.
LEADING = 0.002
FEWEST_VALUES = 30
MOST_VALUES = 2_000
#: Prefixes of the values of an epoch that the findings keep.
OF_TRAINING = ("train/", "val/", "grad/", "lr", "time/epoch")
#: Fields of the data's schema that the findings repeat.
OF_SCHEMA = (
    "task",
    "kind",
    "classes",
    "features",
    "targets",
    "label",
    "units",
    "horizon",
    "stride",
)


def findings_of(
    plan: Plan, participant: Participant, result: Result, *, diverged: bool
) -> Findings:
    """Return the findings of a run, without those that only pictures need.

    Args:
        plan: The run.
        participant: Holds the task with the kept weights, and the layers' gradients and updates.
        result: Metrics of the run, with their intervals.
        diverged: Whether the weights are not finite, so that they can't be scored.
    """
    lean = plan.context.lean
    vitals = participant.vitals
    batches = participant.trainer.num_training_batches
    accumulated = plan.options.trainer.accumulate_grad_batches
    history = {}
    for epoch, values in result.history.items():
        history[epoch] = {key: values[key] for key in values if key.startswith(OF_TRAINING)}
    findings = _with_test(_planned_findings(plan), result.test)
    findings = replace(
        findings,
        run_id=result.run_id or "",
        end=End.DIVERGED if diverged else End.COMPLETE,
        kept=participant.keeper.best.epoch,
        epochs=result.epochs,
        steps=0 if batches == inf else ceil(batches / accumulated),
        threshold=result.decision.threshold,
        metrics=result.metrics,
        seconds=result.metrics["time/fit"],
        history=history,
        vitals=None if vitals is None else vitals.vitals(),
        test=None if lean else findings.test,
    )
    if diverged or lean:
        return findings
    return with_scores(findings, plan, participant.task)


def findings_of_test(plan: Plan, test: ScoredTest, run_id: str) -> Findings:
    """Return the findings of an evaluation, which trains nothing."""
    return replace(_with_test(_planned_findings(plan), test), run_id=run_id, planned=0)


def findings_of_winner(weights: TrainedWeights, study: Path, test: ScoredTest | None) -> Findings:
    """Return what the card of a study's model needs of the trial that has won.

    Args:
        weights: The weights that the trial has kept.
        study: Folder of the study.
        test: Their test; `None` = it was made before, or is not wanted.
    """
    return replace(
        _with_test(_planned_findings(weights.plan), test),
        name=study.name,
        run_id=read_state(study).run_id,
        kept=weights.epoch,
        epochs=weights.epochs,
        history=weights.history,
        test=None if test is None else test.rows,
    )


def _with_test(findings: Findings, test: ScoredTest | None) -> Findings:
    """Add a test to findings, without its outputs for most rows if there are very many."""
    if test is None:
        return findings
    rows = {**findings.rows, "test": len(test.rows.targets)}
    if rows != findings.rows:  # a limited test: which of its rows are repeated is unknown
        findings = replace(findings, rows=rows, repeated=None, near_copies=0)
    return replace(
        findings,
        threshold=test.threshold,
        metrics=test.metrics,
        intervals={} if test.intervals is None else test.intervals.ends,
        baselines=test.baselines,
        comparison=test.comparison,
        test=_sampled_rows(test.rows),
    )


def _planned_findings(plan: Plan) -> Findings:
    """Return the findings that are known before the training."""
    prepared = plan.prepared
    schema = prepared.schema
    trainer = plan.options.trainer
    usual_clipping = OmegaConf.load(conf_folder() / "trainer" / "auto.yaml").gradient_clip_val
    monitor = plan.options.monitor or "train/loss"
    shares: tuple[float, ...] = ()
    trained = trained_rows(plan.options, len(prepared.train))
    if schema.classes:
        counts = torch.bincount(prepared.train.targets[:trained], minlength=len(schema.classes))
        shares = tuple((counts / counts.sum()).tolist())
    return Findings(
        **{name: getattr(schema, name) for name in OF_SCHEMA},
        name=plan.name,
        run_id="",
        end=End.COMPLETE,
        model=str(plan.options.model[TARGET]).rpartition(".")[2],
        config=plan.config,
        season=season_of(schema.reading),
        words=None if plan.command is None else plan.command.words(),
        monitor=monitor,
        better=direction_of(monitor, plan.options.metrics),
        kept=None,
        epochs=0,
        planned=trainer.max_epochs,
        clipping=Clipping(
            threshold=trainer.gradient_clip_val,
            algorithm=trainer.gradient_clip_algorithm,
            chosen=trainer.gradient_clip_val != usual_clipping,
        ),
        metrics={},
        intervals={},
        rows={**prepared.rows, "train": trained},
        repeated=_repeated(prepared.report),
        near_copies=0 if prepared.report is None else prepared.report.near_copies,
        leading=_leading_column(plan),
        validated=_validated(prepared),
        shares=shares,
        parameters=plan.parameters,
        seconds=0.0,
        device=plan.devices.words,
        data_hash=prepared.content_hash,
        history={},
    )


def _repeated(report: DataReport | None) -> int | None:
    """Return the number of test rows that repeat a training row; 0 if rows do so by chance."""
    if report is None:
        return None
    return 0 if report.is_repetitive else report.repeated


def _validated(prepared: Prepared) -> str:
    """Return the class of all validation rows, or words for one value; empty = they differ."""
    part = prepared.validation
    if part is None or bool((part.targets != part.targets[:1]).any()):
        return ""
    classes = prepared.schema.classes
    return f"class {classes[int(part.targets[0])]!r}" if classes else "the same target"


def _leading_column(plan: Plan) -> str:
    """Return the column that holds the next value of what is predicted; empty = none.

    The last known value of a series, or that of the row before in a table, explains the next target
    far better than the last known target does.
    """
    schema = plan.prepared.schema
    part = plan.prepared.train
    targets = part.targets.unsqueeze(1).flatten(1)[:, :1]
    names = schema.features
    own_names = schema.targets or (schema.label,)
    if schema.targets:
        following = evenly_spaced(len(part), MOST_VALUES)
        values = part.take(following)[:, -1]
    elif schema.input_shape == (len(names),):
        _, before, after = np.intersect1d(part.rows, part.rows - 1, return_indices=True)
        present, following = map(torch.from_numpy, (before[:MOST_VALUES], after[:MOST_VALUES]))
        values = torch.cat([part.take(present).flatten(1), targets[present]], 1)
        names = (*names, *own_names)
    else:
        return ""
    if len(following) < FEWEST_VALUES:
        return ""
    with np.errstate(all="ignore"):
        correlations = np.corrcoef(torch.cat([values, targets[following]], 1).double().T)[-1, :-1]
    unexplained = dict(zip(names, 1 - np.nan_to_num(correlations) ** 2, strict=True))
    own = min(unexplained.pop(name, 1.0) for name in own_names)
    best = min(unexplained, key=lambda name: unexplained[name], default="")
    return best if unexplained.get(best, 1.0) <= min(LEADING, 0.1 * own) else ""


def _sampled_rows(test: TestRows) -> TestRows:
    """Return the test rows, or evenly spaced ones if there are many."""
    count = max(1, MOST_NUMBERS * len(test.targets) // max(1, test.outputs.size))
    positions = evenly_spaced(len(test.targets), count).numpy()
    arrays: dict[str, Any] = {}
    for name in ("rows", "targets", "outputs", "groups"):
        values = getattr(test, name)
        if values is not None:
            arrays[name] = values[positions]
    baselines = {name: outputs[positions] for name, outputs in test.baselines.items()}
    return TestRows(**arrays, baselines=baselines)
