"""A user's own YAML files, looked through before anything composes them."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml  # type: ignore[import-untyped] # PyYAML brings no types
from yaml.events import (  # type: ignore[import-untyped] # as above
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
)
from yaml.nodes import (  # type: ignore[import-untyped] # as above
    MappingNode,
    Node,
    SequenceNode,
)

from pipeline.config.overrides import HYDRA, HYDRA_REFUSED
from pipeline.paths import place_problem

LARGEST = 2**20
"""Bytes."""
DEEPEST = 20
"""Lists and mappings within one another; what reads them takes a hundred frames and more each."""
_IN_HYDRA = re.compile(rf"(?:.*[\s/@.])?{HYDRA}(?:[\s/@.].*)?")
_PACKAGE = re.compile(r"\s*#\s*@package\s(.*)")


def problems_in_folder(folder: Path, groups: Iterable[str]) -> list[str]:
    """Return a line for each problem with the YAML that a run may read from a folder.

    Args:
        folder: What `--config-dir` names.
        groups: Names of its sub-folders that are looked through; anything else is not ours.
    """
    if problem := place_problem("--config-dir", str(folder)):
        return [problem]
    if not folder.is_dir():
        return [f"--config-dir {str(folder)!r} is no folder."]
    for inner in folder.iterdir():
        if inner.name.lower() == HYDRA:  # as the name is found where case does not matter
            return [f"{inner} {HYDRA_REFUSED}; remove it of --config-dir."]
    files: list[Path] = []
    for group in groups:
        files += sorted((folder / group).rglob("*.yaml"))
    return [problem for file in files if file.is_file() for problem in problems_in_file(file)]


def problems_in_file(file: Path) -> Iterator[str]:
    """Yield what is wrong with one file, with the line where it stands."""
    if file.stat().st_size > LARGEST:
        yield f"{file} is larger than 1 MiB; expected a file of configuration."
        return
    try:
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        yield f"{file}:{line} is not UTF-8; save the file as UTF-8."
        return
    try:
        yield from (f"{file}:{problem}" for problem in _problems_in_text(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        yield f"{file}:{mark.line + 1 if mark else 1} is no YAML: {_reason(error, text)}."


def _reason(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark
    lines = text.splitlines()
    if mark is not None and mark.line < len(lines) and "\t" in lines[mark.line]:
        return "a tab; indent with spaces"
    return error.problem or "it can't be read"


def _problems_in_text(text: str) -> Iterator[str]:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEEPEST:
            yield f"{event.start_mark.line + 1} is nested deeper than {DEEPEST} levels; flatten it."
            return
        if isinstance(event, AliasEvent):
            yield f"{event.start_mark.line + 1} has an alias (*{event.anchor}); write it out."
            return
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    yaml.safe_load(text)  # tags and keys that no value can be made of
    if root is None:
        yield "1 is empty; expected keys and values, or {} for none."
    elif not isinstance(root, MappingNode):
        yield f"{root.start_mark.line + 1} is no mapping; expected KEY: VALUE lines."
    else:
        yield from _repeated_keys(root)
        for line, name in (*_packages(text), *_names_in_reach_of_hydra(root)):
            if _IN_HYDRA.fullmatch(name.strip()):
                yield f"{line}: {name.strip()!r} {HYDRA_REFUSED}; remove it."


def _packages(text: str) -> Iterator[tuple[int, str]]:
    """Yield where a file says that its keys belong, with the line."""
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _PACKAGE.match(line):
            yield number, match[1]


def _names_in_reach_of_hydra(root: MappingNode) -> Iterator[tuple[int, str]]:
    """Yield the names of sections and all that stands in a list of defaults, with their lines."""
    for key, value in root.value:
        if key.value != "defaults":
            yield key.start_mark.line + 1, str(key.value)
        elif isinstance(value, SequenceNode):
            yield from _scalars(value)


def _scalars(node: Node) -> Iterator[tuple[int, str]]:
    if isinstance(node, SequenceNode | MappingNode):
        for item in node.value:
            for part in item if isinstance(item, tuple) else (item,):
                yield from _scalars(part)
    else:
        yield node.start_mark.line + 1, str(node.value)


def _repeated_keys(node: Node) -> Iterator[str]:
    if isinstance(node, SequenceNode):
        for item in node.value:
            yield from _repeated_keys(item)
    if not isinstance(node, MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if key.value in seen:
            yield f"{key.start_mark.line + 1} has the key {key.value!r} a second time; keep one."
        seen.add(str(key.value))
        yield from _repeated_keys(value)
