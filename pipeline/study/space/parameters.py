"""One parameter of a space: its range, its name to Optuna, how a value goes there and back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipeline.study.space.conditions import Condition
from pipeline.study.space.ranges import OFF, Range
from pipeline.study.space.texts import text_of

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter(Range):
    """A key of the config, or a group, and the values that it may take.

    Where it may be off, Optuna is asked twice: whether `<name> on`, then for the number.

    Args:
        key: The key or group.
        name: Optuna's name for it: the key, and in brackets the value that its range depends on
            where the key has several.
        when: Where the range holds; `None` = everywhere.
    """

    key: str
    name: str
    when: Condition | None = None

    @property
    def switch(self) -> str:
        """Optuna's name of the choice between on and off."""
        return f"{self.name} on"

    @property
    def place(self) -> str:
        """Where it stands in a config."""
        return place_of(self.key, self.when)

    def suggest(self, trial: "BaseTrial") -> str:
        """Ask a trial for a value; return Hydra's text."""
        if self.kind == "choice":
            return str(trial.suggest_categorical(self.name, self.choices))
        if self.off and not trial.suggest_categorical(self.switch, (True, False)):
            return OFF
        if self.kind == "int":
            step = 1 if self.step is None else int(self.step)
            low, high = int(self.low), int(self.high)
            return self.text(trial.suggest_int(self.name, low, high, step=step, log=self.log))
        number = trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)
        return self.text(number)

    def from_params(self, params: Mapping[str, Any]) -> str | None:
        """Return Hydra's text of what Optuna holds; `None` = it holds nothing."""
        if self.off and params.get(self.switch) is False:
            return OFF
        if self.name not in params:
            return None
        value = params[self.name]
        return str(value) if self.kind == "choice" else self.text(value)

    def to_params(self, value: object) -> dict[str, object]:
        """Return what Optuna is to hold for a value within the range."""
        if self.kind == "choice":
            return {self.name: text_of(value)}
        if value is None:
            return {self.switch: False}
        assert isinstance(value, int | float)
        number: object = int(value) if self.kind == "int" else float(value)
        return {self.switch: True, self.name: number} if self.off else {self.name: number}

    def plain(self) -> dict[str, Any]:
        """Return all of it as plain values that JSON can hold."""
        values = {**asdict(self), "choices": list(self.choices)}
        return {**values, "when": None if self.when is None else str(self.when)}


def place_of(key: str, when: object = None) -> str:
    """Return where a range stands in a config."""
    return f"sweep.space.{key}" if when is None else f"sweep.when.{when}.{key}"
