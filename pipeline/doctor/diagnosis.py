"""The diagnosis of a run: its verdicts, worst first, without the symptoms of others."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from pipeline.doctor import fit, optimization
from pipeline.doctor.evidence import Verdict, applicable, setting
from pipeline.findings import Findings

HEALTHY = "healthy"
MOST_LINES = 3

#: Function of each verdict, the worst first.
RULES: Mapping[str, Callable[[Findings], Verdict | None]] = {
    rule.__name__: rule
    for rule in (
        optimization.exploding_gradient,
        optimization.vanishing_gradient,
        optimization.dead_relu,
        optimization.saturated,
        optimization.lr_too_high,
        optimization.clipping_always,
        optimization.lr_too_low,
        fit.leakage,
        fit.class_collapse,
        fit.no_better_than_naive,
        fit.overfitting,
        fit.stopped_early,
        fit.underfitting,
        fit.no_better_than_linear,
        fit.noisy_metrics,
        optimization.clipping_never,
    )
}

_NO_BETTER = {"no_better_than_naive", "no_better_than_linear"}
_LITTLE_LEARNED = _NO_BETTER | {"class_collapse", "underfitting", "stopped_early", "noisy_metrics"}
#: What follows from what: a cause is reported without the verdicts that it explains.
_SYMPTOMS: Mapping[str, Set[str]] = {
    "exploding_gradient": RULES.keys() - {"exploding_gradient", "saturated", "leakage"},
    "vanishing_gradient": _LITTLE_LEARNED | {"lr_too_low", "lr_too_high"},
    "dead_relu": _LITTLE_LEARNED | {"lr_too_low"},
    "saturated": _LITTLE_LEARNED | {"vanishing_gradient", "lr_too_low"},
    "lr_too_high": _LITTLE_LEARNED | {"clipping_always", "overfitting"},
    "clipping_always": _LITTLE_LEARNED | {"lr_too_low"},
    "lr_too_low": _LITTLE_LEARNED,
    "leakage": {"no_better_than_linear"},
    "class_collapse": _NO_BETTER | {"noisy_metrics"},
    "no_better_than_naive": {"no_better_than_linear", "noisy_metrics"},
    "stopped_early": _NO_BETTER | {"underfitting"},
    "underfitting": _NO_BETTER,
}

_OF_WHAT_IS_LEARNED = (_LITTLE_LEARNED | {"overfitting"}) - {"noisy_metrics"}
_SHUFFLED = (
    "the training labels are shuffled (data.shuffle_labels): they can be learned by heart alone"
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong with a run.

    Args:
        name: Of the run.
        verdicts: Worst first; empty = nothing was found.
    """

    name: str
    verdicts: Sequence[Verdict]

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
    """Return the verdicts on a run; a rule without its evidence gives none.

    Args:
        findings: Of a run that has finished or diverged.
    """
    found = {name: verdict for name, rule in RULES.items() if (verdict := rule(findings))}
    symptoms = {name for cause in found for name in _SYMPTOMS.get(cause, ())}
    is_shuffled = setting(findings, "data.shuffle_labels") is not None
    told = []
    for name, verdict in found.items():
        if name in symptoms:
            continue
        cures, advice = applicable(findings, verdict.cures), verdict.advice
        if is_shuffled and name in _OF_WHAT_IS_LEARNED:  # there is nothing to learn
            cures, advice = (), _SHUFFLED
        told.append(replace(verdict, name=name, cures=cures, advice=advice))
    return Diagnosis(findings.name, tuple(told))


def _section(verdict: Verdict) -> str:
    tried = [f"- `{cure}`" for cure in verdict.cures]
    tried += [f"- {verdict.advice}"] if verdict.advice else []
    evidence = verdict.evidence[0].upper() + verdict.evidence[1:]
    return "\n".join(
        [f"## {verdict.name}", "", f"{evidence}.", "", "What would help:", "", *tried, ""]
    )
