"""The diagnosis of a run: its verdicts, worst first, each without its symptoms."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from pipeline.doctor import activations, answers, certainty, fit, gradients, rates
from pipeline.doctor.remedies import setting
from pipeline.doctor.verdict import Name, Verdict
from pipeline.findings.records import Findings

HEALTHY = "healthy"
MOST_LINES = 3

_WORST_FIRST: tuple[Name, ...] = get_args(Name)
_LITTLE_LEARNED: frozenset[Name] = frozenset(
    {
        "class_collapse",
        "no_better_than_naive",
        "no_better_than_linear",
        "underfitting",
        "stopped_early",
        "noisy_metrics",
    }
)
_OF_WHAT_IS_LEARNED = (_LITTLE_LEARNED | {"overfitting"}) - {"noisy_metrics"}
_SHUFFLED = (
    "the training labels are shuffled (data.shuffle_labels): they can be learned by heart alone"
)
_SYMPTOMS: Mapping[Name, frozenset[Name]] = {
    "exploding_gradient": frozenset(_WORST_FIRST) - {"exploding_gradient", "saturated", "leakage"},
    "vanishing_gradient": _LITTLE_LEARNED | {"lr_too_low", "lr_too_high"},
    "dead_relu": _LITTLE_LEARNED | {"lr_too_low"},
    "saturated": _LITTLE_LEARNED | {"vanishing_gradient", "lr_too_low"},
    "lr_too_high": _LITTLE_LEARNED | {"clipping_always", "overfitting"},
    "clipping_always": _LITTLE_LEARNED | {"lr_too_low"},
    "lr_too_low": _LITTLE_LEARNED,
    "leakage": frozenset({"no_better_than_linear"}),
    "class_collapse": frozenset({"no_better_than_naive", "no_better_than_linear", "noisy_metrics"}),
    "no_better_than_naive": frozenset({"no_better_than_linear", "noisy_metrics"}),
    "stopped_early": frozenset({"underfitting", "no_better_than_naive", "no_better_than_linear"}),
    "underfitting": frozenset({"no_better_than_naive", "no_better_than_linear"}),
}
"""What follows from what: a cause is told without what it has caused."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong with a run.

    Args:
        name: Of the run.
        verdicts: Worst first; empty = nothing was found.
    """

    name: str
    verdicts: tuple[Verdict, ...]

    @property
    def names(self) -> str:
        """Names of the verdicts, or `healthy`."""
        return ", ".join(verdict.name for verdict in self.verdicts) or HEALTHY

    def lines(self) -> list[str]:
        """Return at most three lines for a terminal."""
        if not self.verdicts:
            return [f"doctor  {HEALTHY}"]
        shown = [f"doctor  {verdict.line}" for verdict in self.verdicts[:MOST_LINES]]
        rest = [verdict.name for verdict in self.verdicts[MOST_LINES:]]
        if rest:
            shown[-1] += f" (and {', '.join(rest)}: see doctor.md)"
        return shown

    def markdown(self) -> str:
        """Return a page: each verdict with its evidence and all that would help."""
        if not self.verdicts:
            return "# Diagnosis\n\nHealthy: the doctor has found nothing.\n"
        return "\n".join(["# Diagnosis", "", *map(_section, self.verdicts)])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        verdicts = [verdict.to_dict() for verdict in self.verdicts]
        return {"run": self.name, "names": self.names, "verdicts": verdicts}


def diagnose(findings: Findings) -> Diagnosis:
    """Judge what a run has found out; what it has not found out, nobody asks about.

    Args:
        findings: Of a run that has finished or diverged.
    """
    families = (gradients, activations, rates, fit, answers, certainty)
    found = {one.name: one for family in families for one in family.verdicts(findings)}
    symptoms = {name for cause in found for name in _SYMPTOMS.get(cause, ())}
    told = [found[name] for name in _WORST_FIRST if name in found and name not in symptoms]
    if setting(findings, "data.shuffle_labels") is not None:
        told = [_without_labels(verdict) for verdict in told]
    return Diagnosis(findings.name, tuple(told))


def _without_labels(verdict: Verdict) -> Verdict:
    """Let a verdict on what was learned say that there was nothing to learn."""
    if verdict.name not in _OF_WHAT_IS_LEARNED:
        return verdict
    return replace(verdict, cures=(), advice=_SHUFFLED)


def _section(verdict: Verdict) -> str:
    tried = [f"- `{cure}`" for cure in verdict.cures]
    tried += [f"- {verdict.advice}"] if verdict.advice else []
    evidence = verdict.evidence[0].upper() + verdict.evidence[1:]
    return "\n".join(
        [f"## {verdict.name}", "", f"{evidence}.", "", "What would help:", "", *tried, ""]
    )
