"""Rules between options that types and bounds alone can't say."""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.config.options import RunConfig
from pipeline.config.values import shown
from pipeline.errors import did_you_mean
from pipeline.paths import name_problem

RISING = tuple(f"val/{name}" for name in ("accuracy", "precision", "recall", "f1", "auroc", "r2"))
FALLING = ("val/loss", "val/rmse", "val/mae", "train/loss")
MONITORED = (*RISING, *FALLING)

_JOURNAL = "journal.jsonl"
_TAG = re.compile(r"[\w./:-][\w./: -]{0,249}")


def broken_rules(config: RunConfig) -> Iterator[str]:
    """Yield a line for each rule that a config of right values breaks."""
    yield from _names(config)
    yield from _output(config.output)
    yield from _monitors(config)
    yield from _trainer(config)


def _names(config: RunConfig) -> Iterator[str]:
    for key, name in (("name", config.name), ("tracking.experiment", config.tracking.experiment)):
        problem = None if name is None else name_problem(key, name)
        if problem:
            yield f"{problem}."
    for tag in config.tags:
        if not _TAG.fullmatch(tag):
            yield (
                f"tags: {shown(tag)} is no tag; expected up to 250 letters, digits, spaces "
                "and any of _ . / : -"
            )
    for package in config.trust:
        if not all(part.isidentifier() for part in package.split(".")):
            yield f"trust=[{package}] is no package; expected a name to import, such as my_net."


def _output(output: str) -> Iterator[str]:
    folder = Path(output).expanduser()
    if folder.exists() and not folder.is_dir():
        yield f"output={output!r} is a file; expected a folder. Choose another."
    for outer in (folder.absolute(), *folder.absolute().parents):
        if (outer / _JOURNAL).is_file():
            yield f"output={output!r} lies inside the run {str(outer)!r}; choose another folder."
            break


def _monitors(config: RunConfig) -> Iterator[str]:
    named: dict[str, Mapping[str, Any]] = {"monitor": {"monitor": config.monitor}}
    sections = chain([("scheduler", config.scheduler)], _callbacks(config))
    for key, section in sections:
        if section is not None and "monitor" in section:
            named[f"{key}.monitor"] = section
    for key, section in named.items():
        yield from _monitor(key, section["monitor"], section.get("mode"))


def _callbacks(config: RunConfig) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, callback in config.callbacks.items():
        yield f"callbacks.{name}", callback


def _monitor(key: str, metric: object, mode: object) -> Iterator[str]:
    if metric is None or not isinstance(metric, str):
        return
    if metric not in MONITORED:
        yield (
            f"{key}={metric!r} is never logged; expected one of {', '.join(MONITORED)}."
            + did_you_mean(metric, MONITORED)
        )
        return
    better = "max" if metric in RISING else "min"
    if mode in ("min", "max") and mode != better:
        yield (
            f"{key.replace('monitor', 'mode')}={mode} looks for the worst {metric}; "
            f"expected {better}."
        )


def _trainer(config: RunConfig) -> Iterator[str]:
    trainer = config.trainer
    if trainer.accelerator == "cpu" and trainer.precision in ("16-mixed", "16-true"):
        yield (
            f"trainer.precision={trainer.precision} does not exist on the CPU; expected one of "
            "32-true, bf16-mixed, bf16-true, 64-true."
        )
    for low, high in (("min_epochs", "max_epochs"), ("min_steps", "max_steps")):
        least, most = getattr(trainer, low), getattr(trainer, high)
        if least is not None and most >= 0 and least > most:
            yield f"trainer.{low}={least} is more than trainer.{high}={most}."
    if isinstance(trainer.devices, list) and len(set(trainer.devices)) < len(trainer.devices):
        yield f"trainer.devices={trainer.devices} names a device twice."
