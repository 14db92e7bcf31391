"""What stands in the report of one run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped] # PyYAML brings no types

from pipeline.findings.records import Findings
from pipeline.markup import MISSING
from pipeline.reporting.figures import Shown, drawn
from pipeline.reporting.figures_of_run import (
    classes_sheet,
    interval_text,
    result_sheet,
    rows_words,
    telling,
)
from pipeline.reporting.subject import Subject
from pipeline.terminal import duration, number

if TYPE_CHECKING:
    from pipeline.doctor.verdict import Verdict

BYTES = 1024
UNITS = ("bytes", "KiB", "MiB", "GiB")

Facts = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the doctor says of a run.

    Args:
        verdicts: Worst first.
        words: What stands where there is none.
    """

    verdicts: "Sequence[Verdict]"
    words: str


def run_page(subject: Subject) -> dict[str, Any]:
    """Return what the template of a run's report asks for."""
    findings = subject.findings
    return {
        "title": findings.name,
        "summary": summary(subject),
        "lacks": subject.lacks,
        "diagnosis": _diagnosis(subject),
        "result": result_sheet(findings),
        "untested": "the test rows were left alone, or the run has not come to its test",
        "classes": classes_sheet(findings),
        "groups": grouped(pictures_of(findings)),
        **making(subject),
    }


def making(subject: Subject) -> dict[str, Any]:
    """Return what the page says of how a run was made."""
    return {
        "command": subject.tags.get("command", ""),
        "config": config_text(subject.findings.config),
        "data": [_pair(line) for line in subject.data],
        "facts": facts_of(subject),
        "environment": environment(subject.tags),
    }


def pictures_of(findings: Findings) -> list[Shown]:
    """Draw all pictures of a run."""
    from pipeline.pictures.gallery import gallery, texts

    return drawn(gallery(findings), texts=texts(findings))


def grouped(pictures: Sequence[Shown]) -> dict[str, list[Shown]]:
    """Return pictures by what they belong to, in the order of the first of each."""
    groups: dict[str, list[Shown]] = {}
    for picture in pictures:
        groups.setdefault(picture.folder.replace("_", " ") or "more", []).append(picture)
    return groups


def summary(subject: Subject) -> str:
    """Say in a sentence what was trained, how that ended and what it came to."""
    findings = subject.findings
    weights = f" with {findings.parameters:,} weights" if findings.parameters else ""
    planned = f" of {findings.planned}" if findings.planned else ""
    epochs = f"{findings.epochs}{planned} epoch{'' if planned == ' of 1' else 's'}"
    rows = f" on {rows_words(findings.rows['train'])}" if "train" in findings.rows else ""
    took = f" in {duration(findings.seconds)}" if findings.seconds else ""
    return f"{findings.model}{weights}, {epochs}{rows}{took}: {_outcome(subject)}."


def _outcome(subject: Subject) -> str:
    findings, name = subject.findings, telling(subject.findings)
    if findings.end == "diverged":
        return "it diverged, its loss is no number any more"
    if subject.status == "RUNNING":
        return "it still trains"
    if name is None:
        broken = f", {subject.reason}" if subject.reason else ""
        return f"{subject.status.lower()}{broken}, not tested"
    ends = interval_text(findings.intervals.get(name))
    within = "" if ends == MISSING else f" (95 % interval {ends})"
    kinds = ("naive", "linear")
    others = [
        f"{kind} {number(findings.metrics[f'{kind}/{name}'])}"
        for kind in kinds
        if f"{kind}/{name}" in findings.metrics
    ]
    against = f"; {', '.join(others)}" if others else ""
    rows = f" on {rows_words(findings.rows['test'], 'test row')}" if "test" in findings.rows else ""
    return f"{name} {number(findings.metrics[f'test/{name}'])}{rows}{within}{against}"


def _diagnosis(subject: Subject) -> Told:
    from pipeline.doctor.diagnosis import diagnose

    if subject.lacks:
        return Told(verdicts=(), words="the doctor needs the findings of a whole run")
    found = diagnose(subject.findings)
    return Told(verdicts=found.verdicts, words="healthy: the doctor has found nothing")


def config_text(config: Mapping[str, Any]) -> str:
    """Write a configuration as YAML."""
    plain = {key: value for key, value in config.items() if key != "format"}
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=88)
    return text


def facts_of(subject: Subject) -> Facts:
    """Return what there is to know of a run, in pairs."""
    findings = subject.findings
    rows = ", ".join(f"{count:,} {part}" for part, count in findings.rows.items())
    kept = f"{findings.kept} of {findings.epochs}" if findings.kept else str(findings.epochs)
    told = {
        "status": " ".join([subject.status.lower(), f"({subject.reason})" * bool(subject.reason)]),
        "rows": rows,
        "epoch of the kept weights": kept if findings.epochs else "",
        "judged by": f"{findings.monitor} ({findings.better})",
        "weights": f"{findings.parameters:,}" if findings.parameters else "",
        "size of the model's file": "" if subject.size is None else size_words(subject.size),
        "time of training": duration(findings.seconds) if findings.seconds else "",
        "device": findings.device,
        "hash of data and split": findings.data_hash,
        "MLflow run": findings.run_id,
        "folder": "" if subject.folder is None else str(subject.folder.absolute()),
    }
    return [(key, value.strip()) for key, value in told.items() if value.strip()]


def environment(tags: Mapping[str, str]) -> Facts:
    """Return what a run was made with, in pairs."""
    names = {"python": "Python", "host": "machine", "git.commit": "commit", "seed": "seed"}
    told = [(name, str(tags[key])) for key, name in names.items() if key in tags]
    if tags.get("git.dirty") == "true":
        told.append(("code", "with changes that were not committed"))
    versions = {k.removeprefix("version."): v for k, v in tags.items() if k.startswith("version.")}
    return [*told, *((name, str(version)) for name, version in versions.items())]


def size_words(count: float) -> str:
    """Write a number of bytes: `1.4 MiB`."""
    power = 0
    while count >= BYTES and power < len(UNITS) - 1:
        count, power = count / BYTES, power + 1
    return f"{count:.0f} {UNITS[0]}" if power == 0 else f"{count:.1f} {UNITS[power]}"


def _pair(line: str) -> tuple[str, str]:
    """Take a line's first word as its heading."""
    word, _, rest = line.partition(" ")
    return word, rest.strip()
