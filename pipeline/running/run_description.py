"""Pictures of a run, and its description in MLflow."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pipeline.config.options import RunConfig
from pipeline.findings import Findings, save_findings
from pipeline.markup import MISSING, bullets, figure_text
from pipeline.pictures.gallery import FOLDER, Written, read_list
from pipeline.processes.child import Child, python_module
from pipeline.running.plan import Plan
from pipeline.running.recording import Record, unless_it_fails
from pipeline.running.results import tested_names
from pipeline.running.run_findings import with_views
from pipeline.terminal import duration, number
from pipeline.tracking.fields import (
    NOTE_TAG,
    as_text,
    command_text,
    fits,
    fitted,
    link,
    name_text,
    picture,
    spaced,
    titled,
)
from pipeline.tracking.folders import read_state

VARIABLE = "PIPELINE_PICTURES"
"""Environment variable; `0` draws no pictures where the config does not decide."""
SECONDS = 300.0
"""Longest wait for the pictures."""
MAIN = (
    "curves/loss",
    "classes/confusion",
    "forecast/truth",
    "inside/",
    "mistakes/worst",
    "columns/importance",
)
"""Pictures within the description, of `inside/` the first one."""
MOST_SHOWN = 4
FILES = {
    "card.md": "the model's card",
    "doctor.md": "the doctor's findings",
    "data_report.md": "what the data are",
    "config.yaml": "the whole configuration",
    "classes.csv": "figures by class",
    "test_predictions.csv": "predictions",
    "history.csv": "every epoch's values",
}


@contextmanager
def described(
    plan: Plan, record: Record, network: nn.Module | None, findings: Findings, doctor: Sequence[str]
) -> Iterator[None]:
    """Save the findings, draw their pictures while the body runs, then record a description.

    Args:
        plan: The run.
        record: Its record.
        network: With the kept weights; `None` = they are not finite.
        findings: Of the run.
        doctor: The diagnosis, in lines.
    """
    # Where torchrun has started the ranks, it ends this one soon after another one has failed.
    wanted = wants_pictures(plan.options) and (network is not None or plan.rank.world == 1)
    if wanted and network is not None:
        findings = with_views(findings, plan, network)

    def save_all() -> bool:
        save_findings(findings, record.artifacts)
        return True

    saved = unless_it_fails(save_all, False, what="no findings")
    artist = Child(python_module("pipeline.pictures.gallery"), environment={"MPLBACKEND": "Agg"})
    try:
        if wanted and saved:
            with suppress(OSError):  # no room for another process, which `_drawn` reports
                artist.start()
                artist.send({"artifacts": str(record.artifacts.absolute())})
        yield
        pictures = _drawn(artist, record.artifacts) if wanted and saved else []
    finally:
        artist.close(0.0)
    facts = DescriptionFacts(
        findings=findings,
        pictures=pictures,
        artifacts=record.artifacts,
        experiment_id=read_state(record.folder).experiment_id,
        doctor=doctor,
        command="" if plan.command is None else plan.command.line(),
    )
    text = unless_it_fails(lambda: description_text(facts), None, what="no description of the run")
    if text is not None:
        record.journal.tag(NOTE_TAG, text)


def wants_pictures(options: RunConfig) -> bool:
    """Return whether a run's pictures are drawn: by default, where it is tracked."""
    if options.pictures is not None:
        return options.pictures
    return options.tracking.kind != "none" and os.environ.get(VARIABLE) != "0"


def _drawn(artist: Child, artifacts: Path) -> list[Written]:
    """Wait for the pictures and return them; print a warning where there are none."""
    problem = "the pictures could not be drawn: no process for it could be started"
    if artist.is_open:
        code = artist.wait(SECONDS)
        if code == 0:
            return read_list(artifacts / FOLDER)
        problem = f"the pictures were not drawn within {SECONDS:.0f} s"
        if code is not None:
            hint = "python -m pipeline.report may say more"
            problem = f"the pictures could not be drawn (exit code {code}); {hint}"
    print(f"warning: {problem}", file=sys.stderr)
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptionFacts:
    """What a run's description is made of.

    Args:
        findings: Of the run.
        pictures: What was drawn, below `pictures/` among the artifacts.
        artifacts: Folder of the run's artifacts.
        experiment_id: MLflow's id of the experiment; empty where it is not known.
        doctor: The diagnosis, in lines.
        command: Trains the run again.
    """

    findings: Findings
    pictures: Sequence[Written]
    artifacts: Path
    experiment_id: str
    doctor: Sequence[str]
    command: str


def description_text(facts: DescriptionFacts) -> str:
    """Return the description of a run for MLflow's page, in Markdown, within its limit.

    The page shows four lines until it is expanded, so the first ones say the most.
    """
    findings = facts.findings
    fitting = [one for one in facts.pictures if fits(facts.artifacts / FOLDER / one.file)]
    main = (next((one for one in fitting if one.name.startswith(begin)), None) for begin in MAIN)
    shown = [one for one in main if one is not None][:MOST_SHOWN] if findings.run_id else []
    said = (line.removeprefix("doctor").strip() for line in facts.doctor)
    doctor = bullets(f"Doctor: {as_text(line)}" for line in said)
    first = [_summary(findings), doctor, _figures(findings)]
    images = [
        titled(one.title, picture(findings.run_id, f"{FOLDER}/{one.file}", one.alt))
        for one in shown
    ]
    again = titled("The same run again", command_text(facts.command))
    parts = [*first, *images, again, _links(facts, shown)]
    links, pictures = len(parts) - 1, range(len(parts) - 3, len(first) - 1, -1)
    return fitted(parts, [links, *pictures, links - 1, 2, 1])


def _summary(findings: Findings) -> str:
    """Return what was trained, the main figure beside the baselines', and on what."""
    name = "rmse" if findings.task == "regression" else "f1"
    figures = {
        kind: number(findings.metrics[f"{kind}/{name}"])
        for kind in ("test", "linear", "naive")
        if f"{kind}/{name}" in findings.metrics
    }
    verdict = ""
    if test := figures.pop("test", None):
        beside = ", ".join(f"{kind} {value}" for kind, value in figures.items())
        verdict = f": test {name} **{test}**" + (f" ({beside})" if beside else "")
    kept = "" if findings.kept is None else f"; the weights of epoch {findings.kept} are kept"
    end = "" if findings.end == "finished" else "; **it diverged**"
    return (
        f"**{as_text(findings.model)}** of {findings.parameters:,} weights {_purpose(findings)}"
        f"{verdict}. Trained on {findings.rows.get('train', 0):,} rows for "
        f"{findings.epochs} of {findings.planned} epochs in {duration(findings.seconds)}"
        f"{kept}{end}."
    )


def _purpose(findings: Findings) -> str:
    of = f" of {name_text(findings.label)}" if findings.label else ""
    if findings.task == "regression":
        named = ", ".join(map(name_text, findings.targets[:3])) or name_text(findings.label)
        units = f" in {name_text(findings.units)}" if findings.units else ""
        steps = f", {findings.horizon} steps ahead" if findings.horizon > 1 else ""
        return f"predicts {named or 'a value'}{units}{steps}"
    if findings.task == "binary":
        return f"tells {' from '.join(map(name_text, reversed(findings.classes)))}"
    return f"tells {len(findings.classes)} classes{of} apart"


def _figures(findings: Findings) -> str:
    """Return a table of the test figures, with their intervals, beside the baselines'."""
    names = tested_names(findings.task, findings.metrics)
    if not names:
        return ""
    kinds = dict(zip(("naive", "linear"), findings.baselines, strict=False))
    headings = [f"{kind}: {name_text(name)}" for kind, name in kinds.items()]
    lines, values = [], findings.metrics
    for name in names:
        ends = findings.intervals.get(name)
        interval = MISSING if ends is None else f"{number(ends[0])} … {number(ends[1])}"
        own, *others = (figure_text(values, f"{kind}/{name}") for kind in ("test", *kinds))
        lines.append([name_text(name), own, interval, *others])
    return spaced(["test", "network", "95 % interval", *headings], lines)


def _links(facts: DescriptionFacts, shown: Sequence[Written]) -> str:
    """Return links to the other pictures and files."""
    run_id = facts.findings.run_id
    if not (run_id and facts.experiment_id):
        return ""
    more = {f"{FOLDER}/{one.file}": one.title for one in facts.pictures if one not in shown}
    links = [
        link(facts.experiment_id, run_id, path, words)
        for path, words in {**more, **FILES}.items()
        if (facts.artifacts / path).is_file()
    ]
    return titled("More", ", ".join(links))
