"""One verdict on a run, and the overrides that a verdict can offer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.findings.records import Findings

RECURRENT = ("RNN", "GRU", "LSTM")
_OF_RECURRENT = {"model.norm": ("layer",), "model.activation": ("tanh", "relu")}

SLOWEST = 3e-4
"""Share of the present learning rate below which none is offered in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One thing that is wrong with a run.

    Args:
        name: What it is called.
        evidence: How one sees it, with numbers, as the rest of a sentence.
        numbers: These numbers by name.
        cures: Overrides that would help, the likeliest first. A rule may name overrides that do
            not apply to the run and empty texts; `diagnose` keeps those that `applicable` does.
        advice: What would help where no override does.
    """

    name: str
    evidence: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    cures: tuple[str, ...] = ()
    advice: str = ""

    @property
    def line(self) -> str:
        """The verdict as one line."""
        tried = f"try {' or '.join(self.cures[:2])}" if self.cures else self.advice
        return f"{self.name}: {self.evidence}" + (f"; {tried}" if tried else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; a number that is not finite is left out."""
        return {
            "name": self.name,
            "evidence": self.evidence,
            "numbers": {k: float(v) for k, v in self.numbers.items() if abs(v) < float("inf")},
            "cures": list(self.cures),
            "advice": self.advice,
        }


def setting(findings: Findings, key: str) -> Any:
    """Return the value of a dotted key of the config; `None` where it has none."""
    value: Any = findings.config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def number(findings: Findings, key: str) -> float:
    """Return the number at a dotted key of the config; 0 where it is absent or null."""
    return setting(findings, key) or 0.0


def largest_update(findings: Findings) -> float:
    """Return update / weight of the fastest layer in the fastest epoch; 0 where it is unknown."""
    updates = np.zeros(0) if findings.vitals is None else findings.vitals.updates
    return float(np.max(updates[np.isfinite(updates)], initial=0.0))


def learning_rate_times(findings: Findings, factor: float) -> str:
    """Return the override for a learning rate that is `factor` times the present one."""
    rate = setting(findings, "optimizer.lr")
    if not isinstance(rate, int | float) or isinstance(rate, bool):
        return ""
    return f"optimizer.lr={float(f'{rate * factor:.1g}'):g}"


def lower_learning_rate(findings: Findings) -> str:
    """Return the override for a rate whose steps move no layer by more than 1 % of its weights.

    It is a tenth of the present rate at most, and `SLOWEST` of it at least: steps that grow until
    the loss is not a number do not tell which rate would do.
    """
    factor = float(f"{0.01 / max(largest_update(findings), 1e-9):.0e}")
    return learning_rate_times(findings, min(0.1, max(SLOWEST, factor)))


def with_norm(findings: Findings) -> str:
    """Return the override that normalizes the values of each layer."""
    return f"model.norm={'layer' if findings.model in RECURRENT else 'batch'}"


def standard_scale(findings: Findings) -> str:
    """Return the override that standardizes inputs; pictures have one scale already."""
    return "" if findings.kind == "images" else "data.scale=standard"


def more_epochs(findings: Findings, factor: int) -> str:
    """Return the override for `factor` times as many epochs."""
    return f"trainer.max_epochs={factor * findings.planned}"


def regularization(findings: Findings) -> tuple[str, str]:
    """Return the overrides for dropout and weight decay; each empty where there is enough."""
    return (
        "model.dropout=0.3" if number(findings, "model.dropout") < 0.3 else "",
        "optimizer.weight_decay=0.01" if number(findings, "optimizer.weight_decay") < 0.01 else "",
    )


def applicable(findings: Findings, overrides: Sequence[str]) -> tuple[str, ...]:
    """Return those overrides whose key the run has, with another value, each once."""
    return tuple(dict.fromkeys(word for word in overrides if word and _applies(findings, word)))


def _applies(findings: Findings, override: str) -> bool:
    key, _, value = override.partition("=")
    if isinstance(setting(findings, key), Mapping):
        return not setting(findings, key)  # a group takes the place of what is there
    group, _, name = key.rpartition(".")
    section = setting(findings, group) if group else findings.config
    if not isinstance(section, Mapping) or name not in section:
        return False
    if group == "model" and not _fits_network(findings, key, value):
        return False
    return _comparable(section[name]) != _comparable(value)


def _fits_network(findings: Findings, key: str, value: str) -> bool:
    """Return whether a network knows this value; for the user's own networks that is unknown."""
    if not str(setting(findings, "model._target_")).startswith("pipeline.networks."):
        return False
    allowed = _OF_RECURRENT.get(key) if findings.model in RECURRENT else None
    return allowed is None or value in allowed


def _comparable(value: Any) -> float | str:
    text = "null" if value is None else str(value).replace(" ", "")
    try:
        return float(text)
    except ValueError:
        return text.lower()
