"""What a run leaves once its network is trained and tested: tables, model, diagnosis, pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipeline.base.findings import Findings
from pipeline.base.markup import as_markdown
from pipeline.base.paths import replace_json, replace_text
from pipeline.base.processes.child import Child
from pipeline.base.terminal import shown_verbosity
from pipeline.doctor.diagnosis import diagnose
from pipeline.running.final_test import with_intervals
from pipeline.running.kept_weights import TrainedWeights
from pipeline.running.participant import Participant
from pipeline.running.recording import RunJournal, unless_it_fails
from pipeline.running.results import Result, print_doctor
from pipeline.running.run_findings import findings_of
from pipeline.running.run_pictures import drawing_pictures
from pipeline.running.run_start import write_history
from pipeline.serving.files import CARD, FOLDER

Shows = Callable[[Result, str], None]


def write_finished(
    training: Participant, record: RunJournal, result: Result, *, artist: Child, shows: Shows | None
) -> Result:
    """Write what a run leaves, put its end on record, and return the result with its diagnosis.

    Args:
        training: Its task holds the kept weights.
        record: The run's record.
        result: What the training and the test gave.
        artist: The process that draws the run's pictures.
        shows: Takes the result once the run has finished on record, and a description of the
            remaining work; `None` = nothing is shown.
    """
    plan = training.plan
    lean = plan.context.lean
    if result.test is not None and not lean:
        result = replace(result, test=with_intervals(plan, result.test))
    findings = findings_of(plan, training, result, diverged=False)
    result = replace(result, doctor=_write_diagnosis(findings, record, lean=lean))
    if lean:
        return result
    write_history(record.artifacts, result.history)
    if result.test is not None:
        result.test.write(record.artifacts, plan.prepared.schema)
    _write_model(training, record, result, findings)
    network = training.task.network
    with drawing_pictures(
        plan, record, network, findings, result.doctor, artist=artist
    ) as is_drawn:
        # From here on a stop or a kill leaves a finished run, whose record can be completed.
        record.finish()
        if shows is not None:
            tasks = []
            if is_drawn:
                tasks.append("drawing pictures")
            if record.run_id is not None:
                tasks.append("sending to MLflow")
            shows(result, ", ".join(tasks))
    return result


def write_diverged(
    training: Participant, record: RunJournal, result: Result, *, artist: Child
) -> Result:
    """Write what a diverged run leaves, and return the result with its diagnosis."""
    plan = training.plan
    lean = plan.context.lean
    findings = findings_of(plan, training, result, diverged=True)
    result = replace(result, doctor=_write_diagnosis(findings, record, lean=lean))
    if lean:
        return result
    write_history(record.artifacts, result.history)
    with drawing_pictures(plan, record, None, findings, result.doctor, artist=artist):
        if shown_verbosity(plan.options.verbose) > 0:
            print_doctor(result.doctor)
    return result


def _write_model(
    training: Participant, record: RunJournal, result: Result, findings: Findings
) -> None:
    begin = record.journal.read().begin
    assert begin is not None, "a run that has trained has begun on record"
    weights = TrainedWeights(
        plan=training.plan,
        task=training.task,
        decision=result.decision,
        epoch=int(result.metrics.get("best/epoch", result.epochs)),
        epochs=result.epochs,
        kept=result.kept,
        history=result.history,
        tags=begin.tags,
    )
    test = None if result.test is None else result.test.rows  # all of them
    record.journal.model(weights.write(record.folder, replace(findings, test=test)))
    text = (record.folder / FOLDER / CARD).read_text(encoding="utf-8")
    replace_text(record.artifacts / CARD, text)


def _write_diagnosis(findings: Findings, record: RunJournal, *, lean: bool) -> tuple[str, ...]:
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
