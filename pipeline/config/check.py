"""Check of all values of a run before anything is created; one error lists all problems."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig

from pipeline.base.errors import ConfigError, did_you_mean, shown
from pipeline.base.kinds import record_names
from pipeline.base.paths import leads_out, name_problem, output_problem
from pipeline.config.options import (
    REFUSED,
    DataOptions,
    Options,
    RunConfig,
    SchedulerOptions,
    parts,
)
from pipeline.config.plain import flatten
from pipeline.config.targets import (
    CALLBACK,
    METRIC,
    MODULE,
    OPTIMIZER,
    PACKAGES,
    SCHEDULER,
    SOURCE,
    TARGET,
    arguments,
    find,
    lies_in,
    make_importable,
    path_parameters,
    target_problems,
)
from pipeline.config.values import as_tree, resolved, validate, written
from pipeline.metrics import all_metrics, monitored

#: Package of the baselines, which lies in a higher layer, so that only its files are listed.
BASELINES = "pipeline.scoring.baselines"
#: Names that a user's own metric can't have, besides those of the program's metrics.
TAKEN = {"loss", "time", "parameters", "epoch"}

Run = TypeVar("Run", bound=RunConfig)
_Kind = TypeVar("_Kind")
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
    """Return the run that a config describes, with references resolved; nothing is created.

    Lightning is not imported; `check_callbacks` checks what needs it. `trust` names packages whose
    classes the config may name; `None` means those listed in the config, which must then come from
    the command line. Raises ConfigError with all problems, one line each.
    """
    values, problems = resolved(config)
    if trust is not None:
        values["trust"] = list(trust)
    values["tags"] = values.get("tags") or {}
    run, value_problems = validate(RunConfig, values, hints=REFUSED)
    value_problems += _target_problems(values)
    for is_broken, line in _rules(values):
        if is_broken:
            value_problems.append(line)
    # A problem of a key that only refers to another key with a problem is left out.
    texts = flatten(written(as_tree(config)))
    keys = {problem: re.split("[= ]", problem, maxsplit=1)[0] for problem in value_problems}
    for problem, key in keys.items():
        reference = _REFERENCE.fullmatch(str(texts.get(key)))
        if reference is None or reference[1] not in keys.values():
            problems.append(problem)
    if problems or run is None:
        raise ConfigError(*problems)
    return run


def plain_options(config: DictConfig, kind: type[Run]) -> Run | None:
    """Return the options of a run or a study, or `None` if one of them is wrong, as `check` tells.

    Classes are not looked at, so torch is not imported.
    """
    values, _ = resolved(config)
    values["tags"] = values.get("tags") or {}
    return validate(kind, values)[0]


def check_callbacks(config: RunConfig, folder: Path | None = None) -> None:
    """Check the callbacks' targets and arguments, which needs Lightning.

    `folder` is the folder of the run; `None` = it is created later. Raises ConfigError with all
    problems.
    """
    import pytorch_lightning  # noqa: F401 - the base class is looked up among what is loaded

    problems: list[str] = []
    for name, target in config.callbacks.items():
        key = f"callbacks.{name}"
        trust = config.trust
        problems_of_target = list(target_problems(key, target, bases=[CALLBACK], trust=trust))
        problems += problems_of_target
        if not problems_of_target and not _is_trusted(target, trust):
            problems += _path_problems(key, arguments(target), trust)
            problems += _link_problems(key, target, folder)
    if problems:
        raise ConfigError(*problems)


# ── paths of callbacks ──────────────────────────────────────────────────────────────────────


def in_folder(target: Mapping[str, Any], folder: Path, *, trust: Sequence[str]) -> dict[str, Any]:
    """Return a checked callback's target with its relative paths below the folder of the run.

    Classes of the packages in `trust` keep the paths that they are given.
    """
    if _is_trusted(target, trust):
        return dict(target)
    paths = {name: str(path) for name, path in _paths_in(target, folder).items()}
    return {**target, **paths}


def _is_trusted(target: Mapping[str, Any], trust: Sequence[str]) -> bool:
    """Return whether the class is defined in a trusted package, whatever path names it."""
    return lies_in(find(target[TARGET]).__module__, trust)


def _paths_in(target: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for name in path_parameters(find(target[TARGET])):
        value = target.get(name)
        if isinstance(value, str):
            paths[name] = folder.absolute() / value
    return paths


def _path_problems(key: str, value: object, trust: Sequence[str]) -> Iterator[str]:
    """Yield a line for each text in a callback's arguments that leads out of the run's folder.

    All texts are checked: some classes append a file name to a path.
    """
    if isinstance(value, Mapping):
        if lies_in(str(value.get(TARGET)), trust):
            return
        for name, inner in value.items():
            yield from _path_problems(f"{key}.{name}", inner, trust)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _path_problems(f"{key}[{index}]", inner, trust)
    elif isinstance(value, str) and leads_out(value):
        yield (
            f"{key}={shown(value)} is outside of the run's folder; expected a relative path, "
            "which is taken from that folder."
        )


def _link_problems(key: str, target: Mapping[str, Any], folder: Path | None) -> Iterator[str]:
    if folder is None:
        return
    for name, path in _paths_in(target, folder).items():
        if not path.resolve().is_relative_to(folder.resolve()):
            yield f"{key}.{name}: a link leads from {str(path)!r} out of the run's folder."


def _at(values: object, key: str, kind: type[_Kind]) -> _Kind | None:
    """Return the value of a dotted key; `None` if it is missing or not of the given type."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values if isinstance(values, kind) else None


def _section(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    return _at(values, key, dict) or {}


def _target_problems(values: Mapping[str, Any]) -> Iterator[str]:
    trust = _texts(_at(values, "trust", list))
    make_importable(trust)
    for key, base, filled, shared in _SECTIONS:
        section = _at(values, key, dict)
        if section is None:
            continue
        target = section
        options: Mapping[str, Any] = {}
        if shared is not None:
            options, target = parts(section, shared)
            yield from validate(shared, options, prefix=f"{key}.")[1]
        yield from target_problems(key, target, bases=[base], filled=filled, trust=trust)
        follows_metric = str(target.get(TARGET)).endswith(".ReduceLROnPlateau")
        if follows_metric and options.get("monitor") is None:
            yield "scheduler.monitor is missing; expected a metric, such as val/loss."
        elif not follows_metric and options.get("monitor") is not None:
            yield "scheduler.monitor does not apply to this scheduler; remove it."
    for name, target in _section(values, "metrics.more").items():
        if isinstance(target, Mapping):
            yield from target_problems(f"metrics.more.{name}", target, bases=[METRIC], trust=trust)
    yield from _callback_targets(_section(values, "callbacks"), trust)


def _callback_targets(callbacks: Mapping[str, Any], trust: Sequence[str]) -> Iterator[str]:
    """Yield the problems of callbacks that can be found without Lightning."""
    allowed = tuple(f"{package}." for package in (*PACKAGES, *trust))
    for name, target in callbacks.items():
        path = _at(target, TARGET, str)
        if path is None:
            yield f"callbacks.{name}.{TARGET} is missing; expected the dotted path of a callback."
        elif not path.startswith(allowed):
            yield (
                f"callbacks.{name}.{TARGET}={path!r} is not in a trusted package; if it is "
                f"your own, add 'trust=[{path.partition('.')[0]}]' to the command line."
            )
        elif not lies_in(path, trust):
            yield from _path_problems(f"callbacks.{name}", arguments(target), trust)


def _rules(values: Mapping[str, Any]) -> Iterator[tuple[object, str]]:
    """Yield the rules that types can't state: whether each is broken, and its line.

    A value of a wrong type breaks no rule; `validate` reports it.
    """
    for key in ("name", "register", "tracking.experiment"):
        name = _at(values, key, str)
        problem = name_problem(key, name) if name else None
        yield problem, f"{problem}."
    register = values.get("register")
    yield (
        register and _at(values, "tracking.kind", str) == "none",
        f"register={shown(register)} needs MLflow, but tracking=none is set; choose "
        "tracking=local, or remove register.",
    )
    for tag in _texts(values.get("tags")):
        yield (
            not _TAG.fullmatch(tag),
            f"tags: {shown(tag)} is not a valid tag; expected up to 250 letters, digits, spaces "
            "and any of _ . / : -",
        )
    for package in _texts(values.get("trust")):
        is_name = all(part.isidentifier() for part in package.split("."))
        line = f"trust=[{package}] is not a package; expected an importable name, such as my_net."
        yield not is_name, line
    if output := _at(values, "output", str):
        yield from _output_rules(output)
    yield from _baseline_rules(values)
    yield from _metric_rules(values)
    yield from _range_test_rules(values)
    yield from _training_rules(_section(values, "data"), _section(values, "trainer"))


def _texts(values: object) -> list[str]:
    items = values if isinstance(values, list | tuple | Mapping) else ()
    return [value for value in items if isinstance(value, str)]


def _output_rules(output: str) -> Iterator[tuple[object, str]]:
    if problem := output_problem(output):
        yield problem, problem
        return
    folder = Path(output).absolute()
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if existing == folder:
        problem = "is a file; expected a folder. Choose another."
    else:
        problem = f"is below {str(existing)!r}, which is a file; choose another."
    yield not existing.is_dir(), f"output={output!r} {problem}"
    for path in (folder, *folder.parents):
        if (path / "journal.jsonl").is_file():
            line = f"output={output!r} is inside the run {str(path)!r}; choose another folder."
            yield True, line
            return


def _baseline_rules(values: Mapping[str, Any]) -> Iterator[tuple[object, str]]:
    known_names = record_names(BASELINES)
    names = values.get("baselines")
    for name in names if isinstance(names, list) else ():
        line = f"baselines: {shown(name)} is unknown; expected some of {', '.join(known_names)}."
        yield name not in known_names, line + did_you_mean(str(name), known_names)


def _metric_rules(values: Mapping[str, Any]) -> Iterator[tuple[object, str]]:
    added_names = [str(name) for name in _section(values, "metrics.more")]
    reserved_names = {*all_metrics(), *TAKEN}
    for name in added_names:
        if name in reserved_names:
            line = f"metrics.more.{name}: a built-in metric has this name; choose another."
            yield True, line
        elif not _METRIC.fullmatch(name):
            line = f"{shown(name)} is not a metric name; expected only letters, digits and _."
            yield True, f"metrics.more: {line}"
    directions = monitored()
    logged_metrics = (*directions, *(f"val/{name}" for name in added_names))
    for prefix, metric, mode in followed(values):
        better = directions.get(metric, mode)
        if metric not in logged_metrics:
            expected = ", ".join(logged_metrics)
            line = f"{prefix}monitor={metric!r} is not logged; expected one of {expected}."
            yield True, line + did_you_mean(metric, logged_metrics, by_leaf=True)
        yield (
            mode in ("min", "max") and mode != better,
            f"{prefix}mode={mode} selects the worst {metric}; expected {better}.",
        )


def followed(values: Mapping[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    """Yield each metric that run, scheduler or a callback follows: its section, itself, its mode.

    The section is `callbacks.early_stopping.`, or empty for the run itself.
    """
    sections: dict[str, Any] = {"": {"monitor": values.get("monitor")}}
    sections["scheduler."] = values.get("scheduler")
    for key, callback in _section(values, "callbacks").items():
        sections[f"callbacks.{key}."] = callback
    for prefix, section in sections.items():
        metric = _at(section, "monitor", str)
        if metric:
            yield prefix, metric, _at(section, "mode", str)


def _range_test_rules(values: Mapping[str, Any]) -> Iterator[tuple[object, str]]:
    """Yield the rules of a range test of the learning rate."""
    lr_range = _section(values, "lr_range")
    lowest = lr_range.get("lowest")
    highest = lr_range.get("highest")
    if isinstance(lowest, int | float) and isinstance(highest, int | float):
        line = f"lr_range.lowest={lowest} is not below lr_range.highest={highest}."
        yield lowest and highest and lowest >= highest, line
    if values.get("find_lr") is not True:
        return
    optimizer = _at(values, "optimizer", dict)
    yield (
        optimizer is not None and optimizer.get("lr") is None,
        "find_lr=true searches optimizer.lr, but this optimizer's YAML has no lr; add it.",
    )
    for key in ("resume", "register"):
        line = f"find_lr=true trains from scratch and keeps no weights; remove {key}."
        yield values.get(key) is not None, line
    trainer = _section(values, "trainer")
    devices = trainer.get("devices")
    device_count = len(devices) if isinstance(devices, list) else devices
    counts = (device_count, trainer.get("num_nodes"))
    yield (
        any(isinstance(count, int) and count > 1 for count in counts),
        "find_lr=true runs on one device; remove trainer.devices and trainer.num_nodes: "
        "data.batch_size counts the rows of all devices, so the rate is the same.",
    )
    line = "find_lr=true can't be combined with trainer.fast_dev_run; remove one."
    yield trainer.get("fast_dev_run"), line


def _training_rules(
    data: Mapping[str, Any], trainer: Mapping[str, Any]
) -> Iterator[tuple[object, str]]:
    folds = data.get("folds")
    fold = data.get("fold")
    if isinstance(fold, int) and fold >= 0:
        line = f"data.fold={fold} needs data.folds, which is null; expected data.fold=0."
        yield folds is None and fold, line
    if isinstance(fold, int) and isinstance(folds, int):
        line = (
            f"data.fold={fold} is out of range for data.folds={folds}; expected 0 to {folds - 1}."
        )
        yield 2 <= folds <= fold, line
    yield (
        trainer.get("accelerator") == "cpu" and trainer.get("precision") in _NOT_ON_CPU,
        f"trainer.precision={trainer.get('precision')} is not supported on the CPU; expected one "
        "of 32-true, bf16-mixed, bf16-true, 64-true.",
    )
    for low, high in (("min_epochs", "max_epochs"), ("min_steps", "max_steps")):
        least = trainer.get(low)
        most = trainer.get(high)
        if isinstance(least, int) and isinstance(most, int):
            line = f"trainer.{low}={least} is more than trainer.{high}={most}."
            yield least > most > 0, line
    devices = _at(trainer, "devices", list) or []
    is_repeated = any(devices.count(device) > 1 for device in devices)
    yield is_repeated, f"trainer.devices={devices} names a device twice."
    strategy = _at(trainer, "strategy", str)
    if strategy and strategy not in _STRATEGIES:
        line = (
            f"trainer.strategy={strategy} is not supported: exact and reproducible metrics need "
            "the whole network in each process; expected "
            f"one of {', '.join(_STRATEGIES)}."
        )
        yield True, line + did_you_mean(strategy, _STRATEGIES)
