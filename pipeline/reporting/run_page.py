"""The report of one run, or of a range test of the learning rate.

Run as a module, this is the process that draws the pictures of a run and writes its report.
"""

from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml  # type: ignore[import-untyped] # PyYAML brings no types
from pydantic import ValidationError

from pipeline.bootstrap import units_of_test
from pipeline.config.options import LrRangeOptions, ReportOptions
from pipeline.data.report_text import few_rows, tables
from pipeline.data.report_text import lines as data_lines
from pipeline.doctor.diagnosis import diagnose
from pipeline.errors import ConfigError
from pipeline.findings import Findings, LrCurve
from pipeline.gallery import FOLDER, draw_for_run, gallery, texts
from pipeline.markup import (
    BASELINES,
    MISSING,
    TextTable,
    baseline_headings,
    interval_text,
    score_rows,
)
from pipeline.metrics import metric_label, ranked
from pipeline.paths import replace_text
from pipeline.pictures.style import Picture
from pipeline.pictures.training import lr_range
from pipeline.reporting.page import NAME, PagePicture, drawn, embedded, rendered, template_of
from pipeline.reporting.subject import Subject, found_subject, local_subject
from pipeline.running.scoring import no_interval_notes, tested_names
from pipeline.scores import ClassScores, class_scores, mean_words
from pipeline.terminal import duration, rounded

MACRO = "precision, recall, F1 and AUROC are macro averages over the classes"
OWN_REASON = "too slow, undefined for most bootstrap samples, or equal for all of them"
INTERVALS = (
    "95 % CI: bootstrap over the test rows; it does not cover the variation between training runs"
)


def report_run(reference: str, options: ReportOptions) -> list[str]:
    """Write the report of a run, and return the lines for the terminal."""
    subject = found_subject(reference, options)
    if subject.is_range_test:
        page = _range_page(subject)
        text = rendered("range.html", page)
        told = f"learning rate range test; {page['verdict']}"
    else:
        text, told = rendered("run.html", run_page(subject)), summary(subject)
    return [f"{subject.findings.name}: {told}", subject.publish(text, options, NAME)]


def write_report(folder: Path) -> None:
    """Write the report of a run that has ended into its folder, from what it has left there."""
    subject = local_subject(folder)
    if subject.status == "RUNNING":  # the end of its journal follows within a second
        is_whole = subject.findings.end == "finished"
        status, reason = ("FINISHED", "") if is_whole else ("FAILED", "diverged")
        subject = replace(subject, status=status, reason=reason)
    text = rendered("run.html", run_page(subject))
    replace_text(folder / "artifacts" / NAME, text)


def run_page(subject: Subject) -> dict[str, Any]:
    """Return the values for the template of a run's report."""
    folder, findings = subject.folder, subject.findings
    found = [] if folder is None else embedded(folder / "artifacts" / FOLDER)
    groups: dict[str, list[PagePicture]] = {}
    for picture in found or drawn(gallery(findings), texts=texts(findings)):
        groups.setdefault(picture.group.replace("_", " ") or "more", []).append(picture)
    is_known = findings.is_trained and not subject.lacks
    return {
        "title": findings.name,
        "summary": summary(subject),
        "lacks": subject.lacks,
        "is_trained": findings.is_trained,
        "verdicts": diagnose(findings).verdicts if is_known else (),
        "result": result_table(findings),
        "classes": class_table(findings),
        "groups": groups,
        **_origin(subject),
    }


def _origin(subject: Subject) -> dict[str, Any]:
    findings, tags = subject.findings, subject.tags
    config = {key: value for key, value in findings.config.items() if key != "format"}
    report, has_weights = subject.data, dict(config.get("loss") or {}).get("class_weights")
    data = [] if report is None else [line.partition(" ") for line in data_lines(report)]
    if report is not None:
        data += [("warning", "", words) for words in few_rows(report) if not has_weights]
        data += [("note", "", words) for words in report.notes]
    names = {"python": "Python", "host": "machine", "git.commit": "commit", "seed": "seed"}
    told = {name: str(tags[key]) for key, name in names.items() if key in tags}
    if tags.get("git.dirty") == "true":
        told["code"] = "with uncommitted changes"
    versions = {k.removeprefix("version."): v for k, v in tags.items() if k.startswith("version.")}
    kept = f"{findings.kept} of {findings.epochs}" if findings.kept else str(findings.epochs)
    facts = {
        "status": " ".join([subject.status.lower(), f"({subject.reason})" * bool(subject.reason)]),
        "rows": ", ".join(f"{count:,} {part}" for part, count in findings.rows.items()),
        "kept weights": f"epoch {kept}" if findings.epochs else "",
        "monitored metric": f"{findings.monitor} ({findings.better})",
        "parameters": f"{findings.parameters:,}" if findings.parameters else "",
        "model file": "" if subject.size is None else size_words(subject.size),
        "training time": duration(findings.seconds) if findings.seconds else "",
        "device": findings.device,
        "hash of data and split": findings.data_hash,
        "MLflow run": findings.run_id,
        "folder": "" if subject.folder is None else str(subject.folder.absolute()),
    }
    return {
        "command": tags.get("command", ""),
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=88),
        "layers": subject.layers,
        "data": [(word, rest.strip()) for word, _, rest in data],
        "data_tables": [] if report is None else tables(report),
        "facts": [(key, value.strip()) for key, value in facts.items() if value.strip()],
        "environment": [*told.items(), *versions.items()],
    }


def summary(subject: Subject) -> str:
    """Return what was trained, how the training ended, and the result."""
    findings = subject.findings
    weights = f", {findings.parameters:,} parameters" if findings.parameters else ""
    epochs = f"{findings.epochs_words} epoch{'' if findings.planned == 1 else 's'}"
    rows = f" on {rows_words(findings.rows['train'])}" if "train" in findings.rows else ""
    took = f" in {duration(findings.seconds)}" if findings.seconds else ""
    is_earlier = findings.kept not in (None, findings.epochs)
    kept = f", weights of epoch {findings.kept}" if is_earlier else ""
    trained = f"{epochs}{rows}{took}{kept}" if findings.is_trained else "evaluated"
    return f"{findings.model}{weights}, {trained}: {_outcome(subject)}."


def _outcome(subject: Subject) -> str:
    findings, name = subject.findings, main_metric(subject.findings)
    if findings.end == "diverged":
        return "diverged, its loss is NaN or infinite"
    if subject.status == "RUNNING":
        return "still running"
    if name is None:
        broken = f", {subject.reason}" if subject.reason else ""
        return f"{subject.status.lower()}{broken}, not tested"
    metrics, ends = findings.metrics, findings.intervals.get(name)
    interval = interval_text(ends)
    notes = [] if interval == MISSING else [f"95 % CI {interval}"]
    notes += [rows_words(findings.rows["test"])] if "test" in findings.rows else []
    keys = [f"{kind}/{name}" for kind in BASELINES]
    against = (f"{k.partition('/')[0]} {rounded(metrics[k], ends)}" for k in keys if k in metrics)
    told = f"test {metric_label(name)} {rounded(metrics[f'test/{name}'], ends)}"
    return ", ".join([f"{told} ({', '.join(notes)})" if notes else told, *against])


def size_words(count: float) -> str:
    """Write a number of bytes, such as `1.4 MiB`."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 2**power:
            return f"{count / 2**power:.1f} {unit}"
    return f"{count:.0f} bytes"


def result_table(findings: Findings) -> TextTable | None:
    """Return the test figures beside the baselines'; `None` if nothing was tested."""
    names = tested_names(findings.task, findings.metrics)
    if not names:
        return None
    values, headings = findings.metrics, baseline_headings(findings.metrics, findings.baselines)
    units, notes = units_of_test(findings), [MACRO] if findings.task == "multiclass" else []
    has_units = units.kind != "row"
    if findings.intervals:
        notes.append(f"{INTERVALS}{f' ({units.words})' * has_units}")
    elif findings.test is not None and has_units:
        notes.append(f"no confidence intervals: too few ({units.words})")
    lines = score_rows(values, findings.intervals, names, headings)
    if findings.intervals:
        unsure = [line[0] for line in lines if line[2] == MISSING]
        notes += no_interval_notes(findings.task, unsure, own_reason=OWN_REASON)
    return TextTable(
        title=_title(findings),
        headings=["metric", "network", "95 % CI", *headings.values()],
        lines=lines,
        notes=notes,
    )


def rows_words(count: int, noun: str = "row") -> str:
    """Write a number of rows, such as `1 test row`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def class_table(findings: Findings) -> TextTable | None:
    """Return TP, FP, TN, FN and scores of each class on the test rows; `None` without them."""
    scores = _scores_by_class(findings)
    if not scores:
        return None
    lines = []
    for one in scores:
        counts = (f"{count:,}" for count in (one.support, *one.counts))
        lines.append([one.name, *counts, *one.score_texts])
    supports = [one.support for one in scores]
    notes = []
    if not all(supports):
        there = np.count_nonzero(supports)
        notes = [f"{there} of {len(scores)} classes are in the test rows"]
    if not all(one.is_counted for one in scores):
        notes.append(f"{MISSING}: neither in the test rows nor predicted; not part of any mean")
    return TextTable(
        title=f"scores by class, {rows_words(sum(supports), 'test row')}",
        headings=["class", "rows", "TP", "FP", "TN", "FN", "precision", "recall", "F1"],
        lines=lines,
        notes=notes,
    )


def _scores_by_class(findings: Findings) -> tuple[ClassScores, ...]:
    """Return the scores of each class; empty for a regression, and without test rows."""
    test = findings.test
    if test is None or findings.task == "regression" or not len(test.targets):
        return ()
    return class_scores(test.called(findings.threshold), test.targets, findings.classes)


def main_metric(findings: Findings) -> str | None:
    """Return the metric that represents the run's test: that of the monitor, else a usual one."""
    names = tested_names(findings.task, findings.metrics)
    own = findings.monitor.rpartition("/")[2]
    return next((name for name in (own, *ranked(), *names) if name in names), None)


def _title(findings: Findings) -> str:
    if findings.task == "regression":
        return f"test metrics, in {findings.units or 'the units of the target'}"
    if findings.task == "binary" and len(findings.classes) > 1:
        return f"test metrics of class {findings.classes[1]}"
    scores, count = _scores_by_class(findings), len(findings.classes)
    return f"test metrics, {mean_words(scores) if scores else f'mean over {count} classes'}"


def _range_page(subject: Subject) -> dict[str, Any]:
    from pipeline.running.command_line import Command
    from pipeline.running.lr_curve import stored_curve, training_command

    folder, pictures, training = subject.folder, [], ""
    curve = None if folder is None else stored_curve(folder / "artifacts")
    told = _range_verdict(subject, curve)
    if folder is not None and curve is not None:
        alt = f"Training loss by learning rate, of single batches and smoothed; {told}"
        title, draw = "Loss by learning rate", partial(lr_range, curve)
        pictures = drawn([Picture("lr_range", title, alt, draw)])
        with suppress(ConfigError):  # a run that was started from Python has no command
            training = training_command(Command.load(folder), curve.suggestion) or ""
    return {
        "title": subject.findings.name,
        "summary": f"Learning rate range test of {subject.findings.model}",
        "verdict": told,
        "training": training,
        "pictures": pictures,
        **_origin(subject),
    }


def _range_verdict(subject: Subject, curve: LrCurve | None) -> str:
    if curve is None:
        why = f" ({subject.reason})" if subject.reason else ""
        return f"no curve: the range test is {subject.status.lower()}{why}"
    from pipeline.running.lr_curve import verdict

    try:
        tried = LrRangeOptions.model_validate(subject.findings.config.get("lr_range"), strict=False)
    except ValidationError as error:
        raise ConfigError(
            f"the configuration in {str(subject.folder)!r} has no learning rate range"
        ) from error
    return verdict(curve, tried)


if __name__ == "__main__":
    template_of("run.html")  # while the network trains
    draw_for_run(write_report)
