"""What is recorded of a run before its training, and the tables of its config and its epochs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.base.findings import LAYERS_FILE
from pipeline.base.paths import replace_json, replace_text
from pipeline.config.plain import flatten
from pipeline.networks.inspection import layers_text
from pipeline.running.plan import Plan
from pipeline.serving.files import write_csv
from pipeline.tracking.facts import environment_tags, write_environment
from pipeline.tracking.folders import read_state
from pipeline.tracking.journal_events import Header


def header_of(plan: Plan, uri: str, order: int | None) -> Header:
    """Return the first line of a run's journal; `order` is `None` for a run that exists."""
    options = plan.options
    context = plan.context
    parent = plan.start.parent
    tags = options.tags
    if isinstance(tags, list):
        tags = dict.fromkeys(tags, "true")
    resolved = {
        "monitor": options.monitor,
        "keep": options.keep,
        "trainer": {
            **plan.config["trainer"],
            "threads": options.trainer.threads,
            "accelerator": options.trainer.accelerator,
        },
    }
    return Header(
        name=plan.name,
        experiment=options.tracking.experiment,
        uri=uri,
        params=flatten({**plan.config, **resolved}),
        tags={
            **(environment_tags() if context.made_with is None else context.made_with),
            "data.hash": plan.prepared.content_hash,
            "device": plan.devices.words,
            "seed": str(options.seed),
            **{str(key): str(value) for key, value in tags.items()},
            **context.tags,
        },
        parent=None if parent is None else read_state(parent).run_id or None,
        parent_folder=context.parent_folder,
        key=context.key,
        register=None if context.lean else options.register,
        trust=options.trust,
        rows=plan.prepared.rows,
        order=order,
    )


def write_beginning(folder: Path, plan: Plan) -> None:
    """Write config, layers, environment and data report of a run into a folder."""
    folder.mkdir(mode=0o750, exist_ok=True)
    write_config(folder, plan.config)
    replace_text(folder / LAYERS_FILE, layers_text(plan.layers) + "\n")
    write_environment(folder)
    report = plan.prepared.report
    if report is not None:
        replace_json(folder / "data_report.json", report.to_dict(), has_nan=False)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the whole configuration, with unresolved references to the environment."""
    replace_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))


def write_history(folder: Path, history: Mapping[int, Mapping[str, float]]) -> None:
    """Write a table with one line per epoch and a column for each value."""
    keys: dict[str, None] = {}  # in the order of their first epoch
    for values in history.values():
        keys.update(dict.fromkeys(values))
    lines = []
    for epoch, values in history.items():
        lines.append([epoch, *(values.get(key, "") for key in keys)])
    write_csv(folder / "history.csv", ["epoch", *keys], lines)
