"""Validation of values, with messages that name key, value, allowed values and nearest name."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipeline.errors import ConfigError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)

_LONGEST = 80
_PLAIN = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


class Unresolved:
    """Stands where a reference could not be resolved, so that only that is reported."""


def shown(value: object) -> str:
    """Return a value as a person would type it, cut where it is long."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    else:
        text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def described(annotation: object) -> str:
    """Say in words what an annotation allows, such as `a number > 0, or null`."""
    parts = list(dict.fromkeys(_alternatives(annotation, ())))
    if "null" in parts:
        parts = [part for part in parts if part != "null"] + ["null"]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"


def _alternatives(annotation: object, bounds: tuple[object, ...]) -> Iterator[str]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _alternatives(arguments[0], (*bounds, *arguments[1:]))
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from _alternatives(argument, bounds)
    elif origin is Literal:
        choices = ", ".join(str(choice) for choice in arguments)
        yield f"one of {choices}" if len(arguments) > 1 else choices
    elif annotation in (None, NoneType):
        yield "null"
    else:
        yield _one(annotation, origin, arguments) + _bounds_in_words(bounds)


def _one(annotation: object, origin: object, arguments: tuple[Any, ...]) -> str:
    if origin is dict:
        return "a mapping {key: value}"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        items = [item for item in arguments if item is not Ellipsis]
        return f"a list [{', '.join(described(item) for item in items)}{', …' * (len(items) == 1)}]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a mapping {key: value}"
    return _PLAIN.get(annotation, "another value")  # type: ignore[call-overload,no-any-return] # any key is looked up


def _bounds_in_words(bounds: Iterable[object]) -> str:
    words = []
    for bound in _flat(bounds):
        words += [
            f"{sign} {getattr(bound, name)}"
            for name, sign in _SIGNS.items()
            if getattr(bound, name, None) is not None
        ]
        if getattr(bound, "examples", None):
            words.append(f"such as {', '.join(bound.examples)}")  # type: ignore[attr-defined] # just looked up
        if getattr(bound, "pattern", None):
            words.append(f"like {bound.pattern}")  # type: ignore[attr-defined] # just looked up
        if getattr(bound, "min_length", None) is not None:
            words.append("(not empty)")
    return f" {' and '.join(words)}" if words else ""


def _flat(bounds: Iterable[object]) -> Iterator[object]:
    for bound in bounds:
        if isinstance(bound, FieldInfo) and not bound.examples:
            yield from bound.metadata
        else:
            yield bound


def choices_of(annotation: object) -> list[str]:
    """Return the words that an annotation's literals allow."""
    if get_origin(annotation) is Literal:
        return [choice for choice in get_args(annotation) if isinstance(choice, str)]
    return [word for part in get_args(annotation) for word in choices_of(part)]


def wrong_value(key: str, value: object, annotation: object) -> str:
    """Return the line for a value that its key does not allow."""
    line = f"{key}={shown(value)} is not allowed; expected {described(annotation)}."
    if isinstance(value, str):
        return line + did_you_mean(value, choices_of(annotation))
    if isinstance(value, int | float) and str in (annotation, *get_args(annotation)):
        return f"{line} A text that looks like a number must be quoted: '{key}=\"{value}\"'."
    return line


def unknown_key(key: str, known: Iterable[str], hint: str = "") -> str:
    """Return the line for a key that does not exist.

    Args:
        key: The key.
        known: All keys there are, or those beside it.
        hint: Why it can't be given here, if it means something elsewhere.
    """
    if hint:
        return f"{key} can't be given here: {hint}."
    names = list(known)
    parent, _, leaf = key.rpartition(".")
    same_leaf = [name for name in names if name.rpartition(".")[2] == leaf]
    siblings = [name for name in names if parent and name.rpartition(".")[0] == parent]
    if same_leaf:
        return f"{key} is unknown. Did you mean '{same_leaf[0]}'?"
    near = did_you_mean(key, siblings, by_leaf=True) or did_you_mean(key, names, by_leaf=True)
    return f"{key} is unknown.{near}"


def validated(model: type[Model], tree: DictConfig, *, prefix: str = "") -> Model:
    """Return options of a kind, read from a composed tree.

    Args:
        model: The kind.
        tree: What they are to hold; a key that is still `???` is missing.
        prefix: Key of the section, with its dot.

    Raises:
        ConfigError: All wrong values, one line each.
    """
    found = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(found, dict)
    values = {str(key): value for key, value in found.items() if value != "???"}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = _problems_in(error, model, values, prefix=prefix, hints={})
        raise ConfigError(*problems) from error


def validate(
    model: type[Model],
    values: Mapping[str, Any],
    *,
    prefix: str = "",
    hints: Mapping[str, str] | None = None,
) -> tuple[Model | None, list[str]]:
    """Return the options that values give, or `None` and a line for each wrong key.

    Args:
        model: The kind of options.
        values: Their values by key.
        prefix: Key of the section, with its dot.
        hints: Reasons why keys that are known elsewhere are refused here.
    """
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        return None, _problems_in(error, model, values, prefix=prefix, hints=hints or {})


def _problems_in(
    error: ValidationError,
    model: type[BaseModel],
    values: Mapping[str, Any],
    *,
    prefix: str,
    hints: Mapping[str, str],
) -> list[str]:
    """Return one line a key; pydantic reports each member of a union by itself."""
    lines: dict[str, str] = {}
    for fault in error.errors(include_url=False, include_context=False):
        path, owner = _owner(model, [str(part) for part in fault["loc"]])
        key = prefix + ".".join(path)
        value = _value_at(values, path)
        known = _fields(owner)
        if isinstance(value, Unresolved) or key in lines:
            continue
        if fault["type"] == "extra_forbidden":
            siblings = [prefix + ".".join([*path[:-1], name]) for name in known]
            lines[key] = unknown_key(key, siblings, hints.get(key, ""))
        elif fault["type"] == "missing":
            lines[key] = f"{key} is missing; expected {described(known[path[-1]])}."
        else:
            lines[key] = wrong_value(key, value, known[path[-1]])
    return list(lines.values())


def _fields(model: type[BaseModel]) -> dict[str, object]:
    fields = {}
    for name, field in model.model_fields.items():
        metadata = tuple(field.metadata)
        annotation: object = field.annotation
        if metadata:
            annotation = Annotated[annotation, *metadata]
        fields[field.alias or name] = annotation
    return fields


def _owner(model: type[BaseModel], loc: list[str]) -> tuple[list[str], type[BaseModel]]:
    inner = _fields(model).get(loc[0])
    if len(loc) > 1 and isinstance(inner, type) and issubclass(inner, BaseModel):
        path, owner = _owner(inner, loc[1:])
        return [loc[0], *path], owner
    return loc[:1], model


def _value_at(values: Mapping[str, Any], path: Sequence[str]) -> object:
    found: Any = values
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
