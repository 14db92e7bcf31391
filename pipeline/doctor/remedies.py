"""Overrides that would help, of which only those are offered that change this very run."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.doctor import thresholds
from pipeline.findings.records import Findings

OURS = "pipeline.networks."
RECURRENT = ("RNN", "GRU", "LSTM")
_OF_RECURRENT = {"model.norm": ("layer",), "model.activation": ("tanh", "relu")}


def offered(findings: Findings, *words: str) -> tuple[str, ...]:
    """Return those of these overrides that apply: their key is there and says something else.

    Args:
        findings: Of the run.
        words: Overrides, the likeliest to help first; an empty one is left out.
    """
    return tuple(dict.fromkeys(word for word in words if word and _applies(findings, word)))


def setting(findings: Findings, key: str) -> Any:
    """Return the value of a dotted key of the config; `None` where it has none."""
    value: Any = findings.config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def slower(findings: Findings, factor: float) -> str:
    """Return the override for a learning rate that is `factor` times the present one."""
    rate = setting(findings, "optimizer.lr")
    if not isinstance(rate, int | float) or isinstance(rate, bool):
        return ""
    return f"optimizer.lr={float(f'{rate * factor:.1g}'):g}"


def settled(findings: Findings) -> str:
    """Return the override for a rate whose steps move no layer by more than 1 % of its weights.

    It is a tenth of the present one at most; and not much less than a thousandth, since steps that
    grow until the loss is no number say nothing of the rate that would do.
    """
    factor = float(f"{0.01 / max(reach(findings), 1e-9):.0e}")
    return slower(findings, min(0.1, max(thresholds.SLOWEST, factor)))


def reach(findings: Findings) -> float:
    """Return update / weight of the fastest layer in the fastest epoch; 0 where nobody knows."""
    updates = np.zeros(0) if findings.vitals is None else findings.vitals.updates
    return float(np.max(updates[np.isfinite(updates)], initial=0.0))


def normalised(findings: Findings) -> str:
    """Return the override that normalises the values of each layer."""
    return f"model.norm={'layer' if findings.model in RECURRENT else 'batch'}"


def scaled(findings: Findings) -> str:
    """Return the override that scales inputs whose sizes nobody has looked at."""
    return "" if findings.kind == "images" else "data.scale=standard"


def longer(findings: Findings, factor: int) -> str:
    """Return the override for that many times as many epochs."""
    return f"trainer.max_epochs={factor * findings.planned}"


def _applies(findings: Findings, word: str) -> bool:
    key, _, value = word.partition("=")
    if isinstance(setting(findings, key), Mapping):
        return not setting(findings, key)  # a group takes the place of what is there
    group, _, name = key.rpartition(".")
    section = setting(findings, group) if group else findings.config
    if not isinstance(section, Mapping) or name not in section:
        return False
    if group == "model" and not _fits_network(findings, key, value):
        return False
    return _plain(section[name]) != _plain(value)


def _fits_network(findings: Findings, key: str, value: str) -> bool:
    """Tell whether a network knows this value; of one of the user's own nobody does."""
    if not str(setting(findings, "model._target_")).startswith(OURS):
        return False
    allowed = _OF_RECURRENT.get(key) if findings.model in RECURRENT else None
    return allowed is None or value in allowed


def _plain(value: Any) -> float | str:
    text = "null" if value is None else str(value).replace(" ", "")
    try:
        return float(text)
    except ValueError:
        return text.lower()
