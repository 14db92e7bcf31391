"""What a run shows of itself: a closer look at some rows, its pictures, its note in MLflow."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from pipeline.findings.files import save
from pipeline.running.closer import looked_closer
from pipeline.running.drawing import Artist, wants_pictures
from pipeline.running.note import Told, note_text
from pipeline.running.optional import unless_it_fails
from pipeline.tracking.note import TAG
from pipeline.tracking.state import read_state

if TYPE_CHECKING:
    from pipeline.findings.records import Findings
    from pipeline.modules.task import Task
    from pipeline.running.plan import Plan
    from pipeline.running.recording import Record


@contextmanager
def shown(
    plan: Plan, record: Record, task: Task | None, findings: Findings, doctor: Sequence[str]
) -> Iterator[None]:
    """Save the findings, and have their pictures drawn while the body runs.

    Args:
        plan: The run.
        record: Where it is on record.
        task: The network with the weights that are kept; `None` = they are no numbers.
        findings: What the run has found out.
        doctor: What the doctor says of it, in lines.
    """
    # Where torchrun has started the ranks, it ends this one soon after another one has failed.
    wanted = wants_pictures(plan.options) and (task is not None or plan.rank.world == 1)
    if wanted and task is not None:
        findings = looked_closer(findings, plan, task.network)
    saved = unless_it_fails(lambda: _saved(findings, record), False, what="no findings")
    with Artist(record.artifacts) if wanted and saved else nullcontext() as artist:
        yield
        pictures, problem = ([], None) if artist is None else artist.finish()
    if problem is not None:
        print(f"warning: {problem}", file=sys.stderr)
    told = Told(
        findings=findings,
        pictures=pictures,
        artifacts=record.artifacts,
        experiment_id=read_state(record.folder).experiment_id,
        doctor=doctor,
        command="" if plan.command is None else plan.command.line(),
    )
    text = unless_it_fails(lambda: note_text(told), None, what="no description of the run")
    if text is not None:
        record.journal.tag(TAG, text)


def _saved(findings: Findings, record: Record) -> bool:
    save(findings, record.artifacts)
    return True
