"""A range test of the learning rate, on record: the curve, its picture, the suggested override."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from pipeline.canvas import drawing, own_style, save
from pipeline.config.check import check_callbacks
from pipeline.config.options import LrRangeOptions
from pipeline.pictures.lr_range import Marks, lr_range
from pipeline.running.continuing import Command
from pipeline.running.lr_curve import Curve, read_curve
from pipeline.running.lr_ladder import climb
from pipeline.running.plan import Plan
from pipeline.running.recording import on_record
from pipeline.running.summary import where_lines
from pipeline.serving.spreadsheets import write_csv
from pipeline.terminal import console, duration, number
from pipeline.tracking.client import Recorder
from pipeline.tracking.find import COMMAND_TAG, FIND_LR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline.running.peers import Peers

LR = "optimizer.lr"
FOLDER = FIND_LR
"""Folder of the artifacts that takes the curve and its picture."""
TABLE = "lr_range.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeTest:
    """What a range test of the learning rate leaves.

    Args:
        folder: The run's folder.
        run_id: MLflow's id of the run; `None` where nothing is tracked.
        curve: The losses over the rates, and what they say.
        verdict: The same in one line, the override first.
        picture: Where the curve is drawn.
        command: What trains with the suggested rate; `None` = there is none, or no command line.
        seconds: Time from the start of the command's work to its end.
        unsent: Values that the tracking server has not got yet.
        where_to_look: Command and address that show the runs; empty where nothing is tracked.
    """

    folder: Path
    run_id: str | None
    curve: Curve
    verdict: str
    picture: Path
    command: str | None
    seconds: float
    unsent: int
    where_to_look: tuple[str, ...]


def range_test(
    plan: Plan, recorder: Recorder | None, uri: str | None, peers: Peers | None = None
) -> RangeTest:
    """Let the learning rate of the planned run climb for some steps, on record; nothing is kept.

    Args:
        plan: The run; on one device.
        recorder: Fills MLflow; `None` = nobody does.
        uri: Where it is tracked; `None` = nowhere.
        peers: Nobody: the rules of the configuration see to that.
    """
    del peers
    check_callbacks(plan.options)
    # By this tag `last` passes over the run: it has no weights.
    occasion = replace(plan.occasion, tags={**plan.occasion.tags, COMMAND_TAG: FIND_LR})
    plan = replace(plan, occasion=occasion)
    with on_record(plan, recorder, uri) as record:
        rates, losses = climb(plan)
        curve = read_curve(rates, losses)
        picture = _write(record.artifacts / FOLDER, curve, rates, losses)
        found = curve.suggestion
        record.journal.tag(FIND_LR, "none" if found is None else f"{found:g}")
    return RangeTest(
        folder=record.folder,
        run_id=record.run_id,
        curve=curve,
        verdict=verdict(curve, plan.options.lr_range),
        picture=picture,
        command=None if found is None or plan.command is None else training(plan.command, found),
        seconds=perf_counter() - plan.started_at,
        unsent=record.unsent,
        where_to_look=record.where_to_look,
    )


def print_range_test(test: RangeTest) -> None:
    """Print the suggestion with what it means, and where everything lies."""
    console().print("\n".join(_lines(test)), soft_wrap=True, markup=False)


def verdict(curve: Curve, tried: LrRangeOptions) -> str:
    """Say in one line which rate is suggested and why, or why none is and what to do.

    Args:
        curve: The losses over the rates.
        tried: The rates that were to be tried.
    """
    span = f"{tried.steps} steps from {tried.lowest:g} to {tried.highest:g}"
    if not len(curve.losses):
        return (
            "no suggestion: the loss is no number at the very first step, before any rate has "
            "acted; look for huge values or holes in the data"
        )
    if curve.suggestion is None:
        return f"no suggestion: {_why_not(curve, tried)} ({span})"
    end = "does not blow up" if curve.blown_up is None else f"blows up at {curve.blown_up:.3g}"
    return (
        f"suggested: {LR}={curve.suggestion:g}, halfway from {curve.steepest:.3g}, where the "
        f"smoothed loss falls fastest, to {curve.lowest:.3g}, where it is lowest; it {end} ({span})"
    )


def _why_not(curve: Curve, tried: LrRangeOptions) -> str:
    lower = f"begin lower, such as lr_range.lowest={tried.lowest / 1000:g}"
    longer = f"take more steps, such as lr_range.steps={10 * tried.steps}"
    if not len(curve.smoothed):
        return f"the loss blew up at {curve.blown_up:.3g} after {len(curve.losses)} steps; {lower}"
    if curve.blown_up is not None:
        return f"the loss did not fall before it blew up at {curve.blown_up:.3g}; {lower}, {longer}"
    higher = f"go higher, such as lr_range.highest={tried.highest * 1000:g}"
    return f"the loss stayed flat about {number(curve.smoothed[0])}; {higher}, or {longer}"


def _lines(test: RangeTest) -> Iterator[str]:
    yield test.verdict
    yield f"picture {test.picture}"
    if test.command is not None:
        yield f"train   {test.command}"
    yield f"took    {duration(test.seconds)}; nothing was trained"
    yield f"run     {test.folder}"
    yield from where_lines(test.where_to_look, unsent=test.unsent)


def _write(folder: Path, curve: Curve, rates: list[float], losses: list[float]) -> Path:
    """Write the curve up to the first loss that is no number, with that, and its picture."""
    folder.mkdir(exist_ok=True)
    end = min(len(curve.losses) + 1, len(losses))
    columns = zip_longest(range(1, end + 1), rates[:end], losses[:end], curve.smoothed.tolist())
    write_csv(folder / TABLE, ["step", "lr", "loss", "smoothed"], [*columns])
    picture = folder / "lr_range.png"
    with drawing(), own_style():
        save(curve_figure(curve), picture)
    return picture


def stored_curve(artifacts: Path) -> Curve | None:
    """Read the curve that a range test has left; `None` where it has not, or it is damaged.

    Args:
        artifacts: The run's artifacts.
    """
    try:
        with (artifacts / FOLDER / TABLE).open(encoding="utf-8", newline="") as file:
            steps = [(float(step["lr"]), float(step["loss"])) for step in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return read_curve(*map(list, zip(*steps, strict=True))) if steps else None


def curve_figure(curve: Curve) -> Figure:
    """Draw a curve with all its marks."""
    marks = Marks(
        suggestion=curve.suggestion,
        steepest=curve.steepest,
        lowest=curve.lowest,
        blown_up=curve.blown_up,
    )
    return lr_range(curve.rates, curve.losses, curve.smoothed, marks)


def training(command: Command, suggestion: float) -> str:
    """Return the command line that trains what was tested, with the suggested rate."""
    kept = [word for word in command.overrides if not _is_ours(word.partition("=")[0])]
    return replace(command, overrides=(*kept, f"{LR}={suggestion:g}")).line()


def _is_ours(key: str) -> bool:
    return key in (FIND_LR, LR) or key.startswith("lr_range")
