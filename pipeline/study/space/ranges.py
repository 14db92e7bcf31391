"""Ranges and values in Hydra's grammar: parsed, checked, counted, and written as text.

A range is `interval(low, high)`, `int(interval(…))`, `range(start, stop, step)`, `choice(a, b)` or
`a,b`; `tag(log, …)` samples it on a logarithmic scale, `tag(off, …)` adds null to its values.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from functools import cache, lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from hydra.core.override_parser import types
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException

from pipeline.base.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Number = int | float
#: Hydra's text for a parameter that is off.
OFF = "null"
FORMS = "interval(low, high), int(interval(low, high)), range(start, stop, step) or choice(a, b)"
TAGS = ("log", "off")
_BOUNDS = {types.IntervalSweep: ("start", "end"), RangeSweep: ("start", "stop", "step")}
_NO_LOG = {
    types.ChoiceSweep: "log does not apply to choices; remove it",
    RangeSweep: "log and a step can't be combined; write interval(low, high), or remove log",
}


class Condition(NamedTuple):
    """The condition that a key or group has a value, given as Hydra's text."""

    key: str
    text: str

    @classmethod
    def read(cls, words: str) -> Self:
        """Return the condition that a key of `sweep.when` describes, such as `model=lstm`.

        Raises ConfigError if it is not a key and one value.
        """
        key, sign, text = words.partition("=")
        if not (sign and key.strip() and text.strip()):
            raise ConfigError("a condition is key=value, such as model=lstm")
        try:
            return cls(key.strip(), text_of(value_of(text.strip())))
        except ConfigError as error:
            raise ConfigError(f"{error}; expected one value, such as model=lstm") from error

    def __str__(self) -> str:
        return f"{self.key}={self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The values that a key of the config, or a group, may take.

    If numbers may be off, Optuna has two parameters: `<name> on`, and then the number.

    Args:
        kind: Kind of values: real numbers, whole numbers, or choices.
        low: Smallest number.
        high: Largest number, inclusive.
        step: Distance between numbers; `None` = any number, or any whole number for `int`.
        log: Whether numbers are sampled uniformly in the logarithm.
        choices: The choices as Hydra's texts; empty for numbers.
        off: Whether null is a value too, beside the numbers.
        key: The config key or group.
        name: Optuna's name: the key, followed by the value of its condition if it has several.
        when: Condition under which the range holds; `None` = always.
        source: What the user wrote as the range: a text, or a value of YAML that is not a text.
        problems: A line for each reason why `source` can't be read; empty for a usable range.
    """

    kind: Literal["float", "int", "choice"]
    low: Number = 0
    high: Number = 0
    step: Number | None = None
    log: bool = False
    choices: tuple[str, ...] = ()
    off: bool = False
    key: str = ""
    name: str = ""
    when: Condition | None = None
    source: object = field(default=None, compare=False)
    problems: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def read(
        cls, source: object, *, key: str, when: Condition | None = None, shares_key: bool = False
    ) -> "Range":
        """Return the range that `source` describes for a key, or one that has `problems`.

        Args:
            source: Text of the range, or a value of YAML.
            key: The config key or group that is varied.
            when: Condition under which the range holds; `None` = always.
            shares_key: Whether the key has another range, under another condition.
        """
        name = f"{key} ({when.text})" if shares_key and when else key
        unread = cls(kind="choice", key=key, name=name, when=when, source=source)
        try:
            return replace(unread, **_fields(source))
        except ConfigError as error:
            problems = []
            for line in error.problems:
                end = "" if line.endswith("?") else "."
                problems.append(f"{unread.written}: {line}{end}")
            return replace(unread, problems=tuple(problems))

    @property
    def place(self) -> str:
        """The config key at which the range is given."""
        if self.when is None:
            return f"sweep.space.{self.key}"
        return f"sweep.when.{self.when}.{self.key}"

    @property
    def written(self) -> str:
        """The config key and the range as the user wrote it."""
        text = self.source if isinstance(self.source, str) else text_of(self.source)
        return f"{self.place}={text}"

    @property
    def override(self) -> str:
        """The config key and the range in its normal form, as on a command line."""
        return f"{self.place}={self}"

    def count(self) -> int | None:
        """Return the number of values; `None` = infinite, since the range is continuous."""
        if self.kind == "choice":
            return len(self.choices)
        step = 1 if self.kind == "int" and self.step is None else self.step
        if step is None:
            return None
        return int((_exact(self.high) - _exact(self.low)) / _exact(step)) + 1 + self.off

    def texts(self) -> list[str]:
        """Return all values of a countable range as Hydra's texts, in order."""
        count = self.count()
        assert count is not None
        if self.kind == "choice":
            return list(self.choices)
        step = self.step or 1
        texts = [self.text(self.low + index * step) for index in range(count - self.off)]
        return [OFF, *texts] if self.off else texts

    def ends(self) -> list[str]:
        """Return the ends of the range as Hydra's texts, or all choices.

        If the range may be off, null stands between its ends.
        """
        if self.kind == "choice":
            return list(self.choices)
        between = [OFF] if self.off else []
        return [self.text(self.low), *between, self.text(self.high)]

    def text(self, number: Number) -> str:
        """Return a number of this range as Hydra's text, rounded to the step if there is one."""
        if self.kind == "int":
            return str(int(number))
        if self.step is not None:
            steps = round((number - self.low) / self.step)
            number = float(_exact(self.low) + steps * _exact(self.step))
        return repr(float(number))

    def holds(self, value: object) -> bool:
        """Return whether a value from a config lies within the range."""
        if self.kind == "choice":
            return text_of(value) in self.choices
        if value is None:
            return self.off
        numbers = int if self.kind == "int" else int | float
        if isinstance(value, bool) or not isinstance(value, numbers):
            return False
        if not self.low <= value <= self.high:  # also true for NaN
            return False
        return self.step is None or (_exact(value) - _exact(self.low)) % _exact(self.step) == 0

    def __str__(self) -> str:
        if self.kind == "choice":
            values = ", ".join(self.choices)
            return values if OFF in self.choices else f"choice({values})"
        if self.step is None:
            text = f"interval({_number_text(self.low)}, {_number_text(self.high)})"
            text = f"int({text})" if self.kind == "int" else text
        else:
            stop = _exact(self.high) + _exact(self.step)
            last: Number = int(stop) if self.kind == "int" else float(stop)
            step = "" if self.kind == "int" and self.step == 1 else f", {self.step!r}"
            text = f"range({self.low!r}, {last!r}{step})"
        tags = [tag for tag in ("off", "log") if getattr(self, tag)]
        return f"tag({', '.join([*tags, text])})" if tags else text

    @property
    def words(self) -> str:
        """The range in words, such as `0.0001 to 0.1, log scale` or `mlp, lstm`."""
        if self.kind == "choice":
            return ", ".join("off" if text == OFF else text for text in self.choices)
        kind = "whole numbers " if self.kind == "int" else ""
        steps = "" if self.step in (None, 1) else f" in steps of {_number_text(self.step or 1)}"
        text = f"{kind}{_number_text(self.low)} to {_number_text(self.high)}{steps}"
        text = f"off, or {text}" if self.off else text
        return f"{text}, log scale" if self.log else text

    # Conversion from and to Optuna's params.

    def suggest(self, trial: "BaseTrial") -> str:
        """Sample a value from a trial, and return it as Hydra's text."""
        if self.kind == "choice":
            return str(trial.suggest_categorical(self.name, self.choices))
        if self.off and not trial.suggest_categorical(f"{self.name} on", (True, False)):
            return OFF
        if self.kind == "int":
            low = int(self.low)
            high = int(self.high)
            step = int(self.step or 1)
            return self.text(trial.suggest_int(self.name, low, high, step=step, log=self.log))
        number = trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)
        return self.text(number)

    def from_params(self, params: Mapping[str, Any]) -> str | None:
        """Return Hydra's text for Optuna's params; `None` = they have no value for this range."""
        if self.off and params.get(f"{self.name} on") is False:
            return OFF
        if self.name not in params:
            return None
        value = params[self.name]
        return str(value) if self.kind == "choice" else self.text(value)

    def to_params(self, value: object) -> dict[str, object]:
        """Return Optuna's params for a value within the range."""
        if self.kind == "choice":
            return {self.name: text_of(value)}
        if value is None:
            return {f"{self.name} on": False}
        assert isinstance(value, int | float)
        number: object = int(value) if self.kind == "int" else float(value)
        return {f"{self.name} on": True, self.name: number} if self.off else {self.name: number}

    def plain(self) -> dict[str, Any]:
        """Return the range as plain values that JSON can hold."""
        when = None if self.when is None else str(self.when)
        values = {**asdict(self), "choices": list(self.choices), "when": when}
        del values["source"], values["problems"]
        return values

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return the range that `plain` has turned into plain values."""
        words = plain["when"]
        when = None if words is None else Condition(*words.split("=", 1))
        return cls(**{**plain, "choices": tuple(plain["choices"]), "when": when})

    def is_compatible(self, other: "Range") -> bool:
        """Return whether Optuna can hold both ranges under one name in a study."""
        return (self.kind, self.choices, self.log) == (other.kind, other.choices, other.log)


def _number_text(number: Number) -> str:
    """Return a number as text, whole numbers without decimals: 10, 0.1, 1e-05."""
    return repr(number).removesuffix(".0")


def _exact(number: Number) -> Decimal:
    """Return a number as the decimal that it is written as, without the error of its binary."""
    return Decimal(repr(number))


# Values.


def parse_override(line: str) -> Override:
    """Parse an override with Hydra's parser; raise HydraException if it can't be parsed.

    The parser's `int` refuses numbers that it would truncate, and its casts keep a range's tags.
    """
    return _parser().parse_override(line)


def value_of(text: str) -> Any:
    """Return the value that Hydra parses from a text; raise ConfigError if it has not just one."""
    value = _value(text)
    return list(value) if isinstance(value, list) else value


@lru_cache(maxsize=4096)
def _value(text: str) -> Any:
    try:
        override = parse_override(f"key={text}")
    except HydraException as error:
        raise ConfigError(f"{text!r} can't be read") from error
    if override.is_sweep_override():
        raise ConfigError(f"{text!r} has several values")
    return override.value()


def escaped(key: str) -> str:
    r"""Return a key of a mapping as Hydra's grammar writes it, such as `a\:b`."""
    return re.sub(r"[\\()\[\]{}:=, \t]", r"\\\g<0>", key)


def text_of(value: object) -> str:
    """Return the text that Hydra parses to a plain value, such as `[64,32]` or `'1'`."""
    if value is None or isinstance(value, bool):
        return OFF if value is None else str(value).lower()
    if isinstance(value, Mapping):
        items = [f"{escaped(str(key))}:{text_of(item)}" for key, item in value.items()]
        return f"{{{','.join(items)}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(text_of, value))}]"
    if not isinstance(value, str | types.QuotedString):
        return repr(value)
    text = value.text if isinstance(value, types.QuotedString) else value
    with suppress(ConfigError):
        if text and _value(text) == text:
            return text
    return str(types.QuotedString(text, types.Quote.single).with_quotes())


# Reading a range.


def _fields(text: object) -> dict[str, Any]:
    """Return kind and values of a range; raise ConfigError with a line for each problem."""
    parsed = None
    try:
        if isinstance(text, str):
            parsed = parse_override(f"key={text.strip()}").value()
    except HydraException as error:
        raise ConfigError(_unreadable(error)) from error
    if not isinstance(parsed, types.ChoiceSweep | types.IntervalSweep | RangeSweep):
        shown = text.strip() or "nothing" if isinstance(text, str) else text_of(text)
        raise ConfigError(f"{shown} is a single value; expected {FORMS}")
    if problems := list(_problems(parsed)):
        raise ConfigError(*problems)
    off = "off" in parsed.tags
    numbers = _numbers(parsed)
    if isinstance(parsed, types.ChoiceSweep):
        texts = list(map(text_of, numbers))
        if off:
            texts.insert(0, OFF)
        return {"kind": "choice", "choices": tuple(texts)}
    number_type = int if all(isinstance(number, int) for number in numbers) else float
    fields = {"kind": number_type.__name__, "off": off}
    if isinstance(parsed, types.IntervalSweep):
        low, high = numbers
        return {**fields, "low": low, "high": high, "log": "log" in parsed.tags}
    start, stop, step = map(number_type, numbers)
    last = number_type(_exact(stop) - _exact(step))
    return {**fields, "low": start, "high": last, "step": step}


def _unreadable(error: HydraException) -> str:
    message = str(error.__cause__ or error)
    if isinstance(error.__cause__, _NotWholeError):
        return message
    if "argument args" in message and "NoneType" in message:
        return "null is not allowed in choice(…); write null,a,b, or tag(off, …) around the choice"
    if message.startswith("mismatch type argument") and ": str " in message:
        return "a bound is a string; expected a number without quotes, such as 1e-4"
    if "empty choice" in message:
        return "choice() is empty; expected two values or more"
    return f"it can't be parsed ({message.splitlines()[0]}); expected {FORMS}"


@cache
def _parser() -> OverridesParser:
    parser = OverridesParser.create()
    functions = parser.functions.functions
    for name in ("int", "float", "str", "bool"):
        functions[name] = _checked_cast(functions[name], requires_whole=name == "int")
    return parser


class _NotWholeError(ValueError):
    """A number with a fraction was given to `int`."""


def _checked_cast(cast: Callable[..., Any], *, requires_whole: bool) -> Callable[..., Any]:
    """Return a cast of Hydra that refuses to truncate, and keeps the tags of a range."""

    def checked_cast(*args: Any, **kwargs: Any) -> Any:
        argument = next(iter([*args, *kwargs.values()]), None)
        floats = []
        if requires_whole:
            floats = [number for number in _numbers(argument) if isinstance(number, float)]
        for number in floats:
            if isfinite(number) and not number.is_integer():
                raise _NotWholeError(
                    f"{_number_text(number)} is not a whole number, which int needs"
                )
        if not all(map(isfinite, floats)):
            return argument  # the bounds are checked later
        result = cast(*args, **kwargs)
        if isinstance(argument, types.Sweep):
            result.tags = set(argument.tags)
        return result

    return checked_cast


def _numbers(parsed: object) -> list[Any]:
    """Return the choices, or the bounds and the step, of a parsed range; else an empty list."""
    if isinstance(parsed, types.ChoiceSweep):
        return list(parsed.list)
    for kind, names in _BOUNDS.items():
        if isinstance(parsed, kind):
            return [getattr(parsed, name) for name in names]
    return []


def _problems(parsed: types.ChoiceSweep | types.IntervalSweep | RangeSweep) -> Iterator[str]:
    """Yield a line for each problem of a range that Hydra can parse."""
    for tag in sorted(parsed.tags - set(TAGS)):
        yield f"the tag {tag} is unknown; expected log or off.{did_you_mean(tag, TAGS)}"
    if "log" in parsed.tags and type(parsed) in _NO_LOG:
        yield _NO_LOG[type(parsed)]
    if getattr(parsed, "shuffle", False):
        yield "shuffle does not apply to a study; remove it"
    if isinstance(parsed, types.ChoiceSweep):
        yield from _choice_problems(parsed)
        return
    numbers = _numbers(parsed)
    names = ("start", "stop", "step") if len(numbers) == 3 else ("low", "high")
    bounds = dict(zip(names, numbers, strict=True))
    if all(map(isfinite, numbers)):
        yield from _bound_problems(bounds, log="log" in parsed.tags)
        return
    for name, number in bounds.items():
        if not isfinite(number):
            yield f"{name} is {number}; expected a finite number"


def _bound_problems(bounds: Mapping[str, Number], *, log: bool) -> Iterator[str]:
    (first, low), (second, high), *steps = bounds.items()
    step = steps[0][1] if steps else None
    if step is not None and step <= 0:
        yield f"step is {_number_text(step)}; expected a step > 0"
    elif low >= high:
        sign = "=" if low == high else ">"
        order = f"{first} {_number_text(low)} {sign} {second} {_number_text(high)}"
        yield f"{order}; expected {first} < {second}"
    elif step is not None:
        count, remainder = divmod(_exact(high) - _exact(low), _exact(step))
        if remainder:
            end = _exact(low) + count * _exact(step)
            ends = _number_text(float(end + _exact(step)))
            if count:
                ends = f"{_number_text(float(end))} or {ends}"
            yield (
                f"step {_number_text(step)} does not divide the range from {_number_text(low)} to "
                f"{_number_text(high)}; stop before {ends}"
            )
        elif count == 1:
            yield f"it has only one value, {_number_text(low)}; expected two or more"
    if log and step is None and low <= 0:
        yield f"log needs low > 0, and low is {_number_text(low)}; raise it, or remove log"


def _choice_problems(parsed: types.ChoiceSweep) -> Iterator[str]:
    texts = list(map(text_of, parsed.list))
    if any(isinstance(value, dict) for value in parsed.list):
        yield "a choice is a mapping; vary its keys one by one"
    if any(isinstance(value, types.Sweep) for value in parsed.list):
        yield "choices must be values, not ranges"
    repeated = [text for text in texts if texts.count(text) > 1]
    if repeated:
        yield f"duplicate choice {repeated[0]}; list it once"
    elif len(texts) + ("off" in parsed.tags) < 2:
        yield f"it has only one value, {texts[0]}; expected two or more"
