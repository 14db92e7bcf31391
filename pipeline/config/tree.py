"""Keys of a composed tree: whether it has one, the node of one, and all of them."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

from omegaconf import DictConfig, ListConfig, OmegaConf

from pipeline.config.overrides import HYDRA


def has_keys(node: object) -> TypeGuard[DictConfig]:
    """Return whether a node is a mapping with keys; one that is null or missing has none."""
    return isinstance(node, DictConfig) and len(node) > 0


def exists(tree: DictConfig, key: str) -> bool:
    """Tell whether a tree has a key, such as `layers[0].units`, be its value missing or null."""
    *parents, name = _parts(key)
    return name in _children(_descendant(tree, parents))


def node_at(tree: DictConfig, key: str) -> Any:
    """Return the node or the unresolved value of a key; `None` if it is null or does not exist."""
    return _descendant(tree, _parts(key))


def dotted_keys(tree: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield every key of a tree except Hydra's own; a mapping comes before the keys in it."""
    for name, node in tree.items_ex(resolve=False):
        if prefix or name != HYDRA:
            yield f"{prefix}{name!s}"
            if has_keys(node):
                yield from dotted_keys(node, f"{prefix}{name!s}.")


def _parts(key: str) -> list[str]:
    return key.replace("[", ".").replace("]", "").split(".")


def _descendant(node: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        node = _children(node).get(part)
    return node


def _children(node: Any) -> dict[Any, Any]:
    """Return what a mapping or a list contains, without resolving it."""
    if has_keys(node):
        return dict(node.items_ex(resolve=False))
    if isinstance(node, ListConfig):
        node = OmegaConf.to_container(node)
    if isinstance(node, list):
        return {str(index): item for index, item in enumerate(node)}
    return node if isinstance(node, dict) else {}
