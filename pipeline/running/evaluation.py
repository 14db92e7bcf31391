"""Scores a trained model on some rows and records the evaluation as a run of its own."""

from __future__ import annotations

import re
from contextlib import nullcontext
from time import perf_counter

from pipeline.base.findings import save_findings
from pipeline.base.paths import replace_json
from pipeline.base.signals import stop
from pipeline.base.terminal import console, duration, headed, print_lines, say, waiting_for
from pipeline.running.evaluated_rows import evaluated_rows
from pipeline.running.evaluation_plan import EvaluationRequest, evaluation_plan
from pipeline.running.overview import print_data, print_header
from pipeline.running.recording import recorded_run
from pipeline.running.results import print_figures, where_lines
from pipeline.running.run_store import connecting, writable_store
from pipeline.serving.model import Decision, Model
from pipeline.tracking.client import RecorderClient

#: Stage in the names of the metrics of other parts than the test part.
STAGES = {"validation": "val", "train": "train", "all": "all"}


def evaluate(request: EvaluationRequest) -> None:
    """Score the model on the requested rows, record the evaluation, and print the result.

    Raises:
        PipelineError: The model or the rows can't be read, or the environment is at fault.
    """
    started_at = perf_counter()
    options = request.options
    uri = writable_store(options)
    model = Model.load(request.model_path, trust=options.trust)
    rows = evaluated_rows(request, model)
    plan = evaluation_plan(request, model, rows.prepared, started_at)
    with nullcontext() if uri is None else RecorderClient() as recorder:
        if options.verbose != 0:
            print_header(plan, rows.description, plan.devices.words.partition("; here: ")[0])
            print_data(plan, plan.notes)
        with (
            waiting_for("loading Lightning", options.verbose),
            connecting(recorder, options.tracking, uri),
        ):
            # Lightning takes seconds to import.
            from pipeline.running.final_test import scored_test, with_intervals
            from pipeline.running.run_findings import findings_of_test
            from pipeline.running.task_building import build_task

            stop.check()  # an import may have swallowed it
        decision = model.decision
        if request.threshold is not None:
            decision = Decision(threshold=request.threshold, rule=str(request.threshold))
        with waiting_for("scoring", options.verbose), recorded_run(plan, recorder) as record:
            task = build_task(plan.options, plan.network, plan.prepared)
            test = with_intervals(plan, scored_test(plan, task, decision, None))
            test.write(record.artifacts, model.schema)
            if rows.drift is not None:
                replace_json(record.artifacts / "drift.json", rows.drift)
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
        _print_drift(rows.drift)
        lines = [
            f"model   {model.file.parent} (epoch {model.facts['epoch']})",
            f"took    {duration(seconds)}",
            f"run     {record.folder}",
        ]
        print_lines([*lines, *where_lines(record)])


def _print_drift(drift: tuple[str, ...] | None) -> None:
    if drift is None:
        lines = ["unknown: the model has no data report"]
    elif not drift:
        lines = ["none: no column differs significantly from the training rows"]
    else:
        lines = ["columns distributed differently from the training rows:", *drift]
    for line in headed("drift", lines):
        say(console(), line)
