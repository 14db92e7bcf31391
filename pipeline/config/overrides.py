"""Overrides of a command line, each read alone: quoted where Hydra would bend or refuse them."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Union, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from pydantic import BaseModel

from pipeline.paths import is_url, output_problem, place_problem
from pipeline.redaction import has_password

_KEY_VALUE = re.compile(r"(?P<key>\+{0,2}[^=~+][^=]*)=(?P<value>.*)", re.DOTALL)
_FOREIGN_WORD = re.compile(r"""[^,\[\]{}:'"]*[^\x00-\x7f][^,\[\]{}:'"]*""")
_FUNCTION = re.compile(r"[a-z_]+\(.*\)", re.DOTALL)
_SQLITE = "sqlite:///"
_PLACES = (
    "output",
    "resume",
    "model_from",
    "run",
    "runs",
    "input",
    "data.path",
    "tracking.uri",
    "sweep.storage",
    "storage",
    "study",
)
"""Keys that name a file, a folder or a run, in one command or another."""
HYDRA = "hydra"
HYDRA_REFUSED = "belongs to Hydra's own settings, which can run code"


@dataclass(frozen=True, slots=True)
class Given:
    """One override as it was typed and as Hydra read it.

    Args:
        typed: What stood on the command line.
        override: What it means; its `input_line` is what Hydra is to be given.
    """

    typed: str
    override: Override

    @property
    def key(self) -> str:
        """The key or group, with the package where one is named."""
        name: str = self.override.key_or_group
        return f"{name}@{self.override.package}" if self.override.package else name

    @property
    def line(self) -> str:
        """What Hydra is to be given."""
        return str(self.override.input_line)


def raw_value(words: Sequence[str], key: str) -> str | None:
    """Return what a key is given, as it stands, without quotes around the whole of it.

    Hydra would take a run's id such as `12e45678` for a number.
    """
    values = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    if not values:
        return None
    is_quoted = len(values[-1]) > 1 and values[-1][0] == values[-1][-1] in "'\""
    return values[-1][1:-1] if is_quoted else values[-1]


def place_problems(words: Sequence[str]) -> Iterator[str]:
    """Yield a line for each place of a command line that no file or folder can have."""
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
        return all(_is_text(part) for part in get_args(annotation) if part is not NoneType)
    return annotation is str


def read(
    lines: Sequence[str], *, texts: Collection[str], multirun: bool
) -> tuple[list[Given], list[str]]:
    """Return the overrides that can be read, and a line for each problem with the others.

    Args:
        lines: The overrides as they were typed.
        texts: Keys whose value is taken as it stands, `resume=12e45678` included.
        multirun: Whether commas separate values, a run each.
    """
    parser = OverridesParser.create()
    given, problems = [], []
    for line in lines:
        if has_password(line):
            problems.append(_password(line))
            continue
        override = _parsed(parser, line, texts=texts, multirun=multirun)
        if override is None:
            problems.append(_unreadable(line))
        elif _sets_hydra(override):
            problems.append(f"{override.get_key_element()} {HYDRA_REFUSED}; remove it.")
        elif override.is_sweep_override() and not multirun:
            problems.append(_several_values(line))
        else:
            given.append(Given(line, override))
    return given, problems + _repeated(given)


def _sets_hydra(override: Override) -> bool:
    places = (re.split("[./]", override.key_or_group)[0], *(override.package or "").split("."))
    return HYDRA in places


def _parsed(
    parser: OverridesParser, line: str, *, texts: Collection[str], multirun: bool
) -> Override | None:
    for attempt in _attempts(line, texts=texts, multirun=multirun):
        try:
            return parser.parse_override(attempt)
        except HydraException:
            continue
    return None


def _attempts(line: str, *, texts: Collection[str], multirun: bool) -> Iterator[str]:
    """Yield what to let Hydra read, in the order in which it is to be tried."""
    match = _KEY_VALUE.fullmatch(line)
    if match is None:
        yield line
        return
    key, value = match["key"], match["value"]
    swept = multirun and ("," in value or _FUNCTION.fullmatch(value) is not None)
    is_text = key.lstrip("+") in texts
    if is_text and not swept and _is_bare(value):
        yield f"{key}={quoted(value)}"
    yield line
    if not value.isascii() and (swept or value.startswith(("[", "{"))):
        yield f"{key}={_FOREIGN_WORD.sub(lambda word: quoted(word[0]), value)}"
    elif not value.isascii() or key.endswith("path"):
        yield f"{key}={quoted(value)}"


def _is_bare(value: str) -> bool:
    return bool(value) and value != "null" and value[0] not in "'\"" and "${" not in value


def quoted(text: str) -> str:
    """Return a text as Hydra reads it unchanged."""
    line: str = QuotedString(text.strip(), Quote.single).with_quotes()
    return line


def plainest(line: str) -> str:
    """Return an override with its quotes left out where they mean nothing, else as double ones.

    Within the single quotes of a shell double ones need no escape.
    """
    key, _, value = line.partition("=")
    inner = value[1:-1]
    if value != f"'{inner}'" or any(sign in inner for sign in "'\"\\$"):
        return line
    bare, parser = f"{key}={inner}", OverridesParser.create()
    try:
        is_same = parser.parse_override(bare).value() == inner
    except HydraException:
        is_same = False
    return bare if is_same else f'{key}="{inner}"'


def _password(line: str) -> str:
    variable = "PGPASSWORD" if "=postgresql" in line else "MLFLOW_TRACKING_URI"
    return (
        f"{line.partition('=')[0]} holds a URL with a password, which every user of this machine "
        f"could read; put it into an environment variable, such as {variable}, instead."
    )


def _unreadable(line: str) -> str:
    match = _KEY_VALUE.fullmatch(line)
    if match is None:
        return f"{line!r} is no override; expected KEY=VALUE, such as optimizer.lr=0.01."
    key, value = match["key"], match["value"].replace('"', '\\"')
    return (
        f"{line!r} can't be read; close each bracket and quote, or quote the whole as a text: "
        f"'{key}=\"{value}\"'."
    )


def _several_values(line: str) -> str:
    key, _, value = line.partition("=")
    return (
        f"{line!r} gives several values; expected one, a list {key}=[{value}], a quoted text "
        f"'{key}=\"{value}\"', or -m for a run each."
    )


def _repeated(given: Sequence[Given]) -> list[str]:
    first: dict[str, Given] = {}
    problems = []
    for one in given:
        before = first.setdefault(one.key, one)
        if before is not one:
            problems.append(f"{one.key} is given twice: {before.typed} and {one.typed}; keep one.")
    return problems
