"""Keys of a composed tree: whether it has one, the node of one, and all of them."""

from collections.abc import Iterator
from typing import Any, TypeGuard

from omegaconf import DictConfig, ListConfig

from pipeline.config.overrides import HYDRA


def has_keys(node: object) -> TypeGuard[DictConfig]:
    """Return whether a node is a mapping with keys; one that is null or missing has none."""
    return isinstance(node, DictConfig) and len(node) > 0


def exists(tree: DictConfig, key: str) -> bool:
    """Tell whether a tree has a key, such as `layers[0].units`."""
    return node_at(tree, key) is not None


def node_at(tree: DictConfig, key: str) -> Any:
    """Return the node of a key, even if its value is missing or null; `None` if it has none."""
    node: Any = tree
    for part in key.replace("[", ".").replace("]", "").split("."):
        if isinstance(node, ListConfig):
            if not part.isdigit() or int(part) >= len(node):
                return None
            node = node._get_node(int(part))
        elif isinstance(node, DictConfig) and part in node.keys():  # noqa: SIM118 - `in` is false for ???
            node = node._get_node(part)
        else:
            return None
    return node


def dotted_keys(tree: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield every key of a tree except Hydra's own; a mapping comes before the keys in it."""
    for name in tree:
        if prefix or name != HYDRA:
            yield f"{prefix}{name!s}"
            node = tree._get_node(name)
            if has_keys(node):
                yield from dotted_keys(node, f"{prefix}{name!s}.")
