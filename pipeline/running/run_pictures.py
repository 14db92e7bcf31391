"""The pictures of a run, drawn by a process of its own, and the description for MLflow's page."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.base.errors import typed_text
from pipeline.base.findings import Findings, Inside, Mistakes, save_findings
from pipeline.base.markup import Block, Command, Section
from pipeline.base.paths import remove_leftovers
from pipeline.base.processes.child import Child
from pipeline.inside.shown_rows import choose_rows
from pipeline.inside.views import inside_of
from pipeline.pictures.gallery import FOLDER, LIST, PictureFile, read_list
from pipeline.running.helpers import wants_pictures
from pipeline.running.plan import Plan
from pipeline.running.recording import RunJournal, unless_it_fails
from pipeline.running.run_document import result_table, summary
from pipeline.tracking.description import description, fits
from pipeline.tracking.fields import NOTE_TAG

#: Number of worst mistakes that are kept for a picture.
MOST_MISTAKES = 12
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


@contextmanager
def drawing_pictures(
    plan: Plan,
    record: RunJournal,
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
    record: RunJournal,
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
    main_pictures = {}
    for picture in _main_pictures(pictures, folder / "artifacts" / FOLDER):
        main_pictures[f"{FOLDER}/{picture.file}"] = (picture.title, picture.alt)
    return description(blocks, folder, shown=main_pictures, linked=linked | FILES)


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


# ── what only pictures need ─────────────────────────────────────────────────────────────────


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
    rows, labels, inputs = choose_rows(plan.prepared, options.samples)
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
