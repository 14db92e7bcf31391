"""Configuration of an evaluation: that of the run, as the command changes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from pipeline.config.check import check
from pipeline.config.options import (
    SERVING,
    DataOptions,
    MetricsOptions,
    Options,
    RunConfig,
    Target,
    Text,
    TrackingOptions,
    TrainerOptions,
)
from pipeline.config.record import RETIRED, flatten, plain, without_references
from pipeline.config.values import TARGET, resolved, wrong_value
from pipeline.errors import ConfigError, shown
from pipeline.paths import conf_folder
from pipeline.redaction import MASK
from pipeline.tracking.journal import JOURNAL

CONFIG = Path("artifacts", "config.yaml")
Chosen = Literal["test", "validation", "train", "all"]
FREE = (*SERVING, "memory_budget")
"""Options of the rows that the command may change."""
OURS = ("name", "output", "verbose", "traceback", "tags", "data", "trainer", "metrics", "tracking")
"""Sections of a run that the command says anew."""


class EvaluateOptions(Options):
    """Options of `python -m pipeline.evaluate`."""

    model_from: Text
    split: Chosen
    name: Text | None
    output: Text
    verbose: Annotated[int, Field(ge=0, le=2)] | None
    traceback: bool
    trust: list[str]
    tags: dict[str, str] | list[str] | None
    data: Target
    trainer: TrainerOptions
    metrics: MetricsOptions
    tracking: TrackingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """An evaluation whose values are all checked.

    Args:
        place: Where the model is read from.
        split: Part of the run's own data.
        is_own: Whether the run's own data are scored.
        options: The run's, as the command has changed them.
        config: The same as plain values that may be stored.
        threshold: In place of the model's in a binary task; `None` = the model's.
        stored: The run's own config.
    """

    place: Path
    split: Chosen
    is_own: bool
    options: RunConfig
    config: Mapping[str, Any]
    threshold: float | None
    stored: Mapping[str, Any]

    @property
    def rows_word(self) -> str:
        """Word for the rows: a part of the run's own data, or other data."""
        return self.split if self.is_own else "other data"

    def own_options(self) -> RunConfig:
        """Return the same with the run's own data.

        Raises:
            ConfigError: They can't be read as they were.
        """
        of_no_run = ("format", "model_from", "split")
        values = {key: value for key, value in self.config.items() if key not in of_no_run}
        return check({**values, "data": self.stored["data"]}, trust=self.options.trust)


def run_config(place: Path) -> dict[str, Any]:
    """Return the config of a model's run; keys that it did not know yet have their defaults.

    Its data are no reason to fetch anything, whatever the run was allowed.

    Raises:
        ConfigError: There is no model, or its config can't be read.
    """
    stored = _stored(place)
    if isinstance(own := stored.get("trainer"), dict):
        stored["trainer"] = {k: v for k, v in own.items() if f"trainer.{k}" not in RETIRED}
    if "allow_url" in stored["data"]:
        stored["data"] = {**stored["data"], "allow_url": False}
    defaults: dict[str, Any] = dict(OmegaConf.load(conf_folder() / "train.yaml"))
    trainer = OmegaConf.load(conf_folder() / "trainer" / "auto.yaml")
    known = {k: v for k, v in defaults.items() if k not in ("defaults", "hydra")}
    merged = OmegaConf.merge(known, {"trainer": trainer}, OmegaConf.create(stored))
    values: Any = OmegaConf.to_container(merged)
    return {key: value for key, value in values.items() if key != "format"}


def _stored(place: Path) -> dict[str, Any]:
    """Return the configuration of a run or of a model, each reference to the environment masked."""
    file = place / CONFIG
    config: Any
    if (place / JOURNAL).is_file() and file.is_file():
        try:
            config = OmegaConf.to_container(OmegaConf.load(file))
        except Exception as error:  # a YAML reader may raise anything for a damaged file
            raise ConfigError(f"{file} can't be read as the config of a run") from error
        if not isinstance(config, dict) or "data" not in config:
            raise ConfigError(f"{file} is not the config of a run: it has no data")
    else:
        from pipeline.callbacks.checkpoint_file import read_checkpoint
        from pipeline.serving.files import model_file

        config = read_checkpoint(model_file(place))["pipeline"]["config"]
    return {str(key): without_references(value) for key, value in config.items()}


def evaluation_request(config: DictConfig) -> EvaluationRequest:
    """Check all values of an evaluation.

    Raises:
        ConfigError: All that are wrong, one line each.
    """
    given: Any = OmegaConf.to_container(config)
    place = Path(given["model_from"])
    stored = run_config(place)
    # The options of the rows are the run's.
    rows = {k: v for k, v in stored["data"].items() if k in DataOptions.model_fields}
    kept = {k: v for k, v in given["data"].items() if k not in rows or k in FREE}
    values = {
        **stored,
        **{key: given[key] for key in OURS},
        "data": {**rows, **kept},
        "test": True,
        "resume": None,
        "register": None,
        "callbacks": {},
        "scheduler": None,
    }
    secrets = [
        f"{key} held a secret, which is not saved, or a reference to the environment, "
        f"which is not resolved for a model; give it again: {key}=…"
        for key, value in flatten({name: values[name] for name in OURS}).items()
        if isinstance(value, str) and MASK in value
    ]
    if secrets:
        raise ConfigError(*secrets)
    problems = list(_wrong(given, stored))
    try:
        options = check(values, trust=list(given["trust"]))
    except ConfigError as error:
        raise ConfigError(*problems, *error.problems) from error
    if problems:
        raise ConfigError(*problems)
    is_own = same_source(options.data, resolved(stored)[0]["data"])
    threshold = given["metrics"]["threshold"]
    if not is_own or given["split"] != "test":  # limits of the training would cut the rows short
        free = {"limit_test_batches": None, "fast_dev_run": False, "overfit_batches": 0.0}
        update = {"trainer": options.trainer.model_copy(update=free)}
        options = options.model_copy(update=update)
    return EvaluationRequest(
        place=place,
        split=given["split"],
        is_own=is_own,
        options=options,
        config={**plain(values), "model_from": str(place), "split": given["split"]},
        threshold=None if threshold == stored["metrics"]["threshold"] else float(threshold),
        stored=stored,
    )


def _wrong(given: Mapping[str, Any], stored: Mapping[str, Any]) -> Iterator[str]:
    if given["split"] not in get_args(Chosen):
        yield wrong_value("split", given["split"], Chosen)
    own, data = stored["data"], given["data"]
    if data.get(TARGET) == own.get(TARGET):
        for key in DataOptions.model_fields:
            if key not in FREE and data.get(key) != own.get(key):
                yield (
                    f"data.{key}={shown(data.get(key))} can't be changed: the model was trained "
                    f"with {shown(own.get(key))}; leave it away."
                )
    rule, before = given["metrics"]["threshold"], stored["metrics"]["threshold"]
    if rule != before and not isinstance(rule, float):
        yield (
            f"metrics.threshold={shown(rule)} can't be found without a training; expected a "
            "number between 0 and 1, or nothing: the model has its own."
        )


def same_source(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two sections `data` name the same source of data."""
    free = (*DataOptions.model_fields, "allow_url")
    pair = [{k: _plain(v) for k, v in data.items() if k not in free} for data in (one, other)]
    return pair[0] == pair[1]


def _plain(value: Any) -> Any:
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value
