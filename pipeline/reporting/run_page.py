"""The report of one run, or of a range test of the learning rate.

Run as a module, this is the process that draws the pictures of a run and writes its report.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # PyYAML brings no types
from pydantic import ValidationError

from pipeline.base.errors import ConfigError
from pipeline.base.findings import LrCurve
from pipeline.base.markup import Command, Section
from pipeline.base.paths import replace_text
from pipeline.config.options import LrRangeOptions, ReportOptions
from pipeline.doctor.diagnosis import diagnose
from pipeline.pictures.gallery import FOLDER, draw_for_run, gallery, texts
from pipeline.pictures.style import Picture
from pipeline.pictures.training import lr_range
from pipeline.reporting.page import (
    NAME,
    PagePicture,
    draw_pictures,
    read_pictures,
    render,
    template_of,
)
from pipeline.reporting.subject import Subject, find_subject, local_subject
from pipeline.running.run_document import data_section, making_section, run_document
from pipeline.running.run_document import summary as summary_of_findings


def report_run(reference: str, options: ReportOptions) -> list[str]:
    """Write the report of a run, and return the lines for the terminal."""
    subject = find_subject(reference, options)
    page = range_page(subject) if subject.is_range_test else run_page(subject)
    line = f"{subject.findings.name}: {page['summary']}"
    return [line, subject.publish(render("run.html", page), options, NAME)]


def write_report(folder: Path) -> None:
    """Write the report of a run that has ended into its folder, from what it has left there."""
    subject = local_subject(folder)
    if subject.status == "RUNNING":  # the end of its journal follows within a second
        end = subject.findings.end
        subject = replace(subject, status=end.status, reason=end.reason or "")
    text = render("run.html", run_page(subject))
    replace_text(folder / "artifacts" / NAME, text)


def run_page(subject: Subject) -> dict[str, Any]:
    """Return the values for the template of a run's report."""
    findings = subject.findings
    pictures = []
    if subject.folder is not None:
        pictures = read_pictures(subject.folder / "artifacts" / FOLDER)
    groups: dict[str, list[PagePicture]] = {}
    for picture in pictures or draw_pictures(gallery(findings), texts=texts(findings)):
        groups.setdefault(picture.group.replace("_", " ") or "more", []).append(picture)
    if subject.lacks:
        diagnosis = Section("Diagnosis", ["no diagnosis: it needs the findings of a finished run"])
    elif not findings.is_trained:
        diagnosis = Section("Diagnosis", ["no diagnosis: an evaluation trains nothing"])
    else:
        diagnosis = diagnose(findings).section()
    result, *origin = run_document(
        findings, data=subject.data, tags=subject.tags, facts=_facts(subject)
    )
    first = [diagnosis, result]
    page = _page(subject, summary(subject), first=first, groups=groups, last=origin)
    return {**page, "lacks": subject.lacks}


def _page(
    subject: Subject,
    line: str,
    *,
    first: Sequence[Section],
    groups: Mapping[str, Sequence[PagePicture]],
    last: Sequence[Section],
) -> dict[str, Any]:
    """Return a page of a summary, sections, groups of pictures by name, and further sections."""
    config = {key: value for key, value in subject.findings.config.items() if key != "format"}
    return {
        "title": subject.findings.name,
        "summary": line,
        "lacks": "",
        "first": first,
        "groups": groups,
        "last": last,
        "layers": subject.layers,
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=88),
    }


def _facts(subject: Subject) -> dict[str, str]:
    return {
        "status": _status(subject),
        "machine": subject.tags.get("host", ""),
        "model file": "" if subject.size is None else size_words(subject.size),
        "folder": "" if subject.folder is None else str(subject.folder.absolute()),
    }


def _status(subject: Subject) -> str:
    reason = f" ({subject.reason})" if subject.reason else ""
    return f"{subject.status.lower()}{reason}"


def summary(subject: Subject) -> str:
    """Return what was trained, how the training ended, and the result."""
    return summary_of_findings(subject.findings, _status(subject))


def size_words(count: float) -> str:
    """Write a number of bytes, such as `1.4 MiB`."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 2**power:
            return f"{count / 2**power:.1f} {unit}"
    return f"{count:.0f} bytes"


def range_page(subject: Subject) -> dict[str, Any]:
    """Return the values for the template of the report of a learning rate range test."""
    from pipeline.running.command_line import Command as CommandLine
    from pipeline.running.lr_curve import stored_curve, training_command

    folder = subject.folder
    groups: dict[str, list[PagePicture]] = {}
    curve = None if folder is None else stored_curve(folder / "artifacts")
    verdict = _range_verdict(subject, curve)
    first = []
    if folder is not None and curve is not None:
        alt = f"Training loss by learning rate, of single batches and smoothed; {verdict}"
        draw = partial(lr_range, curve)
        groups["curve"] = draw_pictures([Picture("lr_range", "Loss by learning rate", alt, draw)])
        with suppress(ConfigError):  # a run that was started from Python has no command
            command = training_command(CommandLine.load(folder), curve.suggestion)
            if command:
                first.append(Section("Train with it", [Command(command)]))
    line = f"learning rate range test; {verdict}"
    last = [
        data_section(subject.findings, subject.data),
        making_section(subject.findings, subject.tags, _facts(subject)),
    ]
    return _page(subject, line, first=first, groups=groups, last=last)


def _range_verdict(subject: Subject, curve: LrCurve | None) -> str:
    if curve is None:
        return f"no curve: the range test is {_status(subject)}"
    from pipeline.running.lr_curve import verdict

    try:
        options = LrRangeOptions.model_validate(
            subject.findings.config.get("lr_range"), strict=False
        )
    except ValidationError as error:
        raise ConfigError(
            f"the configuration in {str(subject.folder)!r} has no learning rate range"
        ) from error
    return verdict(curve, options)


if __name__ == "__main__":
    template_of("run.html")  # while the network trains
    draw_for_run(write_report)
