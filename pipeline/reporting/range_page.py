"""What stands in the report of a range test of the learning rate, which trains nothing."""

from typing import Any

from pydantic import ValidationError

from pipeline.config.options import LrRangeOptions
from pipeline.errors import ConfigError
from pipeline.findings.records import LrCurve
from pipeline.pictures.curves import lr_range
from pipeline.pictures.picture import Picture
from pipeline.reporting.figures import Shown, drawn
from pipeline.reporting.run_page import making
from pipeline.reporting.subject import Subject
from pipeline.running.command_line import Command
from pipeline.running.lr_curve import stored_curve, training_command, verdict


def range_page(subject: Subject) -> dict[str, Any]:
    """Return what the template of a range test asks for."""
    curve = _curve(subject)
    told = _verdict(subject, curve)
    return {
        "title": subject.findings.name,
        "summary": f"A range test of the learning rate of {subject.findings.model}",
        "verdict": told,
        "training": _training(subject, curve),
        "pictures": [] if curve is None else _drawn(curve, told),
        **making(subject),
    }


def range_summary(subject: Subject) -> str:
    """Say in a sentence what the range test suggests."""
    return f"range test of the learning rate; {_verdict(subject, _curve(subject))}"


def _curve(subject: Subject) -> LrCurve | None:
    return None if subject.folder is None else stored_curve(subject.folder / "artifacts")


def _verdict(subject: Subject, curve: LrCurve | None) -> str:
    if curve is None:
        why = f" ({subject.reason})" if subject.reason else ""
        return f"no curve is there: the range test is {subject.status.lower()}{why}"
    try:
        tried = LrRangeOptions.model_validate(subject.findings.config.get("lr_range"), strict=False)
    except ValidationError as error:
        raise ConfigError(
            f"the configuration in {str(subject.folder)!r} does not say which rates were tried"
        ) from error
    return verdict(curve, tried)


def _training(subject: Subject, curve: LrCurve | None) -> str:
    """Return what trains with the suggested rate; empty where nobody knows."""
    if subject.folder is None or curve is None or curve.suggestion is None:
        return ""
    try:
        return training_command(Command.load(subject.folder), curve.suggestion)
    except ConfigError:  # it was started from Python
        return ""


def _drawn(curve: LrCurve, told: str) -> list[Shown]:
    picture = Picture(
        name="lr_range",
        title="Loss over the learning rate",
        alt=f"The loss of each step's batch over its learning rate, and smoothed; {told}",
        draw=lambda: lr_range(curve),
    )
    return drawn([picture])
