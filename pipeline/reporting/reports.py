"""What each kind of report is made from, where it goes and what is said of it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.options import TrackingOptions
from pipeline.errors import ConfigError
from pipeline.reporting.page import rendered, write_page
from pipeline.reporting.subject import Subject, found_subject
from pipeline.tracking.attaching import attach, attach_to

NAME = "report.html"
SHORT_ID = 8
LONGEST_WORD = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where runs are looked for, and where a report goes.

    Args:
        folder: Holds a folder for each run and each study.
        key: What the command calls that folder.
        storage: Optuna's URL of the studies' database; `None` = the default.
        tracking: Where runs are on record.
        output: The file; `None` = among the run's artifacts.
        scratch: An empty folder.
    """

    folder: Path
    key: str
    storage: str | None
    tracking: TrackingOptions
    output: Path | None
    scratch: Path


def report_run(reference: str, places: Places) -> list[str]:
    """Report on a run, and return what the terminal is told."""
    from pipeline.reporting.run_page import run_page, summary

    subject = _subject(reference, places, "run")
    if subject.is_range_test:
        from pipeline.reporting.range_page import range_page, range_summary

        text, told = rendered("range.html", range_page(subject)), range_summary(subject)
    else:
        text, told = rendered("run.html", run_page(subject)), summary(subject)
    path = places.output or _place(subject, NAME)
    write_page(path, text)
    _attach(subject, path, places, name=NAME)
    return [f"{subject.findings.name}: {told}", _where(path)]


def report_study(name: str, places: Places) -> list[str]:
    """Report on a study, and return what the terminal is told."""
    from pipeline.reporting.study_page import study_page, summary
    from pipeline.reporting.study_subject import found_study

    subject = found_study(name, places.folder, places.storage)
    folder = places.folder / name
    path = places.output or (
        folder / "artifacts" / NAME if folder.is_dir() else Path(f"report-{name}.html")
    )
    write_page(path, rendered("study.html", study_page(subject)))
    if places.tracking.kind != "none":
        _warn(attach(folder, path, places.tracking, name=NAME))
    return [f"{name}: {summary(subject)}", _where(path)]


def report_against(references: Sequence[str], places: Places) -> list[str]:
    """Report on two runs against each other, and return what the terminal is told."""
    from pipeline.reporting.against import Against
    from pipeline.reporting.comparison_page import comparison_page, lines

    first, second = (
        _subject(one, places, f"run-{letter}") for letter, one in zip("ab", references, strict=True)
    )
    for subject, reference in zip((first, second), references, strict=True):
        if subject.is_range_test:
            raise ConfigError(
                f"run {reference!r} is a range test of the learning rate; expected runs that have "
                "trained"
            )
    against = Against(first=first, second=second)
    name = f"report-against-{_word(first)}.html"
    path = places.output or _place(second, name)
    write_page(path, rendered("comparison.html", comparison_page(against)))
    _attach(second, path, places, name=name)
    return [*lines(against), _where(path)]


def _subject(reference: str, places: Places, key: str) -> Subject:
    scratch = places.scratch / key
    scratch.mkdir()
    return found_subject(reference, places.folder, places.tracking, key=places.key, scratch=scratch)


def _place(subject: Subject, name: str) -> Path:
    """Return where a report goes of itself: to the run, or here where that lies elsewhere."""
    if subject.folder is not None:
        return subject.folder / "artifacts" / name
    return Path(f"{Path(name).stem}-{subject.findings.run_id[:SHORT_ID]}.html")


def _word(subject: Subject) -> str:
    """Return a word for a run, which becomes part of a file's name."""
    if subject.folder is not None:
        return subject.folder.name[-LONGEST_WORD:]
    return subject.findings.run_id[:SHORT_ID]


def _attach(subject: Subject, path: Path, places: Places, *, name: str) -> None:
    if places.tracking.kind == "none":
        return
    if subject.folder is not None:
        _warn(attach(subject.folder, path, places.tracking, name=name))
    elif subject.findings.run_id:
        told = attach_to(subject.findings.run_id, subject.uri, path, places.tracking, name=name)
        _warn(told)


def _warn(problem: str | None) -> None:
    if problem is not None:
        print(
            f"warning: {problem}; MLflow lacks the report, which the same command sends again",
            file=sys.stderr,
        )


def _where(path: Path) -> str:
    return f"report  {path}  {path.absolute().as_uri()}"
