"""`key=value` beside a range: where the range holds."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pipeline.errors import ConfigError
from pipeline.study.space.texts import canonical


@dataclass(frozen=True, slots=True)
class Condition:
    """A key or group that has a value.

    Args:
        key: The key or group.
        text: Hydra's text of the value.
    """

    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}={self.text}"


def read_condition(words: object) -> Condition:
    """Return the condition that stands in front of ranges.

    Raises:
        ConfigError: It is no `key=value`, without saying where it stands.
    """
    key, sign, text = str(words).partition("=")
    if not (sign and key.strip() and text.strip()):
        raise ConfigError("a condition is key=value, such as model=lstm")
    try:
        return Condition(key.strip(), canonical(text.strip()))
    except ConfigError as error:
        raise ConfigError(f"{error}; expected one value, such as model=lstm") from error


def holds(
    condition: Condition | None,
    chosen: Mapping[str, str],
    *,
    swept: Collection[str],
    base: Mapping[str, str],
) -> bool:
    """Say whether a condition holds.

    Args:
        condition: `None` = always.
        chosen: Texts of what was chosen so far, by key or group.
        swept: Keys that are chosen where their own condition holds.
        base: Texts of all others that conditions name.
    """
    if condition is None:
        return True
    known = chosen if condition.key in swept else base
    return known.get(condition.key) == condition.text
