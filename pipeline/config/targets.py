"""Targets: sections that name a class by `_target_`; their keys are those of its constructor.

Which classes may be named, what their constructors allow, and how the objects are built.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, Strict, create_model

from pipeline.base.errors import ConfigError, did_you_mean, own_packages, shown
from pipeline.config.options import REFUSED
from pipeline.config.values import validate

TARGET = "_target_"
PARTIAL = "_partial_"
PACKAGES = ("pipeline", "torch.nn", "torch.optim", "pytorch_lightning.callbacks")

MODULE = "torch.nn.Module"
OPTIMIZER = "torch.optim.Optimizer"
SCHEDULER = "torch.optim.lr_scheduler.LRScheduler"
SOURCE = "pipeline.data.source.Source"
CALLBACK = "pytorch_lightning.Callback"
METRIC = "torchmetrics.Metric"
BASES = (MODULE, OPTIMIZER, SCHEDULER, SOURCE, CALLBACK, METRIC)

# Signatures of torch and Lightning have no bounds. These are the bounds that their documentation
# gives, or that their formulas need, by the name of the parameter.
_NAMES_BY_BOUNDS: Mapping[tuple[object, ...], str] = {
    (Gt(0),): "lr max_lr swa_lrs eps div_factor final_div_factor swa_epoch_start",
    (Ge(0),): "weight_decay lr_decay momentum_decay eta_min min_lr patience cooldown",
    (Ge(1),): "T_max T_0 T_mult step_size total_iters annealing_epochs update_every_n_steps",
    (Ge(1), Le(1000)): "num_layers num_encoder_layers num_decoder_layers",
    # Shapes of layers: a large number takes memory in each forward pass.
    (Le(10_000),): "padding output_padding",  # negative numbers cut values off
    (Ge(1), Le(10_000)): "kernel_size stride dilation output_size size upscale_factor",
    (Ge(0), Lt(1)): "momentum dampening alpha betas",
    (Ge(0), Le(1)): "rho decay",
    (Gt(0), Lt(1)): "factor pct_start",
    (Gt(0), Le(1)): "gamma",
}
_BOUNDS: dict[str, tuple[object, ...]] = {}
for _bounds, _names in _NAMES_BY_BOUNDS.items():
    _BOUNDS |= dict.fromkeys(_names.split(), _bounds)
_NAMED = {"int": int, "float": float, "str": str, "bool": bool, "None": NoneType}


def resolve(path: str, *, trust: Sequence[str] = ()) -> type:
    """Return the class that a dotted path names, if a config may name it.

    Raises ConfigError if the path is outside of our packages, torch's, Lightning's and those in
    `trust`, if it does not exist or can't be imported, or if it is not a class.
    """
    allowed = (*PACKAGES, *trust)
    if not lies_in(path, allowed):
        raise ConfigError(
            f"{path!r} is outside of {', '.join(allowed)}; if it is your own, add "
            f"'trust=[{path.partition('.')[0]}]' to the command line"
        )
    kind = find(path)
    if not lies_in(kind.__module__, allowed):
        raise ConfigError(
            f"{path!r} is defined in {kind.__module__!r}, outside of {', '.join(allowed)}"
        )
    return kind


def find(path: str) -> type:
    """Return the class of a target that was checked before.

    Raises ConfigError if it does not exist or can't be imported, or if it is not a class.
    """
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and lies_in(module_name, [error.name]):
            raise ConfigError(f"{path!r} does not exist: no module {error.name!r}") from error
        raise ConfigError(f"{path!r} can't be imported: {error}") from error
    except Exception as error:  # whatever a user's own module raises is theirs to read
        raise ConfigError(f"{path!r} can't be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        names = [name for name in vars(module) if not name.startswith("_")]
        raise ConfigError(f"{path!r} does not exist.{did_you_mean(name, names)}")
    kind = getattr(module, name)
    if not inspect.isclass(kind):
        raise ConfigError(f"{path!r} is not a class")
    return kind


def lies_in(path: str, roots: Sequence[str]) -> bool:
    """Tell whether a dotted path equals one of `roots` or is below one of them."""
    return any(path == root or path.startswith(f"{root}.") for root in roots)


def make_importable(trust: Sequence[str]) -> None:
    """Let trusted packages be imported from the current folder, after all installed ones.

    From now on an error that their code raises is told from one of the program.
    """
    own_packages.update(trust)
    folder = str(Path.cwd())
    if trust and folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)


def target_problems(
    key: str,
    target: Mapping[str, Any],
    *,
    bases: Sequence[str] = BASES,
    filled: Sequence[str] = (),
    trust: Sequence[str] = (),
) -> Iterator[str]:
    """Yield a line for each problem with the target at a key and with the targets in it.

    The class must be a subclass of one of `bases`. `filled` are parameters that the program fills
    in. `trust` names packages that are allowed in addition to the usual ones.
    """
    path = target.get(TARGET)
    if not isinstance(path, str):
        yield f"{key}.{TARGET}={shown(path)} is not allowed; expected the dotted path of a class."
        return
    try:
        kind = resolve(path, trust=trust)
    except ConfigError as error:
        for problem in error.problems:
            yield f"{key}.{TARGET}={problem.rstrip('.')}."
        return
    if not any(_is_subclass(kind, base) for base in bases):
        yield f"{key}.{TARGET}={path!r} is not a {' or '.join(bases)}."
        return
    inner, plain, without = _split_arguments(kind, target)
    for name in filled:
        if name in plain:
            del plain[name]
            yield f"{key}.{name} is set by the program; remove it."
    yield from problems_with(kind, plain, prefix=f"{key}.", without={*without, *filled})
    for name, value in inner.items():
        for place, nested in _targets_in(f"{key}.{name}", value):
            yield from target_problems(place, nested, trust=trust)


def _is_subclass(kind: type, path: str) -> bool:
    """Return whether a resolved class is a subclass of the class that a dotted path names."""
    module, _, name = path.rpartition(".")
    # A class whose library has not been imported can't be the base of a resolved class.
    base = getattr(sys.modules.get(module), name, None)
    return inspect.isclass(base) and issubclass(kind, base)


def arguments(target: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a target's constructor."""
    return {name: value for name, value in target.items() if name not in (TARGET, PARTIAL)}


def _split_arguments(
    kind: type, target: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], set[str]]:
    """Return arguments that contain targets, other arguments, and parameters to leave unchecked."""
    inner: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for name, value in arguments(target).items():
        if any(_targets_in("", value)):
            inner[name] = value
        else:
            plain[name] = value
    unchecked = set(inner)
    if target.get(PARTIAL):
        unchecked |= set(parameters_of(kind)) - set(target)
    return inner, plain, unchecked


def _targets_in(key: str, value: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the outermost targets within a value, each with its key."""
    if isinstance(value, Mapping):
        if TARGET in value:
            yield key, value
            return
        for name, inner in value.items():
            yield from _targets_in(f"{key}.{name}", inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _targets_in(f"{key}[{index}]", inner)


def build(target: Mapping[str, Any], /, **filled: object) -> Any:
    """Build the object that a checked target describes, its nested targets first.

    With `_partial_: true`, the result is a function that builds the object. Arguments in `filled`
    are passed if the constructor takes them.
    """
    kind = find(target[TARGET])
    inner, plain, without = _split_arguments(kind, target)
    parameters = parameters_of(kind)
    filled = {name: value for name, value in filled.items() if name in parameters}
    # Values have the types that the constructor declares: a list may become a tuple.
    declared = _schema(kind, {*filled, *without}).model_validate(plain)
    values = declared.model_dump(by_alias=True, exclude_unset=True) | _build_nested(inner) | filled
    return partial(kind, **values) if target.get(PARTIAL) else kind(**values)


def _build_nested(value: Any) -> Any:
    if isinstance(value, Mapping):
        if TARGET in value:
            return build(value)
        return {name: _build_nested(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_build_nested(inner) for inner in value]
    return value


def problems_with(
    kind: type, values: Mapping[str, Any], *, prefix: str, without: Collection[str]
) -> list[str]:
    """Return a line for each value that a constructor does not allow, except those in `without`."""
    return validate(_schema(kind, without), values, prefix=prefix, hints=REFUSED)[1]


def parameters_of(kind: type) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class's constructor by name, without `self`."""
    return dict(inspect.signature(kind).parameters)


def path_parameters(kind: type) -> list[str]:
    """Return the parameters of a class's constructor that take a path."""
    return [name for name, annotation in _hints(kind).items() if _mentions_path(annotation)]


def _mentions_path(annotation: object) -> bool:
    is_path = inspect.isclass(annotation) and issubclass(annotation, os.PathLike)
    return is_path or any(map(_mentions_path, get_args(annotation)))


def _schema(kind: type, without: Collection[str]) -> type[BaseModel]:
    hints = _hints(kind)
    bounded = kind.__module__.split(".")[0] in ("torch", "pytorch_lightning")
    fields: dict[str, Any] = {}
    takes_any = False
    for name, parameter in parameters_of(kind).items():
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.kind is not parameter.VAR_POSITIONAL and name not in without:
            bounds = _BOUNDS.get(name, ()) if bounded else ()
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[f"parameter_{name}"] = (
                _plain(hints.get(name, Any), bounds),
                Field(default, alias=name, validate_default=False),
            )
    config = ConfigDict(
        extra="allow" if takes_any else "forbid",
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )
    model: type[BaseModel] = create_model(kind.__name__, __config__=config, **fields)
    return model


def _hints(kind: type) -> dict[str, Any]:
    try:
        return get_type_hints(kind.__init__, include_extras=True)  # type: ignore[misc] # of the class
    except NameError:  # a type that its module imports for type checkers alone
        is_optuna = kind.__module__.startswith("optuna.")
        hints: dict[str, Any] = {}
        for name, parameter in parameters_of(kind).items():
            hints[name] = parameter.annotation
            if isinstance(parameter.annotation, str):
                hints[name] = _type_of_words(parameter.annotation) if is_optuna else Any
        return hints


def _type_of_words(words: str) -> Any:
    """Return the types that the text of an annotation names; `Any` if one is not a plain type."""
    members = [_NAMED.get(word, Any) for word in words.split(" | ")]
    return Any if Any in members else Union[tuple(members)]  # noqa: UP007 - members are data


def _plain(annotation: Any, bounds: tuple[object, ...]) -> Any:
    """Reduce an annotation to types that YAML can express, with bounds on its numbers."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    reduce = partial(_plain, bounds=bounds)
    if annotation in (int, float):
        return Annotated[annotation, *bounds] if bounds else annotation
    if annotation in _NAMED.values() or origin is Literal:
        return annotation
    if origin is Annotated:
        return Annotated[reduce(arguments[0]), *arguments[1:]]
    if origin in (Union, UnionType):
        members = [member for member in map(reduce, arguments) if member is not Any]
        return Union[tuple(members)] if members else Any  # noqa: UP007 - members are data
    return _plain_container(annotation, origin, arguments, reduce)


def _plain_container(
    annotation: Any, origin: Any, arguments: tuple[Any, ...], reduce: Callable[[Any], Any]
) -> Any:
    if origin is tuple:
        items = tuple(item if item is Ellipsis else reduce(item) for item in arguments)
        return Annotated[tuple[items], Strict(False)]  # type: ignore[valid-type] # at run time
    if origin in (list, Sequence, Iterable, Collection) and arguments:
        return list[reduce(arguments[0])]  # type: ignore[misc] # at run time
    if origin in (dict, Mapping):
        return dict[str, Any]
    if annotation is Path:
        return Annotated[Path, Strict(False)]
    return Any
