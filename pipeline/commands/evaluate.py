"""`pipeline evaluate model_from=last`: score a trained model on its own or other data."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from pipeline.base.errors import ConfigError, shown
from pipeline.base.redaction import MASK
from pipeline.base.terminal import waiting_for
from pipeline.commands.entry import command
from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.config.options import (
    MODEL_REQUIRED,
    SERVING,
    DataOptions,
    MetricsOptions,
    Options,
    Place,
    Target,
    Text,
    TrackingOptions,
    TrainerOptions,
    Trusted,
    parts,
)
from pipeline.config.overrides import raw_value
from pipeline.config.plain import flatten, plain
from pipeline.config.targets import TARGET
from pipeline.config.values import resolved, validated, wrong_value
from pipeline.running.model_lookup import find_model, may_be_in_mlflow
from pipeline.running.run_config import run_config

if TYPE_CHECKING:
    from pipeline.running.evaluation_plan import EvaluationRequest

LONGEST_NAME = 54
GROUP = "of_run"
STORED = "stored"
Chosen = Literal["test", "validation", "train", "all"]
#: Options of the data that the command may change.
FREE = (*SERVING, "memory_budget")
#: Keys of this command that a run does not have.
NOT_OF_RUNS = ("model_from", "split")


class EvaluateOptions(Options):
    """Options of `pipeline evaluate`."""

    model_from: Text
    split: Chosen
    name: Text | None
    output: Place
    verbose: Annotated[int, Field(ge=0, le=2)] | None
    details: bool
    traceback: bool
    trust: Trusted
    tags: dict[str, str] | list[str] | None
    data: Target
    trainer: TrainerOptions
    metrics: MetricsOptions
    tracking: TrackingOptions


# ── the run's own config ────────────────────────────────────────────────────────────────────


def with_run(words: Sequence[str]) -> list[str]:
    """Let the command start from the config of the run whose model is named.

    `model_from=` is read as text, since Hydra would take `12e45678` for a number.

    Raises:
        ConfigError: The run does not exist or has left no model.
    """
    reference = raw_value(words, "model_from") or ""
    if reference in ("", "???"):
        return list(words)
    # Tracking options say where to look for a model that is not a local folder.
    tracking_words = ["tracking=none"]
    if may_be_in_mlflow(reference):
        tracking_words = [word for word in words if word.startswith(("tracking=", "tracking."))]
    tree = compose(tracking_words, config_name="evaluate", options=EvaluateOptions)
    tracking = validated(TrackingOptions, tree.tracking, prefix="tracking.")
    model_path = find_model(reference, Path(raw_value(words, "output") or "runs"), tracking)
    stored = run_config(model_path)
    typed_keys = {word.partition("=")[0] for word in words}
    sections = {key: stored[key] for key in ("trainer", "metrics") if key not in typed_keys}
    sections["data"] = stored["data"]
    if "data" in typed_keys:  # the options of `DataOptions` are still the run's
        sections["data"] = parts(stored["data"], DataOptions)[0]
    sections["name"] = f"{str(stored['name'] or 'run')[:LONGEST_NAME]}-evaluated"
    # Hydra finds the tree as `of_run=stored`.
    ConfigStore.instance().store(group=GROUP, name=STORED, node=sections, package="_global_")
    new_words = [f"{GROUP}={STORED}"]
    for word in words:
        is_model = word.startswith("model_from=")
        new_words.append(f"model_from={model_path.absolute()}" if is_model else word)
    return new_words


# ── the command ─────────────────────────────────────────────────────────────────────────────


def body(config: DictConfig) -> int:
    """Evaluate the model as configured and print the result."""
    if OmegaConf.is_missing(config, "model_from"):
        raise ConfigError(f"model_from={MODEL_REQUIRED}")
    unchecked: Any = OmegaConf.to_container(config)
    with waiting_for("loading the model", unchecked["verbose"]):
        request = evaluation_request(config)
        from pipeline.running.evaluation import evaluate

    evaluate(request)
    return 0


def evaluation_request(config: DictConfig) -> "EvaluationRequest":
    """Check all values of an evaluation; raise one `ConfigError` that lists all wrong ones."""
    requested: Any = OmegaConf.to_container(config)
    model_path = Path(requested["model_from"])
    stored = run_config(model_path)
    changes = {key: value for key, value in requested.items() if key not in NOT_OF_RUNS}
    # All options of `DataOptions` but the free ones are the run's.
    data = parts(stored["data"], DataOptions)[0]
    for key, value in requested["data"].items():
        if key not in data or key in FREE:
            data[key] = value
    changes["data"] = data
    values = {**stored, **changes, "test": True, "callbacks": {}}
    values |= dict.fromkeys(("resume", "register", "scheduler"))
    secrets: list[str] = []
    for key, value in flatten(changes).items():
        if isinstance(value, str) and MASK in value:
            line = "is not saved (secret or environment reference); set it again:"
            secrets.append(f"{key} {line} {key}=…")
    if secrets:
        raise ConfigError(*secrets)
    problems = list(_request_problems(requested, stored))
    try:
        run = check(values)
    except ConfigError as error:
        raise ConfigError(*problems, *error.problems) from error
    if problems:
        raise ConfigError(*problems)
    from pipeline.running.evaluation_plan import EvaluationRequest

    threshold = run.metrics.threshold
    source = parts(run.data, DataOptions)[1]
    stored_source = parts(resolved(stored)[0]["data"], DataOptions)[1]
    return EvaluationRequest(
        model_path=model_path,
        split=requested["split"],
        is_own=flatten(source) == flatten(stored_source),
        options=run,
        config={**plain(values), "model_from": str(model_path), "split": requested["split"]},
        threshold=None if threshold == stored["metrics"]["threshold"] else float(threshold),
        own_config={**values, "data": stored["data"]},
    )


def _request_problems(requested: Mapping[str, Any], stored: Mapping[str, Any]) -> Iterator[str]:
    if requested["split"] not in get_args(Chosen):
        yield wrong_value("split", requested["split"], Chosen)
    data = requested["data"]
    stored_data = stored["data"]
    if data.get(TARGET) == stored_data.get(TARGET):
        for key in DataOptions.model_fields:
            if key not in FREE and data.get(key) != stored_data.get(key):
                yield (
                    f"data.{key}={shown(data.get(key))} can't be changed: the model was trained "
                    f"with {shown(stored_data.get(key))}; remove it."
                )
    metrics = requested.get("metrics")
    before = stored["metrics"]["threshold"]
    # `check` reports metrics that are not a mapping.
    rule = metrics.get("threshold", before) if isinstance(metrics, dict) else before
    if rule != before and not isinstance(rule, float):
        yield (
            f"metrics.threshold={shown(rule)} can't be found without training; expected a "
            "number between 0 and 1. Without it, the model's own is used."
        )


main = command("evaluate", body, options=EvaluateOptions, rewrite=with_run)
