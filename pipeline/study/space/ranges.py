"""Ranges and values in Hydra's grammar: read from text, checked, counted, written as text.

A range is `interval(low, high)`, `int(interval(…))`, `range(start, stop, step)`, `choice(a, b)` or
`a,b`; `tag(log, …)` samples it in the logarithm, `tag(off, …)` adds null to its values.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from math import isfinite
from typing import Any, Literal

from hydra._internal.grammar.utils import escape_special_characters
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
    Sweep,
)
from hydra.errors import HydraException

from pipeline.errors import ConfigError, did_you_mean

Kind = Literal["float", "int", "choice"]
Number = int | float
OFF = "null"
"""Value of a parameter that is off."""
FORMS = "interval(low, high), int(interval(low, high)), range(start, stop, step) or choice(a, b)"
TAGS = ("log", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The values that a parameter may take.

    Args:
        kind: Numbers between two ends, whole or not, or one of several texts.
        low: Least number.
        high: Greatest number, itself included.
        step: Distance between numbers; `None` = any number, or any whole one.
        log: Sampled uniformly in the logarithm.
        choices: Hydra's texts; empty for numbers.
        off: Null is a value too, beside the numbers.
    """

    kind: Kind
    low: Number = 0
    high: Number = 0
    step: Number | None = None
    log: bool = False
    choices: tuple[str, ...] = ()
    off: bool = False

    def count(self) -> int | None:
        """Return the number of values; `None` = any number between the ends."""
        if self.kind == "choice":
            return len(self.choices)
        step = 1 if self.kind == "int" and self.step is None else self.step
        if step is None:
            return None
        return int((_exact(self.high) - _exact(self.low)) / _exact(step)) + 1 + self.off

    def texts(self) -> Iterator[str]:
        """Yield every value as Hydra's text, in order.

        Raises:
            ValueError: The range is continuous.
        """
        count = self.count()
        if count is None:
            raise ValueError("a continuous range can't be counted")
        if self.kind == "choice":
            yield from self.choices
            return
        if self.off:
            yield OFF
        yield from map(self._text_at, range(count - self.off))

    def text(self, number: Number) -> str:
        """Return a number of this range as Hydra's text, on the step where there is one."""
        if self.kind == "int":
            return str(int(number))
        if self.step is not None:
            return self._text_at(round((number - self.low) / self.step))
        return repr(float(number))

    def _text_at(self, index: int) -> str:
        number = _exact(self.low) + index * _exact(self.step or 1)
        return str(int(number)) if self.kind == "int" else repr(float(number))

    def holds(self, value: object) -> bool:
        """Tell whether a value, as it stands in a config, lies within."""
        if self.kind == "choice":
            return text_of(value) in self.choices
        if value is None:
            return self.off
        numbers = int if self.kind == "int" else int | float
        if isinstance(value, bool) or not isinstance(value, numbers) or not isfinite(value):
            return False
        if not self.low <= value <= self.high:
            return False
        return self.step is None or (_exact(value) - _exact(self.low)) % _exact(self.step) == 0

    def __str__(self) -> str:
        if self.kind == "choice":
            values = ", ".join(self.choices)
            return values if OFF in self.choices else f"choice({values})"
        if self.step is None:
            text = f"interval({_shown(self.low)}, {_shown(self.high)})"
            text = f"int({text})" if self.kind == "int" else text
        elif self.kind == "int":
            stop = _exact(self.high) + _exact(self.step)
            text = f"range({self.low}, {stop}{'' if self.step == 1 else f', {self.step}'})"
        else:
            stop = _exact(self.high) + _exact(self.step)
            text = f"range({self.low!r}, {float(stop)!r}, {self.step!r})"
        tags = [tag for tag in ("off", "log") if getattr(self, tag)]
        return f"tag({', '.join([*tags, text])})" if tags else text


def _shown(number: Number) -> str:
    """Write a number as a person does: 10, 0.1, 1e-05."""
    return repr(number).removesuffix(".0")


def _exact(number: Number) -> Decimal:
    """Return a number as it is written in decimals, without the rest that binary leaves."""
    return Decimal(repr(number))


# Values.


def parse_override(line: str) -> Override:
    """Parse an override with Hydra's parser.

    Its `int` refuses a number that it would truncate, and its casts keep the tags of a range.

    Raises:
        HydraException: It can't be read.
    """
    return _parser().parse_override(line)


def value_of(text: str) -> Any:
    """Return the value that Hydra reads from a text.

    Raises:
        ConfigError: It can't be read, or gives several values.
    """
    value = _value(text)
    return list(value) if isinstance(value, list) else value


@lru_cache(maxsize=4096)
def _value(text: str) -> Any:
    try:
        override = parse_override(f"key={text}")
    except HydraException as error:
        raise ConfigError(f"{text!r} can't be read") from error
    if override.is_sweep_override():
        raise ConfigError(f"{text!r} gives several values")
    return override.value()


def text_of(value: object) -> str:
    """Return the text from which Hydra reads a plain value again.

    `[64, 32]` is `[64,32]`, null is `null`, '1' is `'1'`.
    """
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
        if text and _value(text) == text:
            return text
    except ConfigError:
        pass
    line: str = QuotedString(text, Quote.single).with_quotes()
    return line


# Reading a range.


def read_range(text: object) -> Range:
    """Return the range that a text describes.

    Raises:
        ConfigError: All that is wrong with it, a line each, the key left out.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{text_of(text)} is one value; expected {FORMS}")
    try:
        parsed = parse_override(f"key={text.strip()}").value()
    except HydraException as error:
        raise ConfigError(_unreadable(error)) from error
    if not isinstance(parsed, ChoiceSweep | IntervalSweep | RangeSweep):
        raise ConfigError(f"{text.strip() or 'nothing'} is one value; expected {FORMS}")
    problems = list(_tag_problems(parsed))
    if isinstance(parsed, ChoiceSweep):
        problems += _choice_problems(parsed)
    elif isinstance(parsed, IntervalSweep):
        problems += _interval_problems(parsed)
    else:
        problems += _step_problems(parsed)
    if problems:
        raise ConfigError(*problems)
    return _range(parsed)


def _unreadable(error: HydraException) -> str:
    said = str(error.__cause__ or error)
    if "argument args" in said and "NoneType" in said:
        return "null can't stand in choice(…); write null,a,b, or tag(off, …) around the choice"
    if said.startswith("mismatch type argument") and ": str " in said:
        return "a bound is a text; expected a number without quotes, such as 1e-4"
    if "empty choice" in said:
        return "choice() is empty; expected two values or more"
    if isinstance(error.__cause__, _NotWholeError):
        return said
    return f"it can't be read ({said.splitlines()[0]}); expected {FORMS}"


@cache
def _parser() -> OverridesParser:
    parser = OverridesParser.create()
    functions = parser.functions.functions
    for name in ("int", "float", "str", "bool"):
        functions[name] = _careful(functions[name], whole=name == "int")
    return parser


class _NotWholeError(ValueError):
    """A number with a fraction where whole ones are wanted."""


def _careful(cast: Callable[..., Any], *, whole: bool) -> Callable[..., Any]:
    def careful(*args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()][0] if args or kwargs else None
        floats = [one for one in _numbers(given) if isinstance(one, float)] if whole else []
        for number in filter(isfinite, floats):
            if not number.is_integer():
                raise _NotWholeError(f"{_shown(number)} is no whole number, which int needs")
        if not all(map(isfinite, floats)):
            return given  # the bounds are looked at later
        result = cast(*args, **kwargs)
        if isinstance(given, Sweep):
            result.tags = set(given.tags)
        return result

    return careful


def _numbers(given: object) -> list[Any]:
    if isinstance(given, IntervalSweep):
        return [given.start, given.end]
    if isinstance(given, RangeSweep):
        return [given.start, given.stop, given.step]
    return list(given.list) if isinstance(given, ChoiceSweep) else []


def _tag_problems(parsed: Sweep) -> Iterator[str]:
    for tag in sorted(parsed.tags):
        if tag not in TAGS:
            yield f"the tag {tag} is unknown; expected log or off.{did_you_mean(tag, TAGS)}"
    if "log" in parsed.tags and isinstance(parsed, ChoiceSweep):
        yield "log has no meaning for choices; leave it away"
    if "log" in parsed.tags and isinstance(parsed, RangeSweep):
        yield "log and a step can't be joined; write interval(low, high), or leave log away"
    if getattr(parsed, "shuffle", False):
        yield "shuffle has no meaning in a study; leave it away"


def _choice_problems(parsed: ChoiceSweep) -> Iterator[str]:
    texts = [text_of(value) for value in parsed.list]
    if any(isinstance(value, dict) for value in parsed.list):
        yield "a choice is a mapping; vary the keys within it one by one"
    if any(isinstance(value, Sweep) for value in parsed.list):
        yield "a range can't be a choice; expected values"
    repeated = [text for text in dict.fromkeys(texts) if texts.count(text) > 1]
    if repeated:
        yield f"{repeated[0]} stands in it twice; name each choice once"
    elif len(texts) + ("off" in parsed.tags) < 2:
        yield f"it has one value, {texts[0]}; expected two or more"


def _interval_problems(parsed: IntervalSweep) -> Iterator[str]:
    low, high = _numbers(parsed)
    if wrong := list(_bound_problems(low=low, high=high)):
        yield from wrong
        return
    if low >= high:
        yield _reversed("low", low, "high", high)
    if "log" in parsed.tags and low <= 0:
        yield f"log needs low > 0, and low is {_shown(low)}; raise it, or leave log away"


def _bound_problems(**bounds: Number) -> Iterator[str]:
    for name, number in bounds.items():
        if not isfinite(number):
            yield f"{name} is {number}; expected a finite number"


def _reversed(first: str, low: Number, second: str, high: Number) -> str:
    sign = "=" if low == high else ">"
    return f"{first} {_shown(low)} {sign} {second} {_shown(high)}; expected {first} < {second}"


def _step_problems(parsed: RangeSweep) -> Iterator[str]:
    start, stop, step = _numbers(parsed)
    if wrong := list(_bound_problems(start=start, stop=stop, step=step)):
        yield from wrong
    elif step <= 0:
        yield f"step is {_shown(step)}; expected a step > 0"
    elif start >= stop:
        yield _reversed("start", start, "stop", stop)
    else:
        steps, rest = divmod(_exact(stop) - _exact(start), _exact(step))
        if rest:
            nearby = [_exact(start) + count * _exact(step) for count in (steps, steps + 1)]
            ends = " or ".join(_shown(float(end)) for end in nearby if end > _exact(start))
            yield (
                f"step {_shown(step)} does not divide the range from {_shown(start)} to "
                f"{_shown(stop)}; let it stop before {ends}"
            )
        elif steps == 1:
            yield f"it has one value, {_shown(start)}; expected two or more"


def _range(parsed: ChoiceSweep | IntervalSweep | RangeSweep) -> Range:
    off = "off" in parsed.tags
    if isinstance(parsed, ChoiceSweep):
        texts = tuple(text_of(value) for value in parsed.list)
        return Range(kind="choice", choices=(OFF, *texts) if off else texts)
    if isinstance(parsed, IntervalSweep):
        low, high = _numbers(parsed)
        kind: Kind = "int" if isinstance(low, int) else "float"
        return Range(kind=kind, low=low, high=high, log="log" in parsed.tags, off=off)
    start, stop, step = _numbers(parsed)
    last = _exact(stop) - _exact(step)
    if all(isinstance(number, int) for number in (start, stop, step)):
        return Range(kind="int", low=start, high=int(last), step=step, off=off)
    return Range(kind="float", low=float(start), high=float(last), step=float(step), off=off)
