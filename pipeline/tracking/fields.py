"""Names, texts and limits of what MLflow has of a run. Nothing here imports MLflow."""

import hashlib
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

STUDY_TAG = "pipeline.study"
TRIAL_TAG = "pipeline.trial"
END_TAG = "end_reason"
PARENT_TAG = "mlflow.parentRunId"
"""Folds a run under another one in MLflow's pages."""

MAX_KEY = 250
MAX_PARAM = 6000
MAX_TAG = 8000
TELLING = ("model.", "data.", "optimizer.", "scheduler.", "trainer.")
"""Parameters that tell runs apart; MLflow's pages list them in the order in which they came."""

_REFUSED = re.compile(r"[^/\w.\- :]")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTrial:
    """What MLflow has of the run of one trial.

    Args:
        trial: Number of the trial.
        run_id: MLflow's id of the run.
        status: RUNNING, FINISHED, FAILED or KILLED.
        end_reason: Why it ended early; `None` where it did not.
        metrics: The latest values of those that were asked for, as far as it has them.
    """

    trial: int
    run_id: str
    status: str
    end_reason: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def field_name(name: str) -> str:
    """Return a name that MLflow takes, the same for the same input and unlike that of others."""
    kept = posixpath.normpath(_REFUSED.sub("_", name)).lstrip("./") or "_"
    if len(kept) <= MAX_KEY:
        return kept
    return f"{kept[: MAX_KEY - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def param_text(value: object) -> str:
    """Return a parameter as the text that Hydra would read back, cut at MLflow's limit."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else cut(str(value), MAX_PARAM)


def param_texts(params: Mapping[str, object]) -> dict[str, str]:
    """Return parameters as MLflow holds them, by name and text, the telling ones first."""

    def rank(key: str) -> int:
        return next((n for n, group in enumerate(TELLING) if key.startswith(group)), len(TELLING))

    return {field_name(key): param_text(params[key]) for key in sorted(params, key=rank)}


def tag_texts(tags: Mapping[str, object]) -> dict[str, str]:
    """Return tags under the names and with the texts that MLflow holds of them."""
    return {field_name(key): cut(str(value), MAX_TAG) for key, value in tags.items()}


def cut(text: str, longest: int) -> str:
    """Return `text`, or its beginning and a mark that tells how long it was."""
    if len(text) <= longest:
        return text
    mark = f" … (cut: {len(text)} characters)"
    return text[: longest - len(mark)] + mark
