"""A constructor as the schema of its section: its signature's types and bounds, checked."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, create_model

from pipeline.config.values import problems_in

# torch's and Lightning's signatures have types without bounds; where a number of this name is a
# parameter of theirs, these are the bounds that their documentation gives or their formula needs.
_BOUNDS: Mapping[str, tuple[object, ...]] = {
    "lr": (Gt(0),),
    "max_lr": (Gt(0),),
    "swa_lrs": (Gt(0),),
    "eps": (Gt(0),),
    "weight_decay": (Ge(0),),
    "lr_decay": (Ge(0),),
    "momentum": (Ge(0), Lt(1)),
    "momentum_decay": (Ge(0),),
    "dampening": (Ge(0), Lt(1)),
    "alpha": (Ge(0), Lt(1)),
    "rho": (Ge(0), Le(1)),
    "betas": (Ge(0), Lt(1)),
    "gamma": (Gt(0), Le(1)),
    "factor": (Gt(0), Lt(1)),
    "eta_min": (Ge(0),),
    "min_lr": (Ge(0),),
    "T_max": (Ge(1),),
    "T_0": (Ge(1),),
    "T_mult": (Ge(1),),
    "step_size": (Ge(1),),
    "total_iters": (Ge(1),),
    "patience": (Ge(0),),
    "cooldown": (Ge(0),),
    "pct_start": (Gt(0), Lt(1)),
    "div_factor": (Gt(0),),
    "final_div_factor": (Gt(0),),
    "decay": (Ge(0), Le(1)),
    "swa_epoch_start": (Gt(0),),
    "annealing_epochs": (Ge(1),),
    "update_every_n_steps": (Ge(1),),
}
_BOUNDLESS_PACKAGES = ("torch", "pytorch_lightning")
_MEANT = (int, float, str, bool, NoneType)


def problems_with(
    kind: type, values: Mapping[str, Any], *, prefix: str, without: Collection[str]
) -> list[str]:
    """Return a line for each value that the constructor of `kind` does not allow.

    Args:
        kind: A class.
        values: Its arguments by name.
        prefix: Key of the section, with its dot.
        without: Parameters that are filled later or checked elsewhere.
    """
    model = _schema(kind, without)
    try:
        model.model_validate(values)
    except ValidationError as error:
        return problems_in(error, model, values, prefix=prefix)
    return []


def typed(kind: type, values: Mapping[str, Any], *, without: Collection[str]) -> dict[str, Any]:
    """Return the values as the constructor declares them, such as lists as tuples."""
    checked = _schema(kind, without).model_validate(values)
    return checked.model_dump(by_alias=True, exclude_unset=True)


def parameters_of(kind: type) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class's constructor by name, without `self`."""
    return dict(inspect.signature(kind).parameters)


def _schema(kind: type, without: Collection[str]) -> type[BaseModel]:
    hints = _hints(kind)
    bounded = kind.__module__.split(".")[0] in _BOUNDLESS_PACKAGES
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
        return {
            name: Any if isinstance(parameter.annotation, str) else parameter.annotation
            for name, parameter in parameters_of(kind).items()
        }


def _plain(annotation: Any, bounds: tuple[object, ...]) -> Any:
    """Reduce an annotation to what YAML can say, with bounds on its numbers."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    reduce = partial(_plain, bounds=bounds)
    if annotation in (int, float):
        return Annotated[annotation, *bounds] if bounds else annotation
    if annotation in _MEANT or origin is Literal:
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
