"""What a rule of the doctor is, and the verdict that it finds."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.doctor.evidence import Evidence

__all__ = ["Evidence", "Rule", "Verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One thing that is wrong with a run.

    Args:
        name: Name of the rule that finds it; set by `diagnose`.
        evidence: The evidence with numbers, a sentence without capital letter and full stop.
        numbers: These numbers by name.
        cures: Overrides that would help, the likeliest first. A rule may add empty texts and
            overrides that do not apply to the run; `diagnose` removes them.
        advice: What would help if no override does.
    """

    name: str = ""
    evidence: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    cures: tuple[str, ...] = ()
    advice: str = ""

    @property
    def title(self) -> str:
        """The name in words, such as `class collapse`."""
        return self.name.replace("_", " ")

    @property
    def typed(self) -> tuple[str, ...]:
        """The overrides as they are typed in a shell."""
        return tuple(map(shlex.quote, self.cures))

    @property
    def line(self) -> str:
        """The verdict as one line."""
        suggestion = f"try {' or '.join(self.typed[:2])}" if self.cures else self.advice
        return f"{self.title}: {self.evidence}" + (f"; {suggestion}" if suggestion else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values without numbers that are not finite."""
        finite = {k: float(v) for k, v in self.numbers.items() if abs(v) < float("inf")}
        return {**asdict(self), "numbers": finite, "cures": list(self.cures)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule of the doctor: when a run has a verdict, and how it relates to other verdicts.

    Args:
        rank: Place among the verdicts of a run: the lowest is the worst and comes first.
        find: Returns the verdict on a run, with its evidence and what would help; `None` = the run
            does not have it.
        glossary: What the verdict means, for the glossary.
        chinese: Its name in Chinese, for the glossary.
        page: When it is given, with an example, in Markdown for the doctor's page.
        needs: Fields of `Findings` that `find` reads; a run in which one of them is missing or
            empty does not have the verdict.
        hides: Names of verdicts that are symptoms of this one: they are not reported beside it.
        explains_little_learning: It hides all verdicts that show little learning, too.
        shows_little_learning: It says that little was learned, whatever the cause.
        is_on_learning: It says what was learned, which is nothing but memorized if the training
            labels are shuffled: then it offers no overrides.
        is_on_other_rows: It is on rows that are not trained on; a run that only memorizes a few
            batches does not have it.
    """

    rank: int
    find: Callable[[Evidence], Verdict | None]
    glossary: str
    chinese: str
    page: str
    needs: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    explains_little_learning: bool = False
    shows_little_learning: bool = False
    is_on_learning: bool = False
    is_on_other_rows: bool = False

    @property
    def name(self) -> str:
        """Name of the verdict, which is that of the file with the function."""
        return self.find.__module__.rpartition(".")[2]

    def is_explained_by(self, cause: "Rule") -> bool:
        """Return whether the verdict is a symptom of another one."""
        is_little = self.shows_little_learning and cause.explains_little_learning
        return is_little or self.name in cause.hides
