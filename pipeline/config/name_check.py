"""Check of all names of a command line: of groups, of their choices and of keys.

It needs no torch, and reports all wrong names in one error.
"""

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import get_args

from omegaconf import DictConfig
from pydantic import BaseModel

from pipeline.base.errors import ConfigError, did_you_mean, shown, typed_text, unknown_key
from pipeline.base.paths import conf_folder, url_problem
from pipeline.base.redaction import redact_word
from pipeline.config.command_only import problems_of_files, reference_problems
from pipeline.config.composer import Composer
from pipeline.config.options import REFUSED, RunConfig
from pipeline.config.overrides import (
    HYDRA,
    HYDRA_REFUSED,
    ParsedOverride,
    key_of,
    problems_in_folder,
    read,
    text_keys,
)
from pipeline.config.tree import dotted_keys, exists, has_keys
from pipeline.config.values import allows

#: Overrides KEY=VALUE without a mapping as value, except for a study's space, which is a mapping.
_PLAIN = re.compile(r"(?!hydra)[\w./]+=[^{]*|\+\+sweep\.space=\{.*")
#: A file or folder in place of a data set, and what reads it by its ending; all others are tables.
_PATH = re.compile(r"[\w-]*[./][\w./-]*")
_KIND_OF_FILE = {"": "images", ".npy": "arrays", ".npz": "arrays", ".ts": "ucr"}
_SUGGESTION = re.compile(r"Did you mean '(.+)'\?$")
#: A group among the defaults of a root file.
_DEFAULT = re.compile(r"^  - (\w+):", re.MULTILINE)
#: Where a key of the user's own may be added with `+`.
FREE_FORM = ("tags", "callbacks")
#: Where a constructor decides which keys may be added with `+`.
WITH_CONSTRUCTOR = ("model", "data", "optimizer", "scheduler")
#: Checks names that only one command has: takes the correct overrides, returns the problems.
MoreNames = Callable[[Composer, Sequence[str]], Iterable[str]]


def check_names(
    lines: Sequence[str],
    *,
    config_name: str,
    config_dir: Path | None = None,
    multirun: bool = False,
    options: type[BaseModel] = RunConfig,
    more_names: MoreNames | None = None,
) -> tuple[list[str], DictConfig | None]:
    """Return the overrides as Hydra gets them and the composed tree, after a check of all names.

    The tree is `None` unless the check has composed it. With `multirun`, commas separate the values
    of several runs. `more_names` checks names that only this command has.

    Raises:
        ConfigError: Some names are wrong; the error has a line for each.
    """
    if config_dir is not None and Path(os.path.realpath(config_dir)) != conf_folder():
        named = {key_of(line).partition("@")[0] for line in lines}
        groups = sorted(_groups_in(conf_folder()) - {HYDRA} | _groups_in(config_dir) & named)
        problems = problems_in_folder(config_dir, groups)
        if problems:
            raise ConfigError(*problems)
    source = Composer(config_name, config_dir)
    overrides, problems = read(
        lines,
        texts=set(text_keys(options)),
        multirun=multirun,
        choices=_choices(options, config_name),
    )
    correct = overrides
    tree = None
    if not (problems or multirun or config_dir):
        tree = _plain_tree(overrides, source, options)
    if tree is None:
        name_problems, correct = _name_problems(overrides, source, options, config_dir)
        problems += name_problems
    if more_names is not None:
        correct_keys = [parsed.key for parsed in correct]
        has_wrong_space = "sweeps" in map(key_of, lines) and "sweeps" not in correct_keys
        # What is wrong with a space can't be told without its file.
        if not has_wrong_space:
            problems += more_names(source, [parsed.line for parsed in correct])
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    first_lines = [_single_lines(parsed)[0] for parsed in overrides]
    return [*source.cleared(first_lines), *(parsed.line for parsed in overrides)], tree


def suggestion(override: str, check: Callable[[Sequence[str]], object]) -> str | None:
    """Return an override if its names are correct, else what is suggested in its place, if any.

    `check` is `check_names` for a command.
    """
    try:
        check([override])
    except ConfigError as error:
        match = _SUGGESTION.search(error.problems[0])
        if match is None:
            return None
        key, sign, _value = override.partition("=")
        return match[1] if "=" in match[1] else f"{key}{sign}{match[1]}"
    return override


def _choices(options: type[BaseModel], config_name: str) -> dict[str, str]:
    """Return the group, or the key, of each word that is one of a few allowed values."""
    choices: dict[str, str] = {}
    if issubclass(options, RunConfig):
        roots = [conf_folder() / f"{root}.yaml" for root in ("train", config_name)]
        for root in roots:
            for group in _DEFAULT.findall(root.read_text("utf-8")):
                for file in sorted((conf_folder() / group).glob("*.yaml")):
                    choices[file.stem] = group
        return choices
    for key, field in options.model_fields.items():
        for word in get_args(field.annotation):
            choices[str(word)] = key
    return choices


def _plain_tree(
    overrides: Sequence[ParsedOverride], source: Composer, options: type[BaseModel]
) -> DictConfig | None:
    """Return the tree of overrides for which Hydra's own check is enough; else `None`.

    All other overrides are composed twice, which takes most of the time of a command that trains
    nothing.
    """
    groups = source.groups()
    for parsed in overrides:
        if not _PLAIN.fullmatch(parsed.line) or parsed.key == "trust":
            return None
        is_group = _is_group(parsed, groups)
        if is_group and _choice_problems(parsed, source, groups):
            return None
    with suppress(ConfigError):
        tree = source.tree([parsed.line for parsed in overrides])
        if not any(_unknown_in_files(tree, options)):
            return tree
    return None


def _is_group(parsed: ParsedOverride, groups: Sequence[str]) -> bool:
    """Return whether an override sets a group, rather than a value."""
    return parsed.override.key_or_group in groups or "/" in parsed.key


def _groups_in(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if path.is_dir()}


def _name_problems(
    overrides: Sequence[ParsedOverride],
    source: Composer,
    options: type[BaseModel],
    config_dir: Path | None,
) -> tuple[list[str], list[ParsedOverride]]:
    """Return a line for each problem, and the overrides without one."""
    groups = source.groups()
    problems: list[str] = []
    wrong_overrides: list[ParsedOverride] = []
    choices: list[ParsedOverride] = []
    values: list[ParsedOverride] = []
    for parsed in overrides:
        if not _is_group(parsed, groups):
            values.append(parsed)
            continue
        choice_problems = _choice_problems(parsed, source, groups)
        problems += choice_problems
        if choice_problems:
            wrong_overrides.append(parsed)
        else:
            choices.append(parsed)
    # Which keys a group has can't be told while its choice is unknown.
    open_groups = {parsed.override.key_or_group for parsed in wrong_overrides}
    wrong_overrides += [value for value in values if value.key.partition(".")[0] in open_groups]
    values = [value for value in values if value not in wrong_overrides]
    # A multirun composes a tree for each combination of choices.
    for lines in product(*map(_single_lines, choices)):
        try:
            tree = source.tree(lines)
        except ConfigError as error:
            problems += error.problems
            continue
        problems += _unknown_in_files(tree, options)
        value_overrides = [value.override for value in values]
        if config_dir is None:
            problems += reference_problems(value_overrides, "trust")
        else:
            problems += problems_of_files(
                tree,
                value_overrides,
                config_name=source.config_name,
                options=options,
                folder=config_dir,
            )
            where = f"in a file of --config-dir {str(config_dir)!r}"
            for key in source.changed_hydra(tree, lines):
                problems.append(f"hydra.{key} {where} {HYDRA_REFUSED}; remove it.")
        for value in values:
            key_problem = _key_problem(value, tree, source, options)
            if key_problem is not None:
                problems.append(key_problem)
                wrong_overrides.append(value)
    return problems, [parsed for parsed in overrides if parsed not in wrong_overrides]


def _single_lines(parsed: ParsedOverride) -> list[str]:
    """Return an override as one line for each of the values that it sweeps over."""
    if not parsed.override.is_sweep_override():
        return [parsed.line]
    return [f"{parsed.key}={value}" for value in parsed.override.sweep_string_iterator()]


def _choice_problems(parsed: ParsedOverride, source: Composer, groups: Sequence[str]) -> list[str]:
    group = parsed.override.key_or_group
    if group.partition("/")[0] not in groups:
        return [unknown_key(group, groups)]
    if parsed.override.is_delete():
        return []
    if parsed.override.is_sweep_override():
        values: list[object] = list(parsed.override.sweep_string_iterator())
    else:
        value = parsed.override.value()
        if value is None:
            return []
        values = value if isinstance(value, list) else [value]
    problems = [_choice_problem(group, value, source) for value in values]
    return [problem for problem in problems if problem is not None]


def _choice_problem(group: str, value: object, source: Composer) -> str | None:
    """Return why a value is not a choice of a group, or `None`."""
    parent, _, name = str(value).rpartition("/")
    choices: list[str] = []
    if parent and ".." not in parent:
        choices = source.choices(f"{group}/{parent}")
    is_choice = name in choices
    if not choices:
        choices = source.choices(group)
        is_choice = not parent and name in choices
    if is_choice and isinstance(value, str):
        return None
    word = value if isinstance(value, str) else shown(value)
    hint = did_you_mean(str(value), choices)
    if group == "data":
        url_problem_of_data = _url_as_data(group, word)
        if url_problem_of_data is not None:
            return url_problem_of_data
        if not hint and _PATH.fullmatch(str(value)):
            hint = _own_file_hint(str(value))
    return f"{group}={word} is unknown; expected one of {', '.join(choices)}.{hint}"


def _own_file_hint(path: str) -> str:
    """Return how a file of the user's own is set as data; its ending tells the kind."""
    return f" For your own file: data={_kind_of_file(path)} {typed_text('data.path', path)}"


def _url_as_data(key: str, path: str) -> str | None:
    """Return why an address can't be data, and how its file is set once it is here, or `None`."""
    return url_problem(key, path, words=f"data={_kind_of_file(path)} data.path=")


def _kind_of_file(path: str) -> str:
    return _KIND_OF_FILE.get(Path(path).suffix.lower(), "table")


def _unknown_in_files(
    tree: DictConfig, options: type[BaseModel], prefix: str = ""
) -> Iterator[str]:
    known = [prefix + name for name in options.model_fields]
    for key_of_tree, node in tree.items_ex(resolve=False):
        name = str(key_of_tree)
        key = prefix + name
        if key == HYDRA:
            continue
        if key not in known:
            yield unknown_key(key, known, REFUSED.get(key, ""))
            continue
        inner = options.model_fields[name].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and has_keys(node):
            yield from _unknown_in_files(node, inner, f"{key}.")


def _key_problem(
    parsed: ParsedOverride, tree: DictConfig, source: Composer, options: type[BaseModel]
) -> str | None:
    """Return why an override of a value does not fit the keys of a tree, or `None`."""
    override = parsed.override
    key = override.key_or_group
    group = key.partition(".")[0]
    if exists(tree, key):
        if override.is_add():
            return f"{parsed.typed}: {key} already exists; remove the +."
        return None
    if override.is_add() or override.is_force_add():
        if group in (*FREE_FORM, *WITH_CONSTRUCTOR):
            return None
    elif group in FREE_FORM and "." in key:
        return f"{key} does not exist; add it with +{parsed.typed}"
    return _unknown(parsed, tree, source, options)


def _unknown(
    parsed: ParsedOverride, tree: DictConfig, source: Composer, options: type[BaseModel]
) -> str:
    """Return the line for an override whose key the tree does not have."""
    key = parsed.override.key_or_group
    names = dict.fromkeys([*dotted_keys(tree), *source.groups()])
    keys = _names_for_value(parsed, names, source, options)
    place = ""
    hint = ""
    key_and_choices = _key_of_other_choices(key, keys, tree)
    if key_and_choices is not None:
        full_key, choices = key_and_choices
        subject = "it" if full_key == key else full_key
        place = f"; {subject} belongs to {choices}"
        keys = [name for name in keys if name in (f"{full_key}s", full_key.removesuffix("s"))]
        if not keys and full_key != key:
            keys = [full_key]
        path = parsed.override.value()
        # A path does not say how its file is read.
        if full_key == "data.path" and isinstance(path, str):
            if problem := _url_as_data(key, path):
                return problem
            keys = []
            hint = _own_file_hint(path)
    _, sign, value = redact_word(parsed.typed).partition("=")
    return unknown_key(key, keys, REFUSED.get(key, ""), value=sign + value, place=place) + hint


def _names_for_value(
    parsed: ParsedOverride, names: Iterable[str], source: Composer, options: type[BaseModel]
) -> list[str]:
    """Return those of the names, which are keys and groups, that may have an override's value."""
    override = parsed.override
    if override.is_delete() or override.is_sweep_override() or "${" in parsed.line:
        return list(names)
    value = override.value()
    words = value if isinstance(value, list) else [value]
    groups = source.groups()
    texts = set(text_keys(options))
    allowed = []
    for name in names:
        if name in groups:
            choices = source.choices(name)
            fits = all(word in choices for word in words)
        else:
            fits = name in texts or allows(options, name, value)
        if fits:
            allowed.append(name)
    return allowed


def _key_of_other_choices(
    key: str, keys: Collection[str], tree: DictConfig
) -> tuple[str, str] | None:
    """Return a key with its group, and the choices of the group that have it; `None` = none has it.

    A `key` without a group is sought in all groups, unless one of the known `keys` ends in it.
    """
    if any(name.endswith(f".{key}") for name in keys):
        return None
    full_keys = [key] if "." in key else [f"{group}.{key}" for group in WITH_CONSTRUCTOR]
    for full_key in full_keys:
        group, _, name = full_key.partition(".")
        if group not in tree:
            continue  # this command has no such group
        definition = re.compile(rf"^{re.escape(name)}:", re.MULTILINE)
        choices = []
        for file in sorted((conf_folder() / group).glob("*.yaml")):
            if definition.search(file.read_text(encoding="utf-8")):
                choices.append(file.stem)
        if choices:
            return full_key, f"{group}={', '.join(choices)}"
    return None
