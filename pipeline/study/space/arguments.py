"""Ranges on a command line: `optimizer.lr=tag(log, interval(1e-4, 1e-1))` is for the space."""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence

from hydra._internal.grammar.utils import escape_special_characters
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, Sweep
from hydra.errors import HydraException

from pipeline.config.options import SweepConfig
from pipeline.config.overrides import text_keys
from pipeline.errors import ConfigError
from pipeline.study.space.texts import text_of

_SPACE, _WHEN = "sweep.space", "sweep.when"
_FUNCTIONS = "tag|interval|range|choice|shuffle|sort|glob|int|float|str|bool"
_RANGE = re.compile(rf"({_FUNCTIONS})\(.*\)\s*", re.DOTALL)
_KEY = re.compile(r"[A-Za-z_][\w./@\[\]]*")


def with_space(words: Sequence[str]) -> list[str]:
    """Return a command line whose ranges stand in `sweep.space`, where they replace a file's.

    Args:
        words: The command line as it was typed.

    Raises:
        ConfigError: A key has two ranges, or `-m` was asked for.
    """
    overrides = _overrides(words)
    ranges = [word for word in overrides if _is_range(word)]
    spaces = [word for word in overrides if _key(word) == _SPACE]
    left = [f"++{word}" if word.startswith(f"{_WHEN}=") else word for word in words]
    if not (ranges or spaces):
        return left
    return [*(word for word in left if word not in (*ranges, *spaces)), _joined(ranges, spaces)]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def _overrides(words: Sequence[str]) -> list[str]:
    """Return the words that are no flags and no values of flags."""
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            arguments = get_args_parser().parse_intermixed_args(words)
    except SystemExit:
        return []  # whoever reads the words next says what is wrong
    if arguments.multirun:
        raise ConfigError(
            "-m starts a run for each value, and a sweep tries the values by itself; leave -m away"
        )
    found: list[str] = arguments.overrides
    return found


def _is_range(word: str) -> bool:
    key, _, value = word.partition("=")
    if not _KEY.fullmatch(key) or key.startswith(("sweep.", "hydra.", "hydra/")):
        return False
    if key == "sweeps" or key in text_keys(SweepConfig):
        return False
    override = _parsed(word)
    if override is None:
        return _RANGE.fullmatch(value) is not None  # Hydra refuses it; the space says why
    return bool(override.is_sweep_override())


def _parsed(word: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def _joined(ranges: Sequence[str], spaces: Sequence[str]) -> str:
    """Return the one override that adds all ranges to the space."""
    found = [pair for word in spaces for pair in _inner(word)]
    found += [(key, text) for key, _, text in (word.partition("=") for word in ranges)]
    space: dict[str, str] = {}
    problems = []
    for key, text in found:
        if key in space:
            problems.append(f"{key} is given two ranges: {space[key]} and {text}; keep one.")
        space[key] = text
    if problems:
        raise ConfigError(*problems)
    items = (f"{escape_special_characters(key)}: {_quoted(text)}" for key, text in space.items())
    return f"++{_SPACE}={{{', '.join(items)}}}"


def _inner(word: str) -> Iterator[tuple[str, str]]:
    """Yield the ranges of a space that was given whole."""
    override = _parsed(word)
    value = None if override is None else override.value()
    if not isinstance(value, dict):
        raise ConfigError(f"{word!r} is no space; expected {_SPACE}={{KEY: 'RANGE', …}}.")
    for key, text in value.items():
        if isinstance(text, Sweep):
            raise ConfigError(
                f"{word!r} holds a range without quotes; write it as a word of its own, such as "
                f"'{key}=choice(a, b)'."
            )
        yield str(key), text if isinstance(text, str) else text_of(text)


def _quoted(text: str) -> str:
    line: str = QuotedString(text, Quote.single).with_quotes()
    return line
