"""The losses of a learning-rate range test and the suggested rate: words, table, picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from pipeline.base.findings import LrCurve
from pipeline.base.terminal import number, significant
from pipeline.config.options import LrRangeOptions
from pipeline.pictures.gallery import drawing, save
from pipeline.pictures.training import lr_range
from pipeline.running.command_line import Command
from pipeline.serving.files import write_csv
from pipeline.tracking.fields import FIND_LR

#: Standard deviation of the smoothing, in decades of the rate; never less than one step.
WIDTH = 0.3
#: Fewest steps for which a slope is computed.
FEWEST = 10
#: Standard errors by which the loss must have fallen to count as a fall.
CERTAIN = 5.0

LR = "optimizer.lr"
TABLE = "lr_range.csv"


def read_curve(rates: Sequence[float], losses: Sequence[float]) -> LrCurve:
    """Smooth the losses of a range test and find the suggested rate (Smith 2017).

    The rate of the steepest fall is low for a training with a schedule, and the rate of the lowest
    loss is at the edge of divergence; the suggestion is halfway, on the logarithmic axis. The slope
    is taken against the logarithm of the rate. Lightning takes it against the rate itself, where
    the noise at the smallest rates dominates
    (https://github.com/Lightning-AI/pytorch-lightning/issues/21141).

    Args:
        rates: Learning rate of each step, rising.
        losses: Loss of each step; losses after the first non-finite one are ignored.
    """
    finite = np.isfinite(losses)
    count = len(losses) if finite.all() else int(finite.argmin())
    finite_rates = np.array(rates[:count])
    finite_losses = np.array(losses[:count])
    diverged_at = rates[count] if count < len(losses) else None
    if count < FEWEST:
        return LrCurve(
            rates=finite_rates,
            losses=finite_losses,
            smoothed=finite_losses[:0],
            blown_up=rates[-1] if diverged_at is None else diverged_at,
        )
    decades = np.log10(finite_rates)
    width = max(WIDTH, float(np.diff(decades).max()))
    weights = np.exp(-0.5 * ((decades[:, None] - decades) / width) ** 2)  # (steps, steps)
    weights /= weights.sum(axis=1, keepdims=True)
    early = max(3, count // 10)
    # A single batch of a diverged network may have a loss a million times as large.
    capped = np.minimum(finite_losses, 2 * finite_losses[:early].mean())
    smoothed = weights @ capped
    lowest = int(smoothed.argmin())
    steepest = int(np.gradient(smoothed, decades)[: lowest + 1].argmin())
    noise = (capped - smoothed)[: max(lowest + 1, count // 2)].std()
    from_start = weights - weights[:early].mean(axis=0)  # gives the change since the first steps
    change = from_start @ capped
    chance = CERTAIN * noise * np.linalg.norm(from_start, axis=1)
    worse_rates = finite_rates[lowest:][(change > chance)[lowest:]]
    if len(worse_rates):
        diverged_at = float(worse_rates[0])
    suggestion = None
    if -change[lowest] > chance[lowest]:
        midway = np.sqrt(finite_rates[steepest] * finite_rates[lowest])
        suggestion = float(f"{midway:.2g}")
    return LrCurve(
        rates=finite_rates,
        losses=finite_losses,
        smoothed=smoothed,
        suggestion=suggestion,
        steepest=float(finite_rates[steepest]),
        lowest=float(finite_rates[lowest]),
        blown_up=diverged_at,
    )


def verdict(curve: LrCurve, options: LrRangeOptions) -> str:
    """Return in one line which rate is suggested and why, or why there is none and what to do."""
    span = (
        f"{options.steps} steps from {significant(options.lowest, 6)} to "
        f"{significant(options.highest, 6)}"
    )
    if not len(curve.losses):
        return (
            "no suggestion: the loss is NaN or infinite at the first step; look for huge or "
            "missing values in the data"
        )
    at = "" if curve.blown_up is None else significant(curve.blown_up, 3)
    if curve.suggestion is None or curve.steepest is None or curve.lowest is None:
        lower = f"start lower, such as lr_range.lowest={significant(options.lowest / 1000, 6)}"
        longer = f"take more steps, such as lr_range.steps={10 * options.steps}"
        higher = f"go higher, such as lr_range.highest={options.highest * 1000:g}"
        if not len(curve.smoothed):
            count = len(curve.losses)
            reason = f"the loss diverged at {at} after {count} steps; {lower}"
        elif curve.blown_up is not None:
            reason = f"the loss did not fall before it diverged at {at}; {lower}, {longer}"
        else:
            flat = number(curve.smoothed[0])
            reason = f"the loss stayed flat at about {flat}; {higher}, or {longer}"
        return f"no suggestion: {reason} ({span})"
    end = f"diverges at {at}" if at else "does not diverge"
    return (
        f"suggested: {LR}={curve.suggestion:g}, midway between "
        f"{significant(curve.steepest, 3)} (smoothed loss falls fastest) and "
        f"{significant(curve.lowest, 3)} (lowest); the loss {end} ({span})"
    )


def write_curve(artifacts: Path, curve: LrCurve, rates: list[float], losses: list[float]) -> Path:
    """Write the curve, up to the first loss that is not finite; return the path of its picture."""
    folder = artifacts / FIND_LR
    folder.mkdir(exist_ok=True)
    end = min(len(curve.losses) + 1, len(losses))
    columns = zip_longest(range(1, end + 1), rates[:end], losses[:end], curve.smoothed.tolist())
    write_csv(folder / TABLE, ["step", "lr", "loss", "smoothed"], [*columns])
    picture = folder / "lr_range.png"
    with drawing():
        save(lr_range(curve), picture)
    return picture


def stored_curve(artifacts: Path) -> LrCurve | None:
    """Return the curve among a run's artifacts; `None` if it is missing or damaged."""
    try:
        with (artifacts / FIND_LR / TABLE).open(encoding="utf-8", newline="") as file:
            steps = list(csv.DictReader(file))
        rates = [float(step["lr"]) for step in steps]
        losses = [float(step["loss"]) for step in steps]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return read_curve(rates, losses) if steps else None


def training_command(command: Command | None, suggestion: float | None) -> str | None:
    """Return the command line that trains with the suggested rate, or `None` if one is missing."""
    if command is None or suggestion is None:
        return None
    replaced = (f"{FIND_LR}=", f"{LR}=", "lr_range")
    overrides = [word for word in command.overrides if not word.startswith(replaced)]
    return replace(command, overrides=(*overrides, f"{LR}={suggestion:g}")).line()
