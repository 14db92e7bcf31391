"""Reads a range from Hydra's sweep grammar, by Hydra's own parser.

`interval(low, high)`, `int(interval(…))`, `range(start, stop, step)`, `choice(a, b)` or `a,b`;
`tag(log, …)` counts a range in powers, `tag(off, …)` lets it be null too.
"""

from collections.abc import Callable, Iterator
from functools import cache
from math import isfinite
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep, Sweep
from hydra.errors import HydraException

from pipeline.errors import ConfigError, did_you_mean
from pipeline.study.space.ranges import OFF, Kind, Number, Range, exact, shown_number
from pipeline.study.space.texts import text_of

FORMS = "interval(low, high), int(interval(low, high)), range(start, stop, step) or choice(a, b)"
TAGS = ("log", "off")
_CASTS = ("int", "float", "str", "bool")


def read_range(text: object) -> Range:
    """Return the range that a text describes.

    Raises:
        ConfigError: All that is wrong with it, a line each, the key left out.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{text_of(text)} is one value; expected {FORMS}")
    parsed = _parsed(text)
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


def _parsed(text: str) -> ChoiceSweep | IntervalSweep | RangeSweep:
    try:
        override = _parser().parse_override(f"key={text.strip()}")
    except HydraException as error:
        raise ConfigError(_unreadable(error)) from error
    value = override.value()
    if isinstance(value, ChoiceSweep | IntervalSweep | RangeSweep):
        return value
    raise ConfigError(f"{text.strip() or 'nothing'} is one value; expected {FORMS}")


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
    """Return Hydra's parser, whose `int` here refuses what it would cut, and keeps the tags."""
    parser = OverridesParser.create()
    functions = parser.functions.functions
    for name in _CASTS:
        functions[name] = _careful(functions[name], whole=name == "int")
    return parser


class _NotWholeError(ValueError):
    """A number with a fraction where whole ones are wanted."""


def _careful(cast: Callable[..., Any], *, whole: bool) -> Callable[..., Any]:
    def careful(*args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()][0] if args or kwargs else None
        for number in _numbers(given) if whole else ():
            if isinstance(number, float) and isfinite(number) and not number.is_integer():
                raise _NotWholeError(f"{shown_number(number)} is no whole number, which int needs")
        if whole and any(isinstance(one, float) and not isfinite(one) for one in _numbers(given)):
            return given  # the bounds are looked at later
        result = cast(*args, **kwargs)
        if isinstance(given, Sweep):
            result.tags = set(given.tags)
        return result

    return careful


def _numbers(given: object) -> list[object]:
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
    low, high = parsed.start, parsed.end
    assert low is not None
    assert high is not None
    wrong = list(_bound_problems(low=low, high=high))
    yield from wrong
    if not wrong and low >= high:
        yield _reversed(low, high)
    if not wrong and "log" in parsed.tags and low <= 0:
        yield f"log needs low > 0, and low is {shown_number(low)}; raise it, or leave log away"


def _bound_problems(**bounds: Number) -> Iterator[str]:
    for name, number in bounds.items():
        if not isfinite(number):
            yield f"{name} is {number}; expected a finite number"


def _reversed(low: Number, high: Number) -> str:
    sign = "=" if low == high else ">"
    return f"low {shown_number(low)} {sign} high {shown_number(high)}; expected low < high"


def _step_problems(parsed: RangeSweep) -> Iterator[str]:
    start, stop, step = parsed.start, parsed.stop, parsed.step
    assert start is not None
    assert stop is not None
    wrong = list(_bound_problems(start=start, stop=stop, step=step))
    yield from wrong
    if wrong:
        return
    if step <= 0:
        yield f"step is {shown_number(step)}; expected a step > 0"
    elif start >= stop:
        yield _reversed(start, stop).replace("low", "start").replace("high", "stop")
    else:
        yield from _remainder_problems(start, stop, step)


def _remainder_problems(start: Number, stop: Number, step: Number) -> Iterator[str]:
    steps, rest = divmod(exact(stop) - exact(start), exact(step))
    if rest:
        nearby = [exact(start) + count * exact(step) for count in (steps, steps + 1)]
        ends = " or ".join(shown_number(float(end)) for end in nearby if end > exact(start))
        yield (
            f"step {shown_number(step)} does not divide the range from {shown_number(start)} to "
            f"{shown_number(stop)}; let it stop before {ends}"
        )
    elif steps == 1:
        yield f"it has one value, {shown_number(start)}; expected two or more"


def _range(parsed: ChoiceSweep | IntervalSweep | RangeSweep) -> Range:
    off = "off" in parsed.tags
    if isinstance(parsed, ChoiceSweep):
        texts = tuple(text_of(value) for value in parsed.list)
        return Range(kind="choice", choices=(OFF, *texts) if off else texts)
    if isinstance(parsed, IntervalSweep):
        low, high = parsed.start, parsed.end
        assert low is not None
        assert high is not None
        kind: Kind = "int" if isinstance(low, int) else "float"
        return Range(kind=kind, low=low, high=high, log="log" in parsed.tags, off=off)
    return _stepped(parsed, off=off)


def _stepped(parsed: RangeSweep, *, off: bool) -> Range:
    start, stop, step = parsed.start, parsed.stop, parsed.step
    assert start is not None
    assert stop is not None
    last = exact(stop) - exact(step)
    if all(isinstance(number, int) for number in (start, stop, step)):
        return Range(kind="int", low=start, high=int(last), step=step, off=off)
    return Range(kind="float", low=float(start), high=float(last), step=float(step), off=off)
