"""Size of the references in a config, bounded before they are resolved.

OmegaConf resolves a reference again wherever it stands, so that a few lines, each of which names
the line before twice, would take time and memory without end.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.base.errors import ConfigError

#: Most characters that all references of a config may stand for.
MOST_CHARACTERS = 2**20
#: Longest chain of references; OmegaConf itself reaches Python's limit of recursion earlier.
LONGEST_CHAIN = 200
_OF_ENVIRONMENT = re.compile(r"\$\{oc\.env:[^${}]*\}")
_KEY = re.compile(r"[\w.\[\]-]+")
#: A reference in the key of another one, such as `${tags.${name}}`.
_COMPUTED_KEY = re.compile(r"\$\{[^{}]*\$\{")

Path = tuple[str, ...]


def require_small_references(values: Mapping[Any, Any]) -> None:
    """Raise ConfigError if the references of a config stand for too much.

    `values` has the references as they are written.
    """
    sizes = _Sizes(values)
    total = 0
    for path, text in _texts(values, ()):
        total += sizes.of_references(path, text)
        if total > MOST_CHARACTERS:
            raise ConfigError(
                f"{'.'.join(path)}: references stand for more than {MOST_CHARACTERS} characters; "
                "write the values out."
            )


class _Sizes:
    """Upper bounds of the characters that resolved values have."""

    def __init__(self, values: Mapping[Any, Any]) -> None:
        self._values = values
        self._sizes: dict[Path, int] = {}
        self._open: set[Path] = set()

    def of_references(self, path: Path, text: str) -> int:
        """Return the size of all that a text at a path refers to."""
        remaining_text = _OF_ENVIRONMENT.sub("", text)
        if "${" not in remaining_text:
            return 0
        if path in self._sizes:
            return self._sizes[path]
        if path in self._open:  # a cycle, which is reported where it is resolved
            return 0
        if len(self._open) > LONGEST_CHAIN:
            return MOST_CHARACTERS + 1
        self._open.add(path)
        if _COMPUTED_KEY.search(remaining_text):
            size = remaining_text.count("${") * self._of_all((), self._values)
        else:
            size = sum(self._at(path, key) for key in _KEY.findall(remaining_text))
        self._open.remove(path)
        self._sizes[path] = min(size, MOST_CHARACTERS + 1)
        return self._sizes[path]

    def _at(self, path: Path, key: str) -> int:
        """Return the size of what a key stands for at a path; 0 if it is no key."""
        levels = len(key) - len(key.lstrip("."))
        start = path[: max(len(path) - levels, 0)] if levels else ()
        names = key.replace("[", ".").replace("]", "").split(".")
        return self._below(start + tuple(filter(None, names)))

    def _below(self, target: Path) -> int:
        value: Any = self._values
        for depth, name in enumerate(target):
            if isinstance(value, str):  # a reference on the way
                return self._of_all(target[:depth], value)
            if isinstance(value, Mapping):
                value = next((value[key] for key in value if str(key) == name), None)
            elif isinstance(value, Sequence) and name.isdigit() and int(name) < len(value):
                value = value[int(name)]
            else:
                return 0
        return self._of_all(target, value)

    def _of_all(self, path: Path, value: object) -> int:
        size = len(value) if isinstance(value, str) else 1
        for inner, text in _texts(value, path):
            size += len(text) + self.of_references(inner, text)
            if size > MOST_CHARACTERS:
                break
        return size


def _texts(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield all texts within a value with their paths."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, (*path, str(name)))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, str(index)))
