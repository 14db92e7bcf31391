"""Check of all values of a run before anything is created; every problem is in one error."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pipeline.config.options import (
    REFUSED,
    DataOptions,
    Options,
    RunConfig,
    SchedulerOptions,
    parts,
)
from pipeline.config.record import flatten
from pipeline.config.values import (
    CALLBACK,
    METRIC,
    MODULE,
    OPTIMIZER,
    PACKAGES,
    SCHEDULER,
    SOURCE,
    TARGET,
    as_tree,
    make_importable,
    resolved,
    target_problems,
    validate,
    written,
)
from pipeline.errors import ConfigError, did_you_mean, shown
from pipeline.paths import name_problem, output_problem

RISING = tuple(f"val/{name}" for name in ("accuracy", "precision", "recall", "f1", "auroc", "r2"))
FALLING = ("val/loss", "val/rmse", "val/mae", "train/loss")
MONITORED = (*RISING, *FALLING)
#: Names of metrics that a metric of the user's own can't have.
NAMES = {key.partition("/")[2] for key in MONITORED} | {"time", "parameters", "epoch"}

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_METRIC = re.compile(r"[A-Za-z0-9_]+")
_TAG = re.compile(r"[\w./:-][\w./: -]{0,249}")
_NOT_ON_CPU = ("16-mixed", "16-true")
_STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")
#: Groups that name a class: key, base class, parameters that the program fills in, and options in
#: the group that are not the constructor's.
_SECTIONS: Sequence[tuple[str, str, Sequence[str], type[Options] | None]] = (
    ("model", MODULE, ("input_shape", "outputs"), None),
    ("data", SOURCE, (), DataOptions),
    ("optimizer", OPTIMIZER, ("params",), None),
    ("scheduler", SCHEDULER, ("optimizer", "total_steps"), SchedulerOptions),
)


def check(
    config: DictConfig | Mapping[str, Any], *, trust: Sequence[str] | None = None
) -> RunConfig:
    """Return the run that a config describes, its references resolved.

    Nothing is created, and Lightning is not imported: `check_callbacks` follows where it is.

    Args:
        config: A composed tree.
        trust: Packages whose classes it may name; `None` = those in the config, which came from
            the command line. For a config that was read from a file or a checkpoint give what
            the present command line says.

    Raises:
        ConfigError: All its problems, one line each.
    """
    values, problems = resolved(config)
    if trust is not None:
        values["trust"] = list(trust)
    values["tags"] = values.get("tags") or {}
    run, wrong = validate(RunConfig, values, hints=REFUSED)
    wrong += _target_problems(values)
    wrong += [line for is_broken, line in _rules(values) if is_broken]
    # A problem of a key that only refers to another key with a problem is left out.
    texts = flatten(written(as_tree(config))).items()
    matches = {key: _REFERENCE.fullmatch(str(text)) for key, text in texts}
    keys = {problem: re.split("[= ]", problem, maxsplit=1)[0] for problem in wrong}
    for problem, key in keys.items():
        match = matches.get(key)
        if match is None or match[1] not in keys.values():
            problems.append(problem)
    if problems or run is None:
        raise ConfigError(*problems)
    return run


def check_callbacks(config: RunConfig) -> None:
    """Check the callbacks' targets and arguments, which needs Lightning.

    Raises:
        ConfigError: All their problems, one line each.
    """
    import pytorch_lightning  # noqa: F401 - the base class is looked up among what is loaded

    problems = [
        problem
        for name, target in config.callbacks.items()
        for problem in target_problems(
            f"callbacks.{name}", target, bases=[CALLBACK], trust=config.trust
        )
    ]
    if problems:
        raise ConfigError(*problems)


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a section, or an empty mapping where it is none; `validate` reports the type."""
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def _target_problems(values: Mapping[str, Any]) -> Iterator[str]:
    given = values.get("trust")
    trust = [word for word in given if isinstance(word, str)] if isinstance(given, list) else []
    make_importable(trust)
    for key, base, filled, shared in _SECTIONS:
        section = values.get(key)
        if not isinstance(section, Mapping):
            continue
        ours, target = parts(section, shared) if shared else ({}, section)
        if shared:
            yield from validate(shared, ours, prefix=f"{key}.")[1]
        yield from target_problems(key, target, bases=[base], filled=filled, trust=trust)
        follows = str(target.get(TARGET)).endswith(".ReduceLROnPlateau")
        if follows and ours.get("monitor") is None:
            yield "scheduler.monitor is missing; expected the metric to follow, such as val/loss."
        elif not follows and ours.get("monitor") is not None:
            yield "scheduler.monitor has no meaning for this schedule; leave it away."
    for name, target in _mapping(_mapping(values, "metrics"), "more").items():
        if isinstance(target, Mapping):
            yield from target_problems(f"metrics.more.{name}", target, bases=[METRIC], trust=trust)
    yield from _callback_targets(_mapping(values, "callbacks"), trust)


def _callback_targets(callbacks: Mapping[str, Any], trust: Sequence[str]) -> Iterator[str]:
    """Yield what can be said about callbacks without Lightning."""
    allowed = tuple(f"{package}." for package in (*PACKAGES, *trust))
    for name, target in callbacks.items():
        path = target.get(TARGET) if isinstance(target, Mapping) else None
        if not isinstance(path, str):
            yield f"callbacks.{name}.{TARGET} is missing; expected the dotted path of a callback."
        elif not path.startswith(allowed):
            yield (
                f"callbacks.{name}.{TARGET}={path!r} lies outside of what may be named; if it is "
                f"your own, add trust=[{path.partition('.')[0]}] to the command line."
            )


def _rules(values: Mapping[str, Any]) -> Iterator[tuple[object, str]]:
    """Yield the rules between options that their types can't state: broken or not, and the line.

    A value of a wrong type breaks no rule: `validate` reports it.
    """
    tracking, register = _mapping(values, "tracking"), values.get("register")
    experiment = tracking.get("experiment")
    named = {"name": values.get("name"), "register": register, "tracking.experiment": experiment}
    for key, name in named.items():
        problem = name_problem(key, name) if isinstance(name, str) and name else None
        yield problem, f"{problem}."
    yield (
        register and tracking.get("kind") == "none",
        f"register={shown(register)} needs MLflow, and tracking=none is given; choose "
        "tracking=local, or leave register away.",
    )
    for tag in _texts(values.get("tags")):
        yield (
            not _TAG.fullmatch(tag),
            f"tags: {shown(tag)} is no tag; expected up to 250 letters, digits, spaces "
            "and any of _ . / : -",
        )
    for package in _texts(values.get("trust")):
        is_name = all(part.isidentifier() for part in package.split("."))
        line = f"trust=[{package}] is no package; expected a name to import, such as my_net."
        yield not is_name, line
    yield from _output_rules(values.get("output"))
    yield from _metric_rules(values)
    yield from _range_test_rules(values, _mapping(values, "trainer"))
    yield from _training_rules(_mapping(values, "data"), _mapping(values, "trainer"))


def _texts(values: object) -> list[str]:
    found = values if isinstance(values, list | tuple | Mapping) else ()
    return [value for value in found if isinstance(value, str)]


def _output_rules(output: object) -> Iterator[tuple[object, str]]:
    if not isinstance(output, str) or not output:
        return
    if problem := output_problem(output):
        yield problem, problem
        return
    folder = Path(output).absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    beside = "is a file; expected a folder. Choose another."
    below = f"lies below {str(there)!r}, which is a file; choose another."
    yield not there.is_dir(), f"output={output!r} {beside if there == folder else below}"
    runs = [path for path in (folder, *folder.parents) if (path / "journal.jsonl").is_file()]
    inside = f"lies inside the run {str(next(iter(runs), ''))!r}; choose another folder."
    yield runs, f"output={output!r} {inside}"


def _metric_rules(values: Mapping[str, Any]) -> Iterator[tuple[object, str]]:
    own = [str(name) for name in _mapping(_mapping(values, "metrics"), "more")]
    for name in own:
        taken = f".{name}: the program has a metric of this name; choose another."
        no_name = f": {shown(name)} is no name for a metric; expected letters, digits and _ alone."
        line = taken if name in NAMES else no_name
        yield name in NAMES or not _METRIC.fullmatch(name), f"metrics.more{line}"
    known = (*MONITORED, *(f"val/{name}" for name in own))
    sections = {"": {"monitor": values.get("monitor")}, "scheduler.": values.get("scheduler")}
    for name, callback in _mapping(values, "callbacks").items():
        sections[f"callbacks.{name}."] = callback
    for prefix, section in sections.items():
        given = section if isinstance(section, Mapping) else {}
        metric, mode = given.get("monitor"), given.get("mode")
        better = "max" if metric in RISING else "min"
        if isinstance(metric, str) and metric and metric not in known:
            line = (
                f"{prefix}monitor={metric!r} is never logged; expected one of {', '.join(known)}."
            )
            yield True, line + did_you_mean(metric, known, by_leaf=True)
        yield (
            metric in MONITORED and mode in ("min", "max") and mode != better,
            f"{prefix}mode={mode} looks for the worst {metric}; expected {better}.",
        )


def _range_test_rules(
    values: Mapping[str, Any], trainer: Mapping[str, Any]
) -> Iterator[tuple[object, str]]:
    """Yield what a range test of the learning rate can't be joined with."""
    lr_range, optimizer = _mapping(values, "lr_range"), values.get("optimizer")
    ends = lr_range.get("lowest"), lr_range.get("highest")
    lowest, highest = (end if isinstance(end, int | float) else 0 for end in ends)
    line = f"lr_range.lowest={lowest} is not below lr_range.highest={highest}."
    yield lowest and highest and lowest >= highest, line
    if values.get("find_lr") is not True:
        return
    yield (
        isinstance(optimizer, Mapping) and optimizer.get("lr") is None,
        "find_lr=true looks for optimizer.lr, and this optimizer's YAML has no lr; add it.",
    )
    for key in ("resume", "register"):
        line = f"find_lr=true starts afresh and keeps no weights; leave {key} away."
        yield values.get(key) is not None, line
    devices, nodes = trainer.get("devices"), trainer.get("num_nodes")
    count = len(devices) if isinstance(devices, list) else devices
    yield (
        any(isinstance(many, int) and many > 1 for many in (count, nodes)),
        "find_lr=true runs on one device; leave trainer.devices and trainer.num_nodes away: "
        "data.batch_size counts the rows of all devices, so the rate is the same.",
    )
    line = "find_lr=true needs more steps than trainer.fast_dev_run allows; leave that away."
    yield trainer.get("fast_dev_run"), line


def _training_rules(
    data: Mapping[str, Any], trainer: Mapping[str, Any]
) -> Iterator[tuple[object, str]]:
    folds, fold = data.get("folds"), data.get("fold")
    if isinstance(fold, int) and fold >= 0:
        line = f"data.fold={fold} is one of data.folds, which is null; expected data.fold=0."
        yield folds is None and fold, line
    if isinstance(fold, int) and isinstance(folds, int):
        line = f"data.fold={fold} is none of data.folds={folds}; expected 0 to {folds - 1}."
        yield 2 <= folds <= fold, line
    devices, strategy = trainer.get("devices"), trainer.get("strategy")
    precision = trainer.get("precision")
    yield (
        trainer.get("accelerator") == "cpu" and precision in _NOT_ON_CPU,
        f"trainer.precision={precision} does not exist on the CPU; expected one of 32-true, "
        "bf16-mixed, bf16-true, 64-true.",
    )
    for low, high in (("min_epochs", "max_epochs"), ("min_steps", "max_steps")):
        least, most = trainer.get(low), trainer.get(high)
        if isinstance(least, int) and isinstance(most, int):
            line = f"trainer.{low}={least} is more than trainer.{high}={most}."
            yield least > most > 0, line
    repeated = isinstance(devices, list) and any(devices.count(one) > 1 for one in devices)
    yield repeated, f"trainer.devices={devices} names a device twice."
    if isinstance(strategy, str) and strategy and strategy not in _STRATEGIES:
        line = (
            f"trainer.strategy={strategy} is not offered: exact metrics and equal bits need the "
            "whole network in each process, and processes that don't replay the command; expected "
            f"one of {', '.join(_STRATEGIES)}."
        )
        yield True, line + did_you_mean(strategy, _STRATEGIES)
