"""Values of a config: resolving references, and checking values against types and bounds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from pipeline.base.errors import ConfigError, did_you_mean, shown, unknown_key
from pipeline.config.options import DataOptions
from pipeline.config.references import require_small_references

Model = TypeVar("Model", bound=BaseModel)

_PLAIN = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
_BOUND_WORDS = {
    **{"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}"},
    **{"pattern": "like {}", "min_length": "(not empty)", "max_length": "of at most {}"},
}


class Unresolved:
    """Placeholder for a value that can't be resolved, so that only this problem is reported."""


def as_tree(config: DictConfig | Mapping[str, Any]) -> DictConfig:
    """Return the config as an OmegaConf tree, which can resolve references."""
    return config if isinstance(config, DictConfig) else OmegaConf.create(dict(config))


def written(tree: DictConfig, *, resolve: bool = False) -> dict[str, Any]:
    """Return a tree as plain values, with references as they are written or resolved."""
    values = OmegaConf.to_container(tree)
    assert isinstance(values, dict)
    if resolve:
        require_small_references(values)
        values = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def resolved(config: DictConfig | Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a plain copy with references resolved, and a line for each unresolved value.

    A value that can't be resolved, or that is `???`, becomes an `Unresolved`.
    """
    tree = as_tree(config)
    require_small_references(written(tree))
    problems: list[str] = []
    values: dict[str, Any] = _resolved(tree, "", problems)
    return values, problems


def _resolved(node: Any, key: str, problems: list[str]) -> Any:
    if isinstance(node, DictConfig):
        prefix = f"{key}." if key else ""
        values = {}
        for name in node:
            values[str(name)] = _resolved_item(node, name, f"{prefix}{name!s}", problems)
        return values
    if isinstance(node, ListConfig):
        return [_resolved_item(node, i, f"{key}[{i}]", problems) for i in range(len(node))]
    return node


def _resolved_item(
    parent: DictConfig | ListConfig, name: Any, key: str, problems: list[str]
) -> Any:
    if OmegaConf.is_missing(parent, name):
        problems.append(f"{key} is missing; give it a value: {key}=VALUE.")
        return Unresolved()
    try:
        return _resolved(parent[name], key, problems)
    except (OmegaConfBaseException, RecursionError) as error:
        values = OmegaConf.to_container(parent, resolve=False)
        problems.append(f"{key}={values[name]} can't be resolved: {_reason(error)}.")  # type: ignore[index] # of the parent's own kind
        return Unresolved()


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "its references form a cycle"
    text = str(error).splitlines()[0].rstrip(".")
    if isinstance(error, InterpolationKeyError):
        return text.replace("Interpolation key", "there is no key")[: -len(" not found")]
    inner = text.partition(" raised while resolving interpolation: ")[2]
    return inner.strip('"') or text


def described(annotation: object) -> str:
    """Say in words what an annotation allows, such as `a number > 0, or null`."""
    alternatives = list(dict.fromkeys(_alternatives(annotation, ())))
    if "null" in alternatives:
        alternatives.remove("null")
        alternatives.append("null")
    if len(alternatives) == 1:
        return alternatives[0]
    return f"{', '.join(alternatives[:-1])} or {alternatives[-1]}"


def _alternatives(annotation: object, bounds: tuple[object, ...]) -> Iterator[str]:
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Annotated:
        yield from _alternatives(arguments[0], (*bounds, *arguments[1:]))
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from _alternatives(argument, bounds)
    elif origin is Literal:
        choices = ", ".join(map(str, arguments))
        yield f"one of {choices}" if len(arguments) > 1 else choices
    elif annotation in (None, NoneType):
        yield "null"
    else:
        yield _described_type(annotation, origin, arguments) + _bounds_in_words(bounds)


def _described_type(annotation: object, origin: object, arguments: tuple[Any, ...]) -> str:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    if origin is dict or is_model:
        return "a mapping {key: value}"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        items = [described(item) for item in arguments if item is not Ellipsis]
        if len(items) == 1:
            items.append("…")
        return f"a list [{', '.join(items)}]"
    return _PLAIN.get(annotation, "another value")  # type: ignore[call-overload,no-any-return] # any key is looked up


def _bounds_in_words(bounds: Iterable[object]) -> str:
    words = []
    for bound in bounds:
        if isinstance(bound, FieldInfo):
            examples = ", ".join(bound.examples or ())
            inner = _bounds_in_words(bound.metadata).strip()
            words.append(f"such as {examples}" if examples else inner)
        for name, pattern in _BOUND_WORDS.items():
            value = getattr(bound, name, None)
            if value is not None:
                words.append(pattern.format(value))
    return f" {' and '.join(filter(None, words))}" if any(words) else ""


def _literals(annotation: object) -> list[str]:
    if get_origin(annotation) is Literal:
        return [choice for choice in get_args(annotation) if isinstance(choice, str)]
    literals: list[str] = []
    for member in get_args(annotation):
        literals += _literals(member)
    return literals


def wrong_value(key: str, value: object, annotation: object) -> str:
    """Return the line for a value that its key does not allow."""
    line = f"{key}={shown(value)} is not allowed; expected {described(annotation)}."
    if isinstance(value, str):
        return line + did_you_mean(value, _literals(annotation))
    if isinstance(value, int | float) and str in (annotation, *get_args(annotation)):
        return f"{line} Quote strings that look like numbers: '{key}=\"{value}\"'."
    return line


def validated(model: type[Model], tree: DictConfig, *, prefix: str = "") -> Model:
    """Return the options that a composed tree gives; a value `???` counts as missing.

    Raises ConfigError with all wrong values, one line each.
    """
    values = {key: value for key, value in written(tree, resolve=True).items() if value != "???"}
    options, problems = validate(model, values, prefix=prefix)
    if options is None:
        raise ConfigError(*problems)
    return options


def validate(
    model: type[Model],
    values: Mapping[str, Any],
    *,
    prefix: str = "",
    hints: Mapping[str, str] | None = None,
) -> tuple[Model | None, list[str]]:
    """Return the options that values give, or `None` and a line for each wrong key.

    `prefix` is the section's key with its dot. `hints` say why a key that is known elsewhere is
    refused here.
    """
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
    lines: dict[str, str] = {}  # one for each key; pydantic reports every member of a union
    for fault in faults:
        path, owner = _owner(model, [str(part) for part in fault["loc"]])
        key = prefix + ".".join(path)
        fields = _fields(owner)
        value: Any = values
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, Unresolved) or key in lines:
            continue
        if fault["type"] == "extra_forbidden":
            section = prefix + "".join(f"{part}." for part in path[:-1])
            siblings = [section + name for name in fields]
            lines[key] = unknown_key(key, siblings, (hints or {}).get(key, ""))
        elif fault["type"] == "missing":
            field = owner.model_fields.get(path[-1])
            if field is not None and field.description:
                lines[key] = f"{key}={field.description}"
            else:
                lines[key] = f"{key} is missing; expected {described(fields[path[-1]])}."
        else:
            lines[key] = wrong_value(key, value, fields[path[-1]])
    return None, list(lines.values())


def allows(model: type[BaseModel], key: str, value: object) -> bool:
    """Return whether a dotted key of these options may have a value.

    A key of a constructor may have any: its class is not imported.
    """
    name, _, inner = key.partition(".")
    annotation = _fields(model).get(name, Any)
    if name == "data" and inner in DataOptions.model_fields:
        return allows(DataOptions, inner, value)
    if inner and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return allows(annotation, inner, value)
    try:
        TypeAdapter(Any if inner else annotation).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Return the annotations of a model's keys, with their bounds."""
    annotations: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        annotation: Any = field.annotation
        if field.metadata:
            annotation = Annotated[annotation, *field.metadata]
        annotations[field.alias or name] = annotation
    return annotations


def _owner(model: type[BaseModel], loc: list[str]) -> tuple[list[str], type[BaseModel]]:
    """Return the path of a key, without the members of a union, and the model that has the key."""
    inner = _fields(model).get(loc[0])
    if len(loc) > 1 and isinstance(inner, type) and issubclass(inner, BaseModel):
        path, owner = _owner(inner, loc[1:])
        return [loc[0], *path], owner
    return loc[:1], model
