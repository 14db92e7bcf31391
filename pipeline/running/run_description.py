"""The pictures of a run, and its description in MLflow."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.options import RunConfig
from pipeline.findings.files import save
from pipeline.findings.records import Findings
from pipeline.markup import MISSING, bullets
from pipeline.pictures.picture import FOLDER, Written, read_list
from pipeline.processes.child import Child, python_module
from pipeline.running.recording import unless_it_fails
from pipeline.running.results import tested_names
from pipeline.running.run_findings import with_views
from pipeline.terminal import duration, number
from pipeline.tracking.folders import read_state
from pipeline.tracking.note import (
    TAG,
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

if TYPE_CHECKING:
    from torch import nn

    from pipeline.running.plan import Plan
    from pipeline.running.recording import Record


VARIABLE = "PIPELINE_PICTURES"
"""`0` in the environment draws no pictures where the config leaves it open."""
SECONDS = 300.0
"""A run waits no longer for its pictures."""
TELLING = (
    "curves/loss",
    "classes/confusion",
    "forecast/truth",
    "inside/",
    "mistakes/worst",
    "columns/importance",
)
"""Pictures that are in the note itself, of `inside/` the first one."""
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
    """Save the findings, and have their pictures drawn while the body runs.

    Args:
        plan: The run.
        record: Where it is on record.
        network: With the weights that are kept; `None` = they are not numbers any more.
        findings: What the run has found out.
        doctor: What the doctor says of it, in lines.
    """
    # Where torchrun has started the ranks, it ends this one soon after another one has failed.
    wanted = wants_pictures(plan.options) and (network is not None or plan.rank.world == 1)
    if wanted and network is not None:
        findings = with_views(findings, plan, network)
    saved = unless_it_fails(lambda: _saved(findings, record), False, what="no findings")
    with Artist(record.artifacts) if wanted and saved else nullcontext() as artist:
        yield
        pictures, problem = ([], None) if artist is None else artist.finish()
    if problem is not None:
        print(f"warning: {problem}", file=sys.stderr)
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
        record.journal.tag(TAG, text)


def _saved(findings: Findings, record: Record) -> bool:
    save(findings, record.artifacts)
    return True


def wants_pictures(options: RunConfig) -> bool:
    """Tell whether a run's pictures are drawn: where it is on record, if nothing else is said."""
    if options.pictures is not None:
        return options.pictures
    return options.tracking.kind != "none" and os.environ.get(VARIABLE) != "0"


class Artist:
    """Draws the pictures of a run whose findings are written; ends with the body of its `with`.

    Args:
        artifacts: Folder of the run's artifacts.
    """

    def __init__(self, artifacts: Path) -> None:
        self._artifacts = artifacts
        self._child = Child(
            python_module("pipeline.pictures.artist"), environment={"MPLBACKEND": "Agg"}
        )

    def __enter__(self) -> Artist:
        with suppress(OSError):  # no room for another process, which `finish` finds
            self._child.start()
            self._child.send({"artifacts": str(self._artifacts.absolute())})
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close(0.0)

    def finish(self) -> tuple[list[Written], str | None]:
        """Wait for the pictures; return them, and what has gone wrong where there are none."""
        if not self._child.is_open:
            return [], "the pictures could not be drawn: no process for it could be started"
        code = self._child.wait(SECONDS)
        if code is None:
            return [], f"the pictures were not drawn within {SECONDS:.0f} s"
        if code != 0:
            command = "python -m pipeline.report"
            return [], f"the pictures could not be drawn (exit code {code}); {command} may say more"
        return read_list(self._artifacts / FOLDER), None


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptionFacts:
    """What a run's note tells.

    Args:
        findings: What the run has found out.
        pictures: What was drawn, below `pictures/` among the artifacts.
        artifacts: Folder of the run's artifacts.
        experiment_id: MLflow's id of the experiment; empty where it is not known.
        doctor: What the doctor says, in lines.
        command: That trains the run again.
    """

    findings: Findings
    pictures: Sequence[Written]
    artifacts: Path
    experiment_id: str
    doctor: Sequence[str]
    command: str


def description_text(facts: DescriptionFacts) -> str:
    """Return the description of a run for MLflow's page, in Markdown, within its limit.

    The page shows four lines until it is asked for more, so the first ones say the most.
    """
    shown = _telling(facts) if facts.findings.run_id else []
    said = (line.removeprefix("doctor").strip() for line in facts.doctor)
    doctor = bullets(f"Doctor: {as_text(line)}" for line in said)
    first = [_what(facts.findings), doctor, _figures(facts.findings)]
    images = [_shown(facts.findings.run_id, one) for one in shown]
    again = titled("The same run again", command_text(facts.command))
    parts = [*first, *images, again, _further(facts, shown)]
    links, pictures = len(parts) - 1, range(len(parts) - 3, len(first) - 1, -1)
    return fitted(parts, [links, *pictures, links - 1, 2, 1])


def _what(findings: Findings) -> str:
    kept = "" if findings.kept is None else f"; the weights of epoch {findings.kept} are kept"
    end = "" if findings.end == "finished" else "; **it diverged**"
    return (
        f"**{as_text(findings.model)}** of {findings.parameters:,} weights {_purpose(findings)}"
        f"{_verdict(findings)}. Trained on {findings.rows.get('train', 0):,} rows for "
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


def _verdict(findings: Findings) -> str:
    """Say the one figure that the task is judged by, beside the baselines'."""
    name = "rmse" if findings.task == "regression" else "f1"
    value = findings.metrics.get(f"test/{name}")
    if value is None:
        return ""
    beside = [
        f"{kind} {number(findings.metrics[f'{kind}/{name}'])}"
        for kind in ("linear", "naive")
        if f"{kind}/{name}" in findings.metrics
    ]
    against = f" ({', '.join(beside)})" if beside else ""
    return f": test {name} **{number(value)}**{against}"


def _figures(findings: Findings) -> str:
    """Lay the network's test figures, with their intervals, beside the baselines'."""
    names = tested_names(findings.task, findings.metrics)
    if not names:
        return ""
    called_so = dict(zip(("naive", "linear"), findings.baselines, strict=False))
    headings = [f"{kind}: {name_text(name)}" for kind, name in called_so.items()]
    lines = [
        [name_text(name), _value(findings, f"test/{name}"), _interval(findings, name)]
        + [_value(findings, f"{kind}/{name}") for kind in called_so]
        for name in names
    ]
    return spaced(["test", "network", "95 % interval", *headings], lines)


def _value(findings: Findings, key: str) -> str:
    value = findings.metrics.get(key)
    return MISSING if value is None else number(value)


def _interval(findings: Findings, name: str) -> str:
    ends = findings.intervals.get(name)
    return MISSING if ends is None else f"{number(ends[0])} … {number(ends[1])}"


def _telling(facts: DescriptionFacts) -> list[Written]:
    fitting = [one for one in facts.pictures if fits(facts.artifacts / FOLDER / one.file)]
    found = (
        next((one for one in fitting if one.name.startswith(begin)), None) for begin in TELLING
    )
    return [one for one in found if one is not None][:MOST_SHOWN]


def _shown(run_id: str, one: Written) -> str:
    return titled(one.title, picture(run_id, f"{FOLDER}/{one.file}", one.alt))


def _further(facts: DescriptionFacts, shown: Sequence[Written]) -> str:
    """Name what else there is to look at, each a link."""
    run_id = facts.findings.run_id
    if not (run_id and facts.experiment_id):
        return ""
    more = {f"{FOLDER}/{one.file}": one.title for one in facts.pictures if one not in shown}
    targets = {**more, **FILES}
    links = [
        link(facts.experiment_id, run_id, path, words)
        for path, words in targets.items()
        if (facts.artifacts / path).is_file()
    ]
    return titled("More", ", ".join(links))
