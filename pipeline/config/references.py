"""References in a tree: resolved once, on a copy, or kept where they name the environment."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException
from omegaconf.resolvers import oc

from pipeline.config.values import Unresolved
from pipeline.redaction import MASK

_ENVIRONMENT = "oc.env"
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def as_tree(config: DictConfig | Mapping[str, Any]) -> DictConfig:
    """Return the config as a tree that knows references."""
    return config if isinstance(config, DictConfig) else OmegaConf.create(dict(config))


def resolved(config: DictConfig | Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a plain copy with every reference resolved, and a line for each that can't be.

    Where one can't be, the copy holds an `Unresolved`; a value left as `???` counts as one.
    """
    problems: list[str] = []
    plain: dict[str, Any] = _plain(as_tree(config), "", problems)
    return plain, problems


def _plain(node: Any, key: str, problems: list[str]) -> Any:
    if isinstance(node, DictConfig):
        return {
            str(name): _value(node, name, f"{key}.{name!s}" if key else str(name), problems)
            for name in node
        }
    if isinstance(node, ListConfig):
        return [_value(node, i, f"{key}[{i}]", problems) for i in range(len(node))]
    return node


def _value(parent: DictConfig | ListConfig, name: Any, key: str, problems: list[str]) -> Any:
    if OmegaConf.is_missing(parent, name):
        problems.append(f"{key} has no value yet (???); give it one: {key}=VALUE.")
        return Unresolved()
    try:
        return _plain(parent[name], key, problems)
    except (OmegaConfBaseException, RecursionError) as error:
        written = OmegaConf.to_container(parent, resolve=False)
        problems.append(f"{key}={written[name]} can't be resolved: {_reason(error)}.")  # type: ignore[index] # of the parent's own kind
        return Unresolved()


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "its references run in a ring"
    text = str(error).splitlines()[0].rstrip(".")
    if isinstance(error, InterpolationKeyError):
        return text.replace("Interpolation key", "there is no key")[: -len(" not found")]
    inner = text.partition(" raised while resolving interpolation: ")[2]
    return inner.strip('"') or text


def references(config: DictConfig | Mapping[str, Any]) -> dict[str, str]:
    """Return the keys whose whole value is a reference to another key, with that key."""
    return dict(_references(OmegaConf.to_container(as_tree(config), resolve=False), ""))


def _references(value: object, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _references(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, str):
        match = _REFERENCE.fullmatch(value)
        if match:
            yield key, match[1]


def without_references(value: Any) -> Any:
    """Return plain values in which each text with a reference in it has become `***`.

    What a run has left holds no reference but to the environment, which nobody but the user's own
    words and files may read: a stranger's model would have its values recorded or sent.
    """
    if isinstance(value, Mapping):
        return {key: without_references(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_references(inner) for inner in value]
    return MASK if isinstance(value, str) and "${" in value else value


@contextmanager
def environment_kept() -> Iterator[None]:
    """Let `${oc.env:NAME}` resolve to itself, so that what is saved never holds its value."""
    OmegaConf.register_new_resolver(_ENVIRONMENT, _reference, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver(_ENVIRONMENT, oc.env, replace=True)


def _reference(name: str, *default: object) -> str:
    words = [name, *("null" if word is None else str(word) for word in default)]
    return f"${{{_ENVIRONMENT}:{','.join(words)}}}"
