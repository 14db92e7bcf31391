"""What predictions came to, in one line, and what is worth knowing of the input, in another."""

from collections import Counter
from collections.abc import Iterator

from pipeline import __version__
from pipeline.errors import some
from pipeline.serving.model import Model
from pipeline.serving.predictions import Predictions, Tally
from pipeline.terminal import number

SHOWN = 5
"""Names in a line before "…"."""


def summary(model: Model, done: Predictions, *, place: str | None) -> list[str]:
    """Return one or two lines.

    Args:
        model: That has answered.
        done: Its answers, all taken.
        place: The file that they are in; None = standard output.
    """
    rows = done.tally.rows
    outcome = f": {_outcome(model, done.tally)}" if rows else ""
    where = "" if place is None else f" in {place}"
    lines = [f"{rows:,} {'row' if rows == 1 else 'rows'}{where}{outcome}"]
    if notes := "; ".join(_notes(model, done)):
        lines.append(f"note: {notes}")
    return lines


def _outcome(model: Model, tally: Tally) -> str:
    if model.schema.task == "regression":
        units = f" {model.schema.units}" if model.schema.units else ""
        return f"from {number(tally.lowest)} to {number(tally.highest)}{units}"
    return _counted(tally.classes) + _threshold(model)


def _threshold(model: Model) -> str:
    if model.schema.task != "binary":
        return ""
    decision = model.decision
    chosen = "" if decision.rule == str(decision.threshold) else f", by {decision.rule}"
    return f" ({model.schema.positive} above a probability of {decision.threshold:.4g}{chosen})"


def _notes(model: Model, done: Predictions) -> Iterator[str]:
    found = done.found
    if found.unknown:
        yield f"categories unknown to the training count as other: {_counted(found.unknown)}"
    if found.missing:
        yield f"missing cells filled in as in training: {_counted(found.missing)}"
    if found.ignored:
        yield f"columns the model does not know: {some(found.ignored, most=SHOWN)}"
    yield from found.gaps
    version = model.facts.get("version")
    if version != __version__:
        yield f"the model was written by pipeline {version}; this is {__version__}"


def _counted(numbers: Counter[str]) -> str:
    return some([f"{name} {count:,}" for name, count in numbers.most_common()], most=SHOWN)
