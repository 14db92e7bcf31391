"""Options that no file may set, since they decide where something is written, sent or fetched."""

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig
from pydantic import BaseModel

from pipeline.base.errors import shown
from pipeline.base.paths import conf_folder
from pipeline.base.redaction import redact, redact_word
from pipeline.config.options import CommandLineOnly
from pipeline.config.overrides import LARGEST_FILE, shipped_values
from pipeline.config.values import written

_TRUST_IN_FILE = "trust is set in a file; it is read from the command line only: 'trust=[PACKAGE]'."
_OF_ENVIRONMENT = re.compile(r"\$\{oc\.env:[^${}]*\}")


def command_only(options: type[BaseModel], prefix: str = "") -> dict[str, CommandLineOnly]:
    """Return the dotted keys of all options that no file may set."""
    keys: dict[str, CommandLineOnly] = {}
    for name, field in options.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys |= command_only(inner, f"{prefix}{name}.")
        for mark in field.metadata:
            if isinstance(mark, CommandLineOnly):
                keys[prefix + name] = mark
    return keys


def problems_of_files(
    tree: DictConfig,
    overrides: Iterable[Override],
    *,
    config_name: str,
    options: type[BaseModel],
    folder: Path,
) -> Iterator[str]:
    """Yield a line for each option that a file sets, although only a command line may.

    Args:
        tree: What files and choices of groups compose to.
        overrides: The command line; what it sets itself is not a file's.
        config_name: Name of the shipped root file without `.yaml`.
        options: Model of the keys of the tree.
        folder: The user's own folder of configuration.
    """
    usual = shipped_values(conf_folder() / f"{config_name}.yaml")
    values = written(tree)
    words = list(overrides)
    for key, mark in command_only(options).items():
        section = key.rpartition(".")[0]
        if section and isinstance(_value_at(values, section), str):
            yield f"{section} refers to another key in {folder}; write its keys out."
            continue
        typed = [word for word in words if _sets(word, key)]
        yield from reference_problems(typed, key)
        value = _value_at(values, key)
        if typed or value == _value_at(usual, key) or _is_confirmed(value, mark):
            continue
        yield _refusal(key, value, mark, folder)


def reference_problems(overrides: Iterable[Override], key: str) -> Iterator[str]:
    """Yield a line if a typed value of a key that only a command line may set has a reference."""
    lines = [str(word.input_line) for word in overrides if _sets(word, key)]
    if any("${" in _OF_ENVIRONMENT.sub("", line) for line in lines):
        yield (
            f"{key} refers to another key, which a file may set; write the value out, or take "
            f"it from the environment: '{key}=${{oc.env:NAME}}'."
        )


def _value_at(values: Any, key: str) -> Any:
    """Return what plain values have at a key, or the reference that stands on the way to it."""
    for part in filter(None, key.split(".")):
        if isinstance(values, str):
            return values
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _sets(word: Override, key: str) -> bool:
    """Return whether an override gives a value to a key, by itself or in a mapping."""
    if word.is_delete() or word.package is not None:
        return False
    if word.key_or_group == key:
        return True
    if not key.startswith(f"{word.key_or_group}."):
        return False
    inner_key = key.removeprefix(f"{word.key_or_group}.")
    section, _, name = inner_key.rpartition(".")
    mapping = _value_at(word.value(), section)
    return isinstance(mapping, Mapping) and name in mapping


def _is_confirmed(value: object, mark: CommandLineOnly) -> bool:
    """Return whether the environment has the value of a file, too."""
    if mark.variable is None:
        return False
    if value == f"${{oc.env:{mark.variable}}}":
        return True
    return "${" not in str(value) and value == os.environ.get(mark.variable)


def _refusal(key: str, value: object, mark: CommandLineOnly, folder: Path) -> str:
    if key == "trust":
        return _TRUST_IN_FILE
    text = str(value).lower() if isinstance(value, bool) else str(value)
    word = f"{key}={text}"
    if redact_word(word) != word or "${" in _OF_ENVIRONMENT.sub("", text):
        word = f"{key}=…"
    place = _file_with(folder, key.rpartition(".")[2], text) or folder
    variable = f", or set {mark.variable} to it" if mark.variable else ""
    value = redact(value) if isinstance(value, str) else value
    return (
        f"{key}={shown(value)} is set in {place}; it counts only if you confirm it: type "
        f"{shlex.quote(word)}{variable}, or remove it from the file."
    )


def _file_with(folder: Path, name: str, value: str) -> Path | None:
    """Return the file of a folder that seems to give a key its value; `None` if none does."""
    for file in sorted(folder.rglob("*.yaml")):
        if not file.is_file() or file.stat().st_size > LARGEST_FILE:
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if f"{name}:" in text and value in text:
            return file
    return None
