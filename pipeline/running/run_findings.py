"""The findings of a run, for the doctor, the pictures, the reports and MLflow's page."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from math import ceil, inf, prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import nn

from pipeline.base.ends import End
from pipeline.base.errors import typed_text
from pipeline.base.findings import (
    Clipping,
    ColumnImportances,
    Findings,
    Inside,
    Mistakes,
    TestRows,
    save_findings,
)
from pipeline.base.markup import Block, Command, Section, as_markdown
from pipeline.base.paths import conf_folder, remove_leftovers, replace_json, replace_text
from pipeline.base.processes.child import Child
from pipeline.config.values import TARGET
from pipeline.data.parsing.times import season_of
from pipeline.data.preparation.content import Part
from pipeline.doctor.diagnosis import diagnose
from pipeline.inside.views import chosen, inside_of
from pipeline.modules.task import Task
from pipeline.networks.inspection import activity_of
from pipeline.pictures.gallery import FOLDER, LIST, PictureFile, read_list
from pipeline.running.helpers import wants_pictures
from pipeline.running.kept_weights import ScoredTest, TrainedWeights, outputs_of
from pipeline.running.participant import Participant
from pipeline.running.plan import Plan
from pipeline.running.recording import Record, unless_it_fails
from pipeline.running.results import Result
from pipeline.running.run_document import result_table, summary
from pipeline.running.scoring import direction_of, scores_of, trained_rows
from pipeline.scoring.importance import evenly_spaced, evenly_spaced_part, importances_of
from pipeline.tracking.description import description, fits
from pipeline.tracking.fields import NOTE_TAG
from pipeline.tracking.folders import read_state

#: Largest number of training rows that are scored after the training.
MOST_ROWS = 2000
FEWEST_ROWS = 32
#: Multiplications and additions of that scoring: some seconds of one core.
MOST_WORK = 5 * 10**10
#: Size of these rows as float32.
MOST_BYTES = 64 * 2**20
#: Number of these rows that the statistics of activations use.
ACTIVE_ROWS = 512
#: Outputs of test rows that are kept for pictures and reports: 40 MB before compression.
MOST_NUMBERS = 10_000_000
#: Number of worst mistakes that are kept for a picture.
MOST_MISTAKES = 12
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
#: Longest wait for the pictures, in seconds.
SECONDS = 300.0
#: Pictures in the description, by the beginning of their names; the first match is shown.
MAIN = (
    "curves/loss",
    "classes/confusion",
    "forecast/truth",
    "inside/",
    "mistakes/worst",
    "columns/importance",
)
MOST_SHOWN = 4
FILES = {
    "report.html": "report",
    "card.md": "model card",
    "doctor.md": "diagnosis",
    "layers.txt": "the layers",
    "config.yaml": "configuration",
    "classes.csv": "scores by class",
    "test_predictions.csv": "test predictions",
    "history.csv": "values by epoch",
}


# ── the findings ────────────────────────────────────────────────────────────────────────────


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
    return _with_scores(findings, plan, participant.task)


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
    return replace(
        findings,
        threshold=test.threshold,
        metrics=test.metrics,
        intervals={} if test.intervals is None else test.intervals.ends,
        baselines=test.baselines,
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
        repeated=None if prepared.report is None else prepared.report.repeated,
        shares=shares,
        parameters=plan.parameters,
        seconds=0.0,
        device=plan.devices.words,
        data_hash=prepared.content_hash,
        history={},
    )


def _with_scores(findings: Findings, plan: Plan, task: Task) -> Findings:
    """Add scores and activations on some training rows, and the importance of the columns."""
    threshold = findings.threshold
    # As many rows as need little time and memory.
    work = max(1, plan.forward_operations)
    row_bytes = 4 * prod(plan.prepared.schema.input_shape)
    affordable = min(MOST_WORK // work, MOST_BYTES // row_bytes)
    count = min(MOST_ROWS, max(FEWEST_ROWS, affordable))
    trained = trained_rows(plan.options, len(plan.prepared.train))
    sample = partial(evenly_spaced_part, plan.prepared.train, count, first=trained)
    part = unless_it_fails(sample, "the training rows were not scored")
    if part is not None:
        scores = unless_it_fails(
            lambda: _scores(plan, task, part, threshold), "the training rows were not scored"
        )
        active_rows = torch.arange(min(ACTIVE_ROWS, len(part)))
        activity = unless_it_fails(
            lambda: activity_of(task.network, part.take(active_rows)),
            "the activations were not examined",
        )
        findings = replace(findings, training=scores or {}, activity=activity or ())
    importances = unless_it_fails(
        lambda: _importances(plan, task, threshold), "the column importances were not measured"
    )
    return replace(findings, importances=importances)


def _scores(plan: Plan, task: Task, part: Part, threshold: float) -> dict[str, float]:
    """Score the kept weights on training rows in the same way as on the other parts."""
    outputs = outputs_of(task.network, part.blocks())
    task.scores = scores_of(plan.options, plan.prepared.schema, threshold=threshold)
    with torch.inference_mode():
        scores, _ = task.measured(outputs, part.targets.to(outputs.device), part.offsets)
    return {key: float(score) for key, score in scores.items()}


def _sampled_rows(test: TestRows) -> TestRows:
    """Return the test rows, or evenly spaced ones if there are many."""
    count = max(1, MOST_NUMBERS * len(test.targets) // max(1, test.outputs.size))
    positions = evenly_spaced(len(test.targets), count).numpy()
    arrays: dict[str, Any] = {}
    for field in dataclasses.fields(test):
        values = getattr(test, field.name)
        arrays[field.name] = None if values is None else values[positions]
    return TestRows(**arrays)


def _importances(plan: Plan, task: Task, threshold: float) -> ColumnImportances | None:
    """Return the importance of each column of a table; `None` for other data."""
    schema = plan.prepared.schema
    if schema.kind != "table":
        return None
    part = plan.prepared.validation
    part_name = "validation"
    if part is None:
        part = plan.prepared.train
        part_name = "train"
    return importances_of(
        part,
        schema=schema,
        outputs=lambda inputs: outputs_of(task.network, [inputs]),
        scores=scores_of(plan.options, schema, threshold=threshold),
        part_name=part_name,
    )


def with_views(findings: Findings, plan: Plan, network: nn.Module) -> Findings:
    """Add what only pictures need to the findings: the worst mistakes and feature maps."""
    mistakes = unless_it_fails(
        lambda: _mistakes(findings, plan), "the worst errors were not collected"
    )
    feature_maps = unless_it_fails(
        lambda: _feature_maps(plan, network), "the feature maps were not computed"
    )
    return replace(findings, mistakes=mistakes, inside=feature_maps)


def _feature_maps(plan: Plan, network: nn.Module) -> Inside | None:
    options = plan.options.feature_maps
    rows, labels, inputs = chosen(plan.prepared, options.samples)
    views = inside_of(network, inputs, channels=options.channels)
    if not views:
        return None
    return Inside(rows=rows, labels=labels, inputs=inputs.numpy(), views=views)


def _mistakes(findings: Findings, plan: Plan) -> Mistakes | None:
    schema = plan.prepared.schema
    test = findings.test
    if test is None or findings.kind == "table" or schema.difference is not None:
        return None  # windows of differences can't be drawn beside forecasts of levels
    positions = test.worst(findings.threshold, count=MOST_MISTAKES)
    # The findings may have fewer rows than the part.
    part = plan.prepared.test
    indices = [int(np.flatnonzero(part.rows == row)[0]) for row in test.rows[positions]]
    inputs = schema.input_scaler.unscaled(part.take(torch.tensor(indices, dtype=torch.int64)))
    return Mistakes(positions=positions, inputs=inputs.numpy())


def write_diagnosis(findings: Findings, record: Record, *, lean: bool) -> tuple[str, ...]:
    """Diagnose a run, record the diagnosis (with `lean`, only a tag) and return lines to show."""
    diagnosis = unless_it_fails(lambda: diagnose(findings), "the run was not diagnosed")
    if diagnosis is None:
        return ()
    record.journal.tag("doctor", diagnosis.names)
    if lean:
        return ()
    replace_text(record.artifacts / "doctor.md", f"{as_markdown(diagnosis.section())}\n")
    replace_json(record.artifacts / "doctor.json", diagnosis.to_dict(), has_nan=False)
    return tuple(diagnosis.lines())


# ── their pictures, and their description in MLflow ─────────────────────────────────────────


@contextmanager
def drawing_pictures(
    plan: Plan,
    record: Record,
    network: nn.Module | None,
    findings: Findings,
    doctor: Sequence[str],
    *,
    artist: Child,
) -> Iterator[bool]:
    """Save the findings, draw their pictures while the body runs, and record a description.

    Yields whether there will be pictures. The description, which links the files that exist, is
    recorded before the body, which may end the run, and once more with the pictures.

    Args:
        plan: The run.
        record: Its record.
        network: The network with the kept weights; `None` = they are not finite.
        findings: Findings of the run.
        doctor: The diagnosis, in lines.
        artist: The process that draws, if it could be started.
    """
    for stale in (record.report, record.artifacts / FOLDER / LIST):  # of the training so far
        with suppress(OSError):
            stale.unlink(missing_ok=True)
    # torchrun ends this rank soon after another rank has failed.
    draws = wants_pictures(plan.options) and (network is not None or plan.rank.world == 1)
    if draws and network is not None:
        findings = with_views(findings, plan, network)
    saved = unless_it_fails(
        lambda: save_findings(findings, record.artifacts), "the findings were not saved"
    )
    draws = bool(draws and saved)
    try:
        if draws and artist.is_open:
            artist.send({"artifacts": str(record.artifacts.absolute())})
        _describe(plan, record, findings, doctor, pictures=[])
        yield draws
        if draws:
            pictures = _wait_for_pictures(artist, record.artifacts)
            if pictures:
                _describe(plan, record, findings, doctor, pictures=pictures)
    finally:
        artist.close(0.0)
        remove_leftovers(record.artifacts / FOLDER)


def _describe(
    plan: Plan,
    record: Record,
    findings: Findings,
    doctor: Sequence[str],
    *,
    pictures: Sequence[PictureFile],
) -> None:
    """Record the description of a run; print a warning if that fails."""

    def describe() -> None:
        command = "" if plan.command is None else plan.command.line()
        text = description_text(findings, pictures, record.folder, doctor=doctor, command=command)
        record.journal.tag(NOTE_TAG, text)

    unless_it_fails(describe, "the description of the run was not written")


def _wait_for_pictures(artist: Child, artifacts: Path) -> list[PictureFile]:
    """Wait for the pictures and return them; print a warning if they are missing."""
    problems = ["the pictures could not be drawn: their process could not be started"]
    hint = ""
    if artist.is_open:
        code = artist.wait(SECONDS)
        problems = [str(message["problem"]) for message in artist.messages()]
        if code is None:
            problems = [f"the pictures were not drawn within {SECONDS:.0f} s"]
        elif code and not problems:
            problems = [f"the pictures could not be drawn (exit code {code})"]
        hint = f"; try pipeline report {typed_text('run', str(artifacts.parent))}"
    if problems:
        print(f"warning: {'; '.join(problems)}{hint}", file=sys.stderr)
    return read_list(artifacts / FOLDER)


def description_text(
    findings: Findings,
    pictures: Sequence[PictureFile],
    folder: Path,
    *,
    doctor: Sequence[str],
    command: str,
) -> str:
    """Return the description of a run for MLflow's page.

    Args:
        findings: Findings of the run.
        pictures: What was drawn, below `pictures/` in the run's artifacts.
        folder: The run's folder.
        doctor: The diagnosis, in lines.
        command: The command line that trains the run again; empty if there is none.
    """
    verdicts = [f"Doctor: {line.removeprefix('doctor').strip()}" for line in doctor]
    blocks: list[Block] = [summary(findings), verdicts]
    table = result_table(findings)
    if table is not None:
        blocks.append(table)
    if command:
        blocks.append(Section("Reproduce", [Command(command)]))
    linked = {f"{FOLDER}/{picture.file}": picture.title for picture in pictures}
    embedded = {}
    for picture in _main_pictures(pictures, folder / "artifacts" / FOLDER):
        embedded[f"{FOLDER}/{picture.file}"] = (picture.title, picture.alt)
    return description(blocks, folder, shown=embedded, linked=linked | FILES)


def _main_pictures(pictures: Sequence[PictureFile], folder: Path) -> list[PictureFile]:
    """Return the pictures that the description shows: the first of each kind that `fits`."""
    fitting = [picture for picture in pictures if fits(folder / picture.file)]
    main = []
    for prefix in MAIN:
        for picture in fitting:
            if picture.name.startswith(prefix):
                main.append(picture)
                break
    return main[:MOST_SHOWN]
