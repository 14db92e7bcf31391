"""A config as plain values: references resolved, secrets hidden, compared and hashed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc
from pydantic import BaseModel

from pipeline.base.errors import shown
from pipeline.base.redaction import MASK, redact_value
from pipeline.config.options import SERVING
from pipeline.config.targets import TARGET, lies_in
from pipeline.config.values import Unresolved, resolved, written

FORMAT = 1
Scalar = str | int | float | bool | None

#: Keys that were removed, and that no weight depended on; recorded runs may still have them.
RETIRED = (
    "data.allow_url",
    "trainer.limit_predict_batches",
    "trainer.model_registry",
    "trainer.reload_dataloaders_every_n_epochs",
)
#: Keys that may change on resume: no weight depends on them.
FREE = (
    *("format", "name", "output", "tags", "verbose", "details", "traceback", "trust"),
    *("register", "tracking", "resume", "resume_allow_change", "find_lr", "lr_range"),
    *("pictures", "feature_maps", "data.memory_budget", "data.num_workers"),
    *(f"trainer.{key}" for key in ("accelerator", "devices", "num_nodes", "strategy")),
    *("trainer.max_time", "trainer.profiler", "trainer.checkpoint_seconds"),
)
#: Groups whose change makes a different run.
FIXED = ("model", "data")
#: Exceptions in these groups: how the rows are served may change like any other option.
_STEPS = ("data.batch_size", "data.shuffle")

_ENVIRONMENT = "oc.env"


def without_references(value: Any) -> Any:
    """Return plain values in which each text that contains a reference is replaced by `***`.

    Only the user's own words and files may read the environment: otherwise a stranger's model could
    cause its values to be recorded or sent.
    """
    if isinstance(value, Mapping):
        return {key: without_references(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_references(inner) for inner in value]
    return MASK if isinstance(value, str) and "${" in value else value


def _reference(name: str, *default: object) -> str:
    words = [name, *("null" if word is None else str(word) for word in default)]
    return f"${{{_ENVIRONMENT}:{','.join(words)}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigDifference:
    """One key whose values differ between two configs; `None` also stands for a missing key."""

    key: str
    old: Scalar
    new: Scalar

    def __str__(self) -> str:
        return f"{self.key} was {shown(self.old)} and is {shown(self.new)} now"


def plain(config: DictConfig | Mapping[str, Any] | BaseModel) -> dict[str, Any]:
    """Return the config as a plain dict that may be stored anywhere, with its `format`.

    References are resolved, except those to environment variables, and secrets are hidden. `trust`
    is left out, since only a command line may give it.
    """
    if isinstance(config, BaseModel):
        config = config.model_dump()
    # `${oc.env:NAME}` resolves to itself, so that no stored config holds its value.
    OmegaConf.register_new_resolver(_ENVIRONMENT, _reference, replace=True)
    try:
        values, _ = resolved(config)
    finally:
        OmegaConf.register_new_resolver(_ENVIRONMENT, oc.env, replace=True)
    values.pop("trust", None)
    return {"format": FORMAT, **_without_secrets(values)}


def as_written(tree: DictConfig) -> dict[str, Any]:
    """Return a tree as a plain dict, with references as written and secrets hidden."""
    return dict(_without_secrets(written(tree)))


def _without_secrets(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {str(name): _without_secrets(value[name], f"{key}.{name}") for name in value}
    if isinstance(value, list | tuple):
        return [_without_secrets(inner, key) for inner in value]
    if isinstance(value, Unresolved):
        return "???"
    return redact_value(key, value)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Return dotted keys with scalar values; a list or an empty mapping becomes a JSON text."""
    flat: dict[str, Scalar] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        elif value is None or isinstance(value, str | int | float | bool):
            flat[f"{prefix}{name}"] = value
        else:
            flat[f"{prefix}{name}"] = json.dumps(value, ensure_ascii=False, default=str)
    return flat


def without_retired(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a recorded config without the keys that this version does not have."""
    values: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if key in RETIRED:
            continue
        values[name] = without_retired(value, f"{key}.") if isinstance(value, dict) else value
    return values


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[ConfigDifference]:
    """Return all keys whose values differ, except retired ones, in the newer config's order.

    A key that an older config lacks equals null, which leaves its value to the program.
    """
    before = flatten(old)
    after = flatten(new)
    changes: list[ConfigDifference] = []
    for key in dict.fromkeys([*after, *before]):
        if key not in RETIRED and before.get(key) != after.get(key):
            changes.append(ConfigDifference(key=key, old=before.get(key), new=after.get(key)))
    return changes


def resume_problems(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return lines for changes that prevent a resume, and for those that need permission.

    The option `resume_allow_change` gives that permission.
    """
    never = []
    ask = []
    for change in differences(old, new):
        # A key that an older version lacked counts as null.
        if _is_free(change, new) or (change.old is None and change.new is None):
            continue
        if lies_in(change.key, FIXED) and change.key not in _STEPS:
            never.append(f"{change}; another model or data set needs a new run.")
        else:
            ask.append(
                f"{change}; restore it, or continue as a child run with resume_allow_change=true."
            )
    return never, ask


def _is_free(change: ConfigDifference, new: Mapping[str, Any]) -> bool:
    if change.key != "trainer.max_epochs":
        return lies_in(change.key, FREE)
    if not (isinstance(change.old, int) and isinstance(change.new, int)):
        return False
    # This schedule spans all steps, whose number the program fills in.
    spans_training = str((new.get("scheduler") or {}).get(TARGET)).endswith(".OneCycleLR")
    return change.new > change.old and not spans_training


def data_fingerprint(config: Mapping[str, Any]) -> str:
    """Return a hash that is equal for two plain configs that read and split the same data."""
    data = {key: value for key, value in config["data"].items() if key not in SERVING}
    left_out = (*FREE, *RETIRED)
    values = flatten({"data": data})
    fixed = {key: value for key, value in values.items() if not lies_in(key, left_out)}
    text = json.dumps(fixed, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
