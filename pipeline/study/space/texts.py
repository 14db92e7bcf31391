"""Values as Hydra's texts and back: `[64, 32]` is `[64,32]`, null is `null`, '1' is `'1'`."""

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from hydra._internal.grammar.utils import escape_special_characters
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from pipeline.errors import ConfigError


def value_of(text: str) -> Any:
    """Return the value that Hydra reads from a text.

    Raises:
        ConfigError: It can't be read, or gives several values.
    """
    value = _read(text)
    return list(value) if isinstance(value, list) else value


@lru_cache(maxsize=4096)
def _read(text: str) -> Any:
    try:
        override = _parser().parse_override(f"key={text}")
    except HydraException as error:
        raise ConfigError(f"{text!r} can't be read") from error
    if override.is_sweep_override():
        raise ConfigError(f"{text!r} gives several values")
    return override.value()


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def text_of(value: object) -> str:
    """Return the text from which Hydra reads a plain value again."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, QuotedString):
        return text_of(value.text)
    if isinstance(value, Mapping):
        items = (
            f"{escape_special_characters(str(key))}:{text_of(inner)}"
            for key, inner in value.items()
        )
        return f"{{{','.join(items)}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(text_of, value))}]"
    return _bare_or_quoted(value) if isinstance(value, str) else repr(value)


def _bare_or_quoted(text: str) -> str:
    try:
        if text and _read(text) == text:
            return text
    except ConfigError:
        pass
    line: str = QuotedString(text, Quote.single).with_quotes()
    return line


def canonical(text: str) -> str:
    """Return a text as `text_of` writes it, so that equal values have equal texts.

    Raises:
        ConfigError: It can't be read, or gives several values.
    """
    return text_of(value_of(text))
