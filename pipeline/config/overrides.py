"""Overrides of a command line and YAML files of a user, checked before Hydra reads them."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml  # type: ignore[import-untyped] # PyYAML brings no types
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from pydantic import BaseModel
from yaml.events import (  # type: ignore[import-untyped] # as above
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
)
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode  # type: ignore[import-untyped] # as above
from yaml.reader import ReaderError  # type: ignore[import-untyped] # as above

from pipeline.base.errors import ConfigError, nearest
from pipeline.base.paths import is_url, output_problem, place_problem
from pipeline.base.redaction import has_password

_KEY_VALUE = re.compile(r"(?P<key>\+{0,2}[^=~+][^=]*)=(?P<value>.*)", re.DOTALL)
_FOREIGN_WORD = re.compile(r"""[^,\[\]{}:'"]*[^\x00-\x7f][^,\[\]{}:'"]*""")
_FUNCTION = re.compile(r"[a-z_]+\(.*\)", re.DOTALL)
_SQLITE = "sqlite:///"
#: The beginning of a reference that is none, since an odd number of backslashes stands before it.
_ESCAPED = re.compile(r"(?<!\\)(\\(?:\\\\)*)\$\{")
#: Keys of any command that name a file, a folder or a run.
_PLACES = (
    *("output", "resume", "model_from", "run", "runs", "input", "study", "storage"),
    *("data.path", "tracking.uri", "sweep.storage"),
)
HYDRA = "hydra"
HYDRA_REFUSED = "is a Hydra setting, which can run code"
#: Size of the largest YAML file in bytes.
LARGEST_FILE = 2**20
#: Bytes of all files that Hydra may load for one config. A place in a defaults list is three loads.
MOST_LOADED = 16 * LARGEST_FILE
#: Bytes that each load counts at least.
LEAST_LOADED = 2**14
#: Deepest nesting of lists and mappings; each level takes the YAML reader over 100 stack frames.
DEEPEST_NESTING = 20
#: Longest integer in bits; Python refuses to print one of more than 4,300 digits.
LONGEST_INTEGER = 1024
_IN_HYDRA = re.compile(rf"(?:.*[\s/@.])?{HYDRA}(?:[\s/@.].*)?")
_PACKAGE = re.compile(r"\s*#\s*@package\s(.*)")


@dataclass(frozen=True, slots=True)
class ParsedOverride:
    """One override, as it was typed and as Hydra parses it."""

    typed: str
    override: Override

    @property
    def key(self) -> str:
        """The key or group, with its package if one is named."""
        name: str = self.override.key_or_group
        return f"{name}@{self.override.package}" if self.override.package else name

    @property
    def line(self) -> str:
        """The text that Hydra gets."""
        return str(self.override.input_line)


def key_of(word: str) -> str:
    """Return the key of an override as it was typed, without its sign."""
    return word.partition("=")[0].lstrip("+~")


def last_of_each_key(words: Sequence[str]) -> list[str]:
    """Return the overrides without those whose key a later one gives again.

    So a setting that a message suggests can be appended to the command line.
    """
    keys = [key_of(word) for word in words]
    return [word for index, word in enumerate(words) if keys[index] not in keys[index + 1 :]]


def raw_value(words: Sequence[str], key: str) -> str | None:
    """Return the text that a command line gives a key, without quotes; `None` if it gives none.

    Hydra itself would read some texts as numbers, such as the run id `12e45678`.
    """
    values = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    if not values:
        return None
    value = values[-1]
    is_quoted = len(value) > 1 and value[0] == value[-1] in "'\""
    return _unquoted(value) if is_quoted else value


def _unquoted(text: str) -> str:
    """Return what a text in quotes stands for, without resolving references in it."""
    try:
        inner = str(OverridesParser.create().parse_override(f"key={text}").value())
    except HydraException:
        return text[1:-1]
    return _ESCAPED.sub(lambda match: match[1][: len(match[1]) // 2] + "${", inner)


def place_problems(words: Sequence[str]) -> Iterator[str]:
    """Yield a line for each path on a command line that can't name a file or a folder."""
    for key in _PLACES:
        place = raw_value(words, key) or ""
        if place.startswith("["):  # a list, such as runs=[A,B]
            continue
        problem = output_problem(place) if key == "output" else None
        if problem is None and not (is_url(place) and not place.startswith(_SQLITE)):
            problem = place_problem(key, place.removeprefix(_SQLITE))
        if problem:
            yield problem


def text_keys(options: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of all options that hold a text and nothing else."""
    for name, field in options.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from text_keys(annotation, f"{prefix}{name}.")
        elif _is_text(annotation):
            yield prefix + name


def _is_text(annotation: object) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_text(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not NoneType]
        return all(map(_is_text, parts))
    return annotation is str


def read(
    lines: Sequence[str],
    *,
    texts: Collection[str],
    multirun: bool,
    choices: Mapping[str, str] = {},
) -> tuple[list[ParsedOverride], list[str]]:
    """Return the overrides that Hydra can parse, and a line for each problem with the others.

    The last override of each key counts. `texts` are the keys whose value is always a text. With
    `multirun`, commas separate the values of several runs. `choices` has the key or group of each
    value that a single word may mean.
    """
    parser = OverridesParser.create()
    overrides: list[ParsedOverride] = []
    problems: list[str] = []
    for line in lines:
        override: Override | None = None
        for attempt in _attempts(line, texts=texts, multirun=multirun):
            with suppress(HydraException):
                override = parser.parse_override(attempt)
                break
        problem = _problem(line, override, multirun=multirun, choices=choices)
        if problem or override is None:
            problems.append(problem)
        else:
            overrides.append(ParsedOverride(line, override))
    last = {parsed.key: parsed for parsed in overrides}
    return [parsed for parsed in overrides if last[parsed.key] is parsed], problems


def _problem(
    line: str, override: Override | None, *, multirun: bool, choices: Mapping[str, str]
) -> str:
    """Return the problem of an override, or ''; `override` is `None` if it can't be parsed."""
    key, _, value = line.partition("=")
    if has_password(line):
        variable = "PGPASSWORD" if "=postgresql" in line else "MLFLOW_TRACKING_URI"
        return (
            f"{key} holds a URL with a password, which every user of this machine could read; put "
            f"it into an environment variable, such as {variable}, instead."
        )
    if override is None and not _KEY_VALUE.fullmatch(line):
        choice = nearest(line, choices)
        hint = "; see --help."
        if choice is not None:
            hint = f". Did you mean '{choices[choice]}={choice}'?"
        return f"{line!r} is not KEY=VALUE{hint}"
    if override is None:
        escaped = value.replace('"', '\\"')
        return (
            f"{line!r} can't be parsed; close each bracket and quote, or quote the whole as a "
            f"string: '{key}=\"{escaped}\"'."
        )
    root = re.split("[./]", override.key_or_group)[0]
    package = (override.package or "").split(".")
    if HYDRA in (root, *package):
        return f"{override.get_key_element()} {HYDRA_REFUSED}; remove it."
    if override.is_sweep_override() and not multirun:
        return (
            f"{line!r} has several values; expected one, a list '{key}=[{value}]', a quoted "
            f"string '{key}=\"{value}\"', or -m for one run each."
        )
    return ""


def _attempts(line: str, *, texts: Collection[str], multirun: bool) -> Iterator[str]:
    """Yield the texts that Hydra is to parse, in order, until it accepts one."""
    match = _KEY_VALUE.fullmatch(line)
    if match is None:
        yield line
        return
    key = match["key"]
    value = match["value"]
    is_sweep = multirun and ("," in value or _FUNCTION.fullmatch(value) is not None)
    is_text = key.lstrip("+") in texts
    is_bare = value not in ("", "null") and value[0] not in "'\"" and "${" not in value
    if is_text and not is_sweep and is_bare:
        yield f"{key}={quoted(value)}"
    yield line
    if not value.isascii() and (is_sweep or value.startswith(("[", "{"))):
        yield f"{key}={_FOREIGN_WORD.sub(lambda word: quoted(word[0]), value)}"
    elif not value.isascii() or key.endswith("path"):
        yield f"{key}={quoted(value)}"


def quoted(text: str) -> str:
    """Return a text in the quotes with which Hydra reads it unchanged."""
    line: str = QuotedString(text.strip(), Quote.single).with_quotes()
    return line


def plainest(line: str) -> str:
    """Return an override for a shell, without quotes if possible, else with double quotes."""
    key, _, value = line.partition("=")
    inner = value[1:-1]
    if value != f"'{inner}'" or any(sign in inner for sign in "'\"\\$"):
        return line
    bare = f"{key}={inner}"
    parser = OverridesParser.create()
    with suppress(HydraException):
        if parser.parse_override(bare).value() == inner:
            return bare
    return f'{key}="{inner}"'


def shipped_values(file: Path | None) -> dict[str, Any]:
    """Return the values of a shipped file, with those of the files beside it that it extends."""
    if file is None:
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    values: dict[str, Any] = yaml.load(file.read_bytes(), loader)
    for base in values.get("defaults", ()):
        if isinstance(base, str) and base != "_self_":
            values = {**shipped_values(file.with_stem(base)), **values}
    return values


def problems_in_folder(folder: Path, groups: Iterable[str]) -> list[str]:
    """Return the problems of the YAML files in those sub-folders that `groups` names."""
    if problem := place_problem("--config-dir", str(folder)):
        return [problem]
    if not folder.is_dir():
        return [f"--config-dir {str(folder)!r} is not a folder."]
    for inner in folder.iterdir():
        if inner.name.lower() == HYDRA:  # some file systems ignore case
            return [f"{inner} {HYDRA_REFUSED}; remove it from --config-dir."]
    problems: list[str] = []
    for group in groups:
        for file in sorted((folder / group).rglob("*.yaml")):
            if file.is_file():
                problems += problems_in_file(file)
    return problems


@dataclass
class CheckedConfig(ConfigResult):
    """Content of a file of the user's own folder, with the size of the file in bytes."""

    size: int = 0


class CheckedFiles(FileConfigSource):
    """Files of the user's own folder, each of which Hydra reads only if it has no problem.

    A defaults list may name files in any folder, which `problems_in_folder` does not look at.
    """

    @staticmethod
    def scheme() -> str:
        """Return what stands before `://` in the address of a folder."""
        return "checked"

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a file; raise ConfigError with all of its problems."""
        name = config_path if config_path.endswith(".yaml") else f"{config_path}.yaml"
        file = Path(self.path, name)
        problems = list(problems_in_file(file))
        if problems:
            raise ConfigError(*problems)
        return CheckedConfig(**vars(super().load_config(config_path)), size=file.stat().st_size)


class BoundedLoader(ConfigLoaderImpl):
    """Loader of Hydra that bounds what defaults lists stand for.

    Hydra loads a file again wherever it is listed, so that a few files, each of which lists the
    next one twice, would take time and memory without end.
    """

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        parsed = OverridesParser.create().parse_overrides(overrides)
        files = _BoundedFiles(self.repository)
        self._process_config_searchpath(config_name, parsed, files)
        return parsed, files


class _BoundedFiles(CachingConfigRepository):
    """Files of one config; raises RecursionError if more are loaded than `MOST_LOADED` bytes."""

    _loaded = 0

    def load_config(self, config_path: str) -> ConfigResult | None:
        config = super().load_config(config_path)
        size = config.size if isinstance(config, CheckedConfig) else 0
        self._loaded += max(LEAST_LOADED, size)
        if self._loaded > MOST_LOADED:
            raise RecursionError(config_path)
        return config


def problems_in_file(file: Path) -> Iterator[str]:
    """Yield the problems of one YAML file, each with its line number."""
    if file.stat().st_size > LARGEST_FILE:
        yield f"{file} is larger than 1 MiB; expected a configuration file."
        return
    try:
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        yield f"{file}:{line} is not UTF-8; save the file as UTF-8."
        return
    try:
        for problem in _problems_in_text(text):
            yield f"{file}:{problem}"
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        yield f"{file}:{line} is not valid YAML: {error.reason}."
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        yield f"{file}:{line} is not valid YAML: {_reason(error, text)}."


def _reason(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark
    lines = text.splitlines()
    if mark is not None and mark.line < len(lines) and "\t" in lines[mark.line]:
        return "a tab; indent with spaces"
    return error.problem or "it can't be read"


def _structure_problem(text: str) -> str | None:
    """Return why a text with YAML can't be loaded safely, with its line number, or `None`."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST_NESTING:
            line = event.start_mark.line + 1
            return f"{line} is nested deeper than {DEEPEST_NESTING} levels; flatten it."
        if isinstance(event, AliasEvent):
            return f"{event.start_mark.line + 1} has an alias (*{event.anchor}); write it out."
    return None


def _problems_in_text(text: str) -> Iterator[str]:
    structure_problem = _structure_problem(text)
    if structure_problem is not None:
        yield structure_problem
        return
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    lines = [node.start_mark.line + 1 for node in _nodes(root) if not _has_value(node)]
    if lines:
        yield f"{lines[0]} has a number or date that can't be read; correct it, or quote a string."
        return
    yaml.safe_load(text)  # raises for tags and keys that have no value
    if root is None:
        yield "1 is empty; expected keys and values, or {} for none."
    elif not isinstance(root, MappingNode):
        yield f"{root.start_mark.line + 1} is not a mapping; expected KEY: VALUE lines."
    else:
        for key in sorted(_repeated_keys(root), key=lambda key: key.start_mark.index):
            line = key.start_mark.line + 1
            yield f"{line}: duplicate key {key.value!r}; keep one."
        names = [*_packages(text), *_names_in_reach_of_hydra(root)]
        for line, name in names:
            if _IN_HYDRA.fullmatch(name.strip()):
                yield f"{line}: {name.strip()!r} {HYDRA_REFUSED}; remove it."


def _packages(text: str) -> Iterator[tuple[int, str]]:
    """Yield each package that a comment of a file sets, with the number of its line."""
    for number, line in enumerate(text.splitlines(), start=1):
        match = _PACKAGE.match(line)
        if match:
            yield number, match[1]


def _names_in_reach_of_hydra(root: MappingNode) -> Iterator[tuple[int, str]]:
    """Yield the names of sections and all entries of a defaults list, with their lines."""
    for key, value in root.value:
        if key.value != "defaults":
            yield key.start_mark.line + 1, str(key.value)
        elif isinstance(value, SequenceNode):
            for node in _nodes(value):
                if not isinstance(node, CollectionNode):
                    yield node.start_mark.line + 1, str(node.value)


def _nodes(node: Node) -> Iterator[Node]:
    """Yield a node and all nodes in it, keys and values alike, in order."""
    yield node
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _nodes(key)
            yield from _nodes(value)
    elif isinstance(node, SequenceNode):
        for item in node.value:
            yield from _nodes(item)


def _has_value(node: Node | None) -> bool:
    """Return whether the text of a number, a date or the like stands for a value of usual size."""
    if not isinstance(node, ScalarNode):
        return True
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except yaml.MarkedYAMLError:  # it has a line itself
        return True
    except (ValueError, ArithmeticError, LookupError, AttributeError):
        return False
    return not isinstance(value, int) or value.bit_length() <= LONGEST_INTEGER


def _repeated_keys(root: MappingNode) -> Iterator[Node]:
    for node in _nodes(root):
        if not isinstance(node, MappingNode):
            continue
        names: set[str] = set()
        for key, _ in node.value:
            if key.value in names:
                yield key
            names.add(str(key.value))
