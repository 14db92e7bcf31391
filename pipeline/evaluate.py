"""`python -m pipeline.evaluate model_from=last`: a trained model scored again, on any data."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from pipeline.config.options import DataOptions, TrackingOptions
from pipeline.config.overrides import raw_value
from pipeline.entry import command
from pipeline.errors import ConfigError
from pipeline.running.evaluation_config import EvaluateOptions, evaluation_request, run_config

LONGEST_NAME = 54
GROUP, STORED = "of_run", "stored"
_SHARED = ("data", "trainer", "metrics")
"""Sections that come from the run. Where things are sent is no matter of a model."""


def with_run(words: Sequence[str]) -> list[str]:
    """Let the command start from the config of the run whose model is named.

    `model_from=` is read as it stands, since Hydra takes `12e45678` for a number.

    Raises:
        ConfigError: There is no such run, or it has left no model.
    """
    reference = raw_value(words, "model_from")
    if reference in (None, "", "???"):
        return list(words)
    output = Path(raw_value(words, "output") or "runs")
    from pipeline.running.model_reference import found_model

    place = found_model(reference or "", output, _tracking(words, reference or ""))
    # Hydra finds the tree as `of_run=stored`.
    tree = _of_run(run_config(place), words)
    ConfigStore.instance().store(group=GROUP, name=STORED, node=tree, package="_global_")
    found = f"model_from={place.absolute()}"
    given = [found if word.startswith("model_from=") else word for word in words]
    return [f"{GROUP}={STORED}", *given]


def body(config: DictConfig) -> int:
    """Evaluate what the config says and print what came of it."""
    if OmegaConf.is_missing(config, "model_from"):
        raise ConfigError(
            "model_from has no value yet (???); expected a run's folder or id, last, or "
            "models:/NAME@ALIAS: model_from=last."
        )
    asked = evaluation_request(config)
    from pipeline.running.evaluation import evaluate

    evaluate(asked)
    return 0


def _tracking(words: Sequence[str], reference: str) -> TrackingOptions:
    """Return where a model is looked for that is no folder here."""
    from pipeline.config.compose import compose
    from pipeline.config.values import validated
    from pipeline.running.model_reference import may_be_in_mlflow

    given = [word for word in words if word.startswith(("tracking=", "tracking."))]
    if not may_be_in_mlflow(reference):
        given = ["tracking=none"]
    tree = compose(given, config_name="evaluate", options=EvaluateOptions)
    return validated(TrackingOptions, tree.tracking, prefix="tracking.")


def _of_run(stored: dict[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Return what the command starts from: the run's sections, but for those that are chosen."""
    given = {word.partition("=")[0] for word in words}
    sections = {key: stored[key] for key in _SHARED if key not in given or key == "data"}
    if "data" in given:
        ours = DataOptions.model_fields
        sections["data"] = {k: v for k, v in stored["data"].items() if k in ours}
    name = str(stored["name"] or "run")[:LONGEST_NAME]
    return {**sections, "name": f"{name}-evaluated"}


main = command("evaluate", body, options=EvaluateOptions, rewrite=with_run)

if __name__ == "__main__":
    sys.exit(main())
