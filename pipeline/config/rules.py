"""Rules between options that types and bounds alone can't say."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config.values import nearest, shown
from pipeline.paths import name_problem, output_problem

RISING = tuple(f"val/{name}" for name in ("accuracy", "precision", "recall", "f1", "auroc", "r2"))
FALLING = ("val/loss", "val/rmse", "val/mae", "train/loss")
MONITORED = (*RISING, *FALLING)
NAMES = {key.partition("/")[2] for key in MONITORED} | {"time", "parameters", "epoch"}
"""Names of metrics that a metric of one's own can't have."""

_JOURNAL = "journal.jsonl"
_METRIC = re.compile(r"[A-Za-z0-9_]+")
_TAG = re.compile(r"[\w./:-][\w./: -]{0,249}")
_NOT_ON_CPU = ("16-mixed", "16-true")
_STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")


def broken_rules(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each rule that a config breaks.

    A value of a wrong type is reported elsewhere: here it breaks no rule.

    Args:
        values: The config as plain values, its references resolved.
    """
    yield from _names(values)
    yield from _output(values.get("output"))
    own = _own_metrics(values)
    yield from _metric_names(own)
    yield from _monitors(values, own)
    yield from _range_test(values)
    data, trainer = values.get("data"), values.get("trainer")
    if isinstance(data, Mapping):
        yield from _fold(data.get("folds"), data.get("fold"))
    if isinstance(trainer, Mapping):
        yield from _precision(trainer)
        yield from _limits(trainer)
        yield from _devices(trainer)


def _names(values: Mapping[str, Any]) -> Iterator[str]:
    tracking = values.get("tracking")
    experiment = tracking.get("experiment") if isinstance(tracking, Mapping) else None
    register = values.get("register")
    named = {"name": values.get("name"), "register": register, "tracking.experiment": experiment}
    for key, name in named.items():
        problem = name_problem(key, name) if isinstance(name, str) and name else None
        if problem:
            yield f"{problem}."
    if register and isinstance(tracking, Mapping) and tracking.get("kind") == "none":
        yield (
            f"register={shown(register)} needs MLflow, and tracking=none is given; choose "
            "tracking=local, or leave register away."
        )
    for tag in _texts(values.get("tags")):
        if not _TAG.fullmatch(tag):
            yield (
                f"tags: {shown(tag)} is no tag; expected up to 250 letters, digits, spaces "
                "and any of _ . / : -"
            )
    for package in _texts(values.get("trust")):
        if not all(part.isidentifier() for part in package.split(".")):
            yield f"trust=[{package}] is no package; expected a name to import, such as my_net."


def _texts(values: object) -> list[str]:
    found = values if isinstance(values, list | tuple | Mapping) else ()
    return [value for value in found if isinstance(value, str)]


def _output(output: object) -> Iterator[str]:
    if not isinstance(output, str) or not output:
        return
    if problem := output_problem(output):
        yield problem
    else:
        yield from _place_problems(output, Path(output).absolute())


def _place_problems(output: str, folder: Path) -> Iterator[str]:
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if nearest == folder and not folder.is_dir():
        yield f"output={output!r} is a file; expected a folder. Choose another."
    elif not nearest.is_dir():
        yield f"output={output!r} lies below {str(nearest)!r}, which is a file; choose another."
    for outer in (folder, *folder.parents):
        if (outer / _JOURNAL).is_file():
            yield f"output={output!r} lies inside the run {str(outer)!r}; choose another folder."
            break


def _own_metrics(values: Mapping[str, Any]) -> list[str]:
    metrics = values.get("metrics")
    more = metrics.get("more") if isinstance(metrics, Mapping) else None
    return [str(name) for name in more] if isinstance(more, Mapping) else []


def _metric_names(own: Sequence[str]) -> Iterator[str]:
    for name in own:
        if name in NAMES:
            yield f"metrics.more.{name}: the program has a metric of this name; choose another."
        elif not _METRIC.fullmatch(name):
            yield (
                f"metrics.more: {shown(name)} is no name for a metric; expected letters, digits "
                "and _ alone."
            )


def _monitors(values: Mapping[str, Any], own: Sequence[str]) -> Iterator[str]:
    known = (*MONITORED, *(f"val/{name}" for name in own))
    yield from _monitor("monitor", values.get("monitor"), None, known)
    callbacks = values.get("callbacks")
    named = {"scheduler": values.get("scheduler")}
    if isinstance(callbacks, Mapping):
        named |= {f"callbacks.{name}": callback for name, callback in callbacks.items()}
    for key, section in named.items():
        if isinstance(section, Mapping):
            yield from _monitor(
                f"{key}.monitor", section.get("monitor"), section.get("mode"), known
            )


def _monitor(key: str, metric: object, mode: object, known: Sequence[str]) -> Iterator[str]:
    if not isinstance(metric, str) or not metric:
        return
    better = "max" if metric in RISING else "min"
    if metric not in known:
        yield (
            f"{key}={metric!r} is never logged; expected one of {', '.join(known)}."
            + nearest(metric, known)
        )
    elif metric in MONITORED and mode in ("min", "max") and mode != better:
        mode_key = key.removesuffix("monitor") + "mode"
        yield f"{mode_key}={mode} looks for the worst {metric}; expected {better}."


def _fold(folds: object, fold: object) -> Iterator[str]:
    if not isinstance(fold, int) or fold < 0:
        return
    if folds is None and fold:
        yield f"data.fold={fold} is one of data.folds, which is null; expected data.fold=0."
    elif isinstance(folds, int) and 2 <= folds <= fold:
        yield f"data.fold={fold} is none of data.folds={folds}; expected 0 to {folds - 1}."


def _precision(trainer: Mapping[str, Any]) -> Iterator[str]:
    if trainer.get("accelerator") == "cpu" and trainer.get("precision") in _NOT_ON_CPU:
        yield (
            f"trainer.precision={trainer['precision']} does not exist on the CPU; expected one of "
            "32-true, bf16-mixed, bf16-true, 64-true."
        )


def _limits(trainer: Mapping[str, Any]) -> Iterator[str]:
    for low, high in (("min_epochs", "max_epochs"), ("min_steps", "max_steps")):
        least, most = trainer.get(low), trainer.get(high)
        if isinstance(least, int) and isinstance(most, int) and least > most > 0:
            yield f"trainer.{low}={least} is more than trainer.{high}={most}."


def _range_test(values: Mapping[str, Any]) -> Iterator[str]:
    """Refuse what a range test of the learning rate can't be joined with."""
    lr_range = values.get("lr_range")
    lowest, highest = _ends(lr_range) if isinstance(lr_range, Mapping) else (None, None)
    if lowest and highest and lowest >= highest:
        yield f"lr_range.lowest={lowest} is not below lr_range.highest={highest}."
    if values.get("find_lr") is not True:
        return
    optimizer, trainer = values.get("optimizer"), values.get("trainer")
    if isinstance(optimizer, Mapping) and optimizer.get("lr") is None:
        yield "find_lr=true looks for optimizer.lr, and this optimizer's YAML has no lr; add it."
    for key in ("resume", "register"):
        if values.get(key) is not None:
            yield f"find_lr=true starts afresh and keeps no weights; leave {key} away."
    if isinstance(trainer, Mapping):
        yield from _range_test_alone(trainer)


def _range_test_alone(trainer: Mapping[str, Any]) -> Iterator[str]:
    devices, nodes = trainer.get("devices"), trainer.get("num_nodes")
    count = len(devices) if isinstance(devices, list) else devices
    if any(isinstance(many, int) and many > 1 for many in (count, nodes)):
        yield (
            "find_lr=true runs on one device; leave trainer.devices and trainer.num_nodes away: "
            "data.batch_size counts the rows of all devices, so the rate is the same."
        )
    if trainer.get("fast_dev_run"):
        yield "find_lr=true needs more steps than trainer.fast_dev_run allows; leave that away."


def _ends(lr_range: Mapping[str, Any]) -> tuple[float | None, ...]:
    ends = (lr_range.get("lowest"), lr_range.get("highest"))
    return tuple(end if isinstance(end, int | float) else None for end in ends)


def _devices(trainer: Mapping[str, Any]) -> Iterator[str]:
    devices, strategy = trainer.get("devices"), trainer.get("strategy")
    if isinstance(devices, list) and any(devices.count(device) > 1 for device in devices):
        yield f"trainer.devices={devices} names a device twice."
    if isinstance(strategy, str) and strategy and strategy not in _STRATEGIES:
        yield (
            f"trainer.strategy={strategy} is not offered: exact metrics and equal bits need the "
            "whole network in each process, and processes that don't replay the command; expected "
            f"one of {', '.join(_STRATEGIES)}." + nearest(strategy, _STRATEGIES)
        )
