"""The runs of one batch that a preflight tries, and its messages about those that fail."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from pipeline.base.redaction import redact_word
from pipeline.study.outcome.summary import point_words

#: Column of rows that choose their model themselves: experiments, and studies of several models.
ITS_OWN = "its own"
#: Number of failing places that an error line names; the rest are only counted.
NAMED = 3


class PreflightCell(NamedTuple):
    """A data set, an experiment or a study to try, and a model or `ITS_OWN`, as overrides."""

    row: str
    column: str

    @property
    def is_study(self) -> bool:
        """Whether the row is a study."""
        return self.row.startswith("sweeps=")

    @property
    def words(self) -> str:
        """The overrides of the cell, as on a command line."""
        if self.column == ITS_OWN:
            return self.row
        if self.row.startswith("data="):
            return f"{self.column} {self.row}"
        return f"{self.row} {self.column}"


@dataclass(slots=True)
class Rehearsal:
    """A run of one batch.

    Args:
        cell: What is tried.
        point: What a study varies, as Hydra's texts by key or group.
        config: Configuration of the run as plain values; empty if it can't be composed.
        objectives: Names of the objectives of a study.
        message: Why the run fails, in one line; '' = it does not, `None` = it has not ended.
        hint: How to see more of a failure.
    """

    cell: PreflightCell
    point: Mapping[str, str]
    config: dict[str, Any] = field(default_factory=dict)
    objectives: Sequence[str] = ()
    message: str | None = None
    hint: str = ""

    def train_command(self, words: Sequence[str], config_dir: str | None) -> str:
        """Return the command that repeats the run and shows its traceback.

        `words` are those of the preflight's command line, `config_dir` is the folder of its YAML.
        """
        shown_words = [] if config_dir is None else ["--config-dir", config_dir]
        cell_words = [word for word in self.cell.words.split() if not word.startswith("sweeps=")]
        for word in words:
            if not word.startswith("sweep.") and word not in cell_words:
                shown_words.append(word)
        shown_words += cell_words
        shown_words += [f"{key}={text}" for key, text in self.point.items()]
        shown_words += ["debug=default", "traceback=true"]
        return f"pipeline train {shlex.join(map(redact_word, shown_words))}"


def count_words(rehearsals: Sequence[Rehearsal], duration: str = "") -> str:
    """Return the number of cells that were tried, and of those that would fail.

    `duration` is what is said of the time, such as ` in 12 s`.
    """
    tried_cells = set()
    failing_cells = set()
    for rehearsal in rehearsals:
        if rehearsal.message is not None:
            tried_cells.add(rehearsal.cell)
        if rehearsal.message:
            failing_cells.add(rehearsal.cell)
    return f"{len(tried_cells)} tried{duration}, {len(failing_cells)} would fail"


def failure_lines(rehearsals: Sequence[Rehearsal]) -> list[str]:
    """Return a line for each reason for a failure: what fails, and why."""
    reasons: dict[str, list[Rehearsal]] = {}
    for rehearsal in rehearsals:
        if rehearsal.message:
            reasons.setdefault(rehearsal.message, []).append(rehearsal)
    counts = Counter(rehearsal.cell for rehearsal in rehearsals)
    lines = []
    for message, failures in reasons.items():
        lines.append(f"{_places(failures, counts)}: {message}{failures[0].hint}")
    return lines


def _places(failures: Sequence[Rehearsal], counts: Mapping[PreflightCell, int]) -> str:
    """Return the names of what fails for one reason: whole rows and columns, else cells.

    `counts` has the number of rehearsals of every cell.
    """
    failing: dict[PreflightCell, list[Rehearsal]] = {}
    for rehearsal in failures:
        failing.setdefault(rehearsal.cell, []).append(rehearsal)
    places: list[str] = []
    for word in dict.fromkeys(chain(*failing)):
        cells = {cell for cell in counts if word in cell}  # a whole row or column
        if word != ITS_OWN and len(cells) > 1 and cells <= failing.keys():
            places.append(word)
            for cell in cells:
                del failing[cell]
    for cell, cell_failures in failing.items():
        place = cell.words
        point = cell_failures[0].point
        if point and len(cell_failures) < counts[cell]:
            place += f" where {point_words(point)}"
        places.append(place)
    text = ", ".join(places[:NAMED])
    if len(places) > NAMED:
        text += f" and {len(places) - NAMED} more"
    return text
