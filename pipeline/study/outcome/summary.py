"""Summary of a study: trials as text, winner, verdict and tables, in a terminal and in MLflow."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.ends import End
from pipeline.base.errors import text_override
from pipeline.base.findings import named_baselines
from pipeline.base.markup import (
    MISSING,
    NO_INTERVAL,
    Block,
    Command,
    Section,
    TextTable,
    score_rows,
    show,
)
from pipeline.base.processes.lease import seconds_since_start
from pipeline.base.redaction import redact_word
from pipeline.base.terminal import console, duration, headed, number, print_lines, say
from pipeline.config.overrides import plainest
from pipeline.metrics import Direction, all_metrics, direction, ranked
from pipeline.scoring.baselines import baselines_note, shown_baselines
from pipeline.study.ledger.rows import Row, RowState, best, count_words, pareto, winner
from pipeline.study.space.ranges import text_of
from pipeline.tracking.description import description, fits
from pipeline.tracking.uri import uri_words

if TYPE_CHECKING:
    from pipeline.scoring.baselines import baselines_note, shown_baselines
from pipeline.study.ledger.rows import Importances

OFF = "off"
_NUMBER = re.compile(r"-?\d*\.?\d+(e[+-]?\d+)?", re.IGNORECASE)
#: Numbers of best trials and of trials on the Pareto front that are listed.
TOP = 5
MOST_ON_FRONT = 20
#: The same in a terminal, where a summary fits a screen of 24 lines.
SHORT_TOP = 3
SHORT_FRONT = 5
#: Short names of keys whose last part is long.
LABELS = {
    "trainer.max_epochs": "epochs",
    "trainer.gradient_clip_val": "clip",
    "data.batch_size": "batch",
}
MOST_COLUMNS = 5
FEW_TRIALS = 10
FRONT = "no other trial is at least as good in both objectives and better in one"
#: Fact of a study: the test metrics and the names of the baselines, by trial number.
TESTED = "tested"
#: Fact of a study: number of the trial of the base config.
BASE = "base_trial"
#: Metrics that a terminal leaves out of the summary.
PARTS_OF_F1 = ("precision", "recall")
#: Pictures among a study's artifacts, the most important first.
PICTURES = {
    "comparison.png": "The comparison",
    "pareto_front.png": "Pareto front",
    "history.png": "History of the trials",
    "lr_clip_map.png": "Learning rate and clipping",
    "importances.png": "Parameter importance",
    "parallel_coordinates.png": "Parallel coordinates",
    "slices.png": "Each parameter against the value",
}
MOST_PICTURES = 3
FILES = {
    "trials.csv": "all trials",
    "winner/classes.csv": "the best trial by class",
    "winner/test_predictions.csv": "its predictions",
    "comparison.csv": "all figures of the comparison",
    "comparison.tex": "the table for LaTeX",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySummary:
    """Summary of a study that has ended, was stopped, or still runs.

    Args:
        rows: All trials of the study.
        objectives: Names of the one or two objectives.
        directions: Direction of each objective, `max` or `min`.
        folder: The study's folder.
        importances: Importances of the parameters for each objective; empty = not known.
        base: Number of the trial of the base config; `None` = it was not tried.
        command: Command that trains the winner again; empty = not known.
        yaml_command: The same command with the winner's experiment; empty = not known.
        tested: The winner's metrics `test/…`, `naive/…`, `linear/…`; empty = it was not tested.
        base_tested: The same metrics of the base trial.
        baselines: What each baseline is, by name; empty = not known.
        comparison: Whether the winner or the best baseline is better, in a sentence; empty = not
            known.
        intervals: 95 % intervals of the winner's metrics: `f1`, …; empty = not known.
        tested_rows: The tested rows in words: `75 rows, mean over 4 classes`; empty = not known.
        confirm_seeds: Number of seeds with which the winner is trained again.
    """

    rows: Sequence[Row]
    objectives: Sequence[str]
    directions: Sequence["Direction"]
    folder: Path
    importances: Sequence["Importances"] = ()
    base: int | None = None
    command: str = ""
    yaml_command: str = ""
    tested: Mapping[str, float] = field(default_factory=dict)
    base_tested: Mapping[str, float] = field(default_factory=dict)
    baselines: Mapping[str, str] = field(default_factory=dict)
    comparison: str = ""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    tested_rows: str = ""
    confirm_seeds: int = 0

    def with_tests(self, facts: Mapping[str, Any]) -> "StudySummary":
        """Return the summary with the test metrics that the study's facts hold."""
        tests = facts.get(TESTED, {})
        winner_test = tests.get(str(self.winner), {})
        base_test = tests.get(str(self.base), {})
        return replace(
            self,
            tested=winner_test.get("metrics", {}),
            base_tested=base_test.get("metrics", {}),
            baselines=named_baselines(winner_test.get("baselines", {})),
            comparison=winner_test.get("comparison", ""),
            intervals=winner_test.get("intervals", {}),
            tested_rows=winner_test.get("rows", ""),
        )

    @property
    def importance(self) -> "Importances | None":
        """The importances of a single objective; `None` if there are two, or no trial completed."""
        if len(self.objectives) != 1 or not self.importances or self.best_row is None:
            return None
        return self.importances[0]

    @property
    def complete(self) -> int:
        """Number of trials that completed."""
        return sum(row.state is End.COMPLETE for row in self.rows)

    @property
    def best_row(self) -> Row | None:
        """The winning trial; `None` = none completed."""
        return winner(self.rows, self.directions)

    @property
    def winner(self) -> int | None:
        """Number of the winning trial; `None` = none completed."""
        return None if self.best_row is None else self.best_row.number

    @property
    def base_row(self) -> Row | None:
        """The trial of the base config, if it completed."""
        for row in self.rows:
            if row.number == self.base and row.values:
                return row
        return None

    def values_of(self, row: Row) -> str:
        """Return the values of a trial as text: `val/f1 0.8312, model/parameters 5,210`."""
        return value_words(row.values, self.objectives)


# ── trials as text ──────────────────────────────────────────────────────────────────────────────


def counts_line(rows: Sequence[Row]) -> str:
    """Return `100 trials: 92 complete, 8 pruned`, followed by the trials that do not count."""
    counts = Counter(row.state for row in rows)
    counted: list[RowState] = []
    uncounted: list[RowState] = []
    for end in End:
        states = counted if end.counts else uncounted
        states.append(end)
    counted.append("running")
    uncounted.append("waiting")
    total = sum(counts[state] for state in counted)
    line = "1 trial" if total == 1 else f"{total} trials"
    if total:
        line += f": {', '.join(count_words(counts, counted))}"
    if words := count_words(counts, uncounted):
        line += f"; not counted: {', '.join(words)}"
    return line


def swept_keys(rows: Iterable[Row]) -> list[str]:
    """Return the keys that any trial varies, in the order of their first use."""
    keys: dict[str, None] = {}
    for row in rows:
        keys |= dict.fromkeys(row.overrides)
    return list(keys)


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return a label or the last part of each key, or the whole key if two would be the same."""
    labels = {key: LABELS.get(key) or re.split(r"[./]", key)[-1] for key in keys}
    counts = Counter(labels.values())
    return {key: label if counts[label] == 1 else key for key, label in labels.items()}


def shown_text(text: str | None) -> str:
    """Return a swept value for a table: `off` for null, three significant digits for a number."""
    if text is None:
        return MISSING
    if text == "null":
        return OFF
    if _NUMBER.fullmatch(text) and not text.lstrip("-").isdigit():
        return f"{float(text):.3g}"
    return text


def point_words(overrides: Mapping[str, str], names: Mapping[str, str] | None = None) -> str:
    """Return a point on one line: `lr 0.0032 · epochs 16 · clip off`; `names` are short names."""
    names = short_names(overrides) if names is None else names
    return " · ".join(f"{names[key]} {shown_text(text)}" for key, text in overrides.items())


def value_words(values: Sequence[float], objectives: Sequence[str]) -> str:
    """Return the values of a trial as text: `val/f1 0.8312, model/parameters 5,210`."""
    pairs = zip(objectives, values, strict=True)
    return ", ".join(f"{name} {value_text(name, value)}" for name, value in pairs)


def value_text(objective: str, value: float) -> str:
    """Return the value of an objective as text: `0.8312`; `75` for a count of parameters."""
    return f"{value:,.0f}" if objective == "model/parameters" else number(value)


def experiment_command(folder: Path, name: str, *extra_words: str) -> str:
    """Return the command that trains an experiment in a study's folder, with extra words."""
    words = [f"--config-dir={folder / 'conf'}", f"experiment={text_of(name)}", *extra_words]
    return train_command(words)


def report_command(study: str, *, output: str, storage: str | None, uri: str | None) -> str:
    """Return the command that writes a study's report, quoted for a shell.

    `output`, `storage` and `uri` say where its folder, its trials and its runs are.
    """
    words = [f"study={study}"]
    if output != "runs":
        words.append(text_override("folder", output))
    if storage is not None:
        words.append(redact_word(f"storage={storage}"))
    words += uri_words(uri or "")
    return f"pipeline report {shlex.join(words)}"


def train_command(words: Sequence[str]) -> str:
    """Return the training command with these overrides, quoted for a shell."""
    shown_words = [redact_word(plainest(word)) for word in words]
    return shlex.join(["pipeline", "train", *shown_words])


# ── verdict ─────────────────────────────────────────────────────────────────────────────────────


def verdict(summary: StudySummary) -> list[str]:
    """Return sentences on whether the winner beats the default and a naive prediction."""
    winner = summary.best_row
    base = summary.base_row
    if winner is None:
        lines = ["no trial completed, so there is no best trial"]
        for row in reversed(summary.rows):
            message = row.attributes.get("message")
            if row.end and message:
                lines.append(f"trial {row.number}: {row.end}: {message}")
                break
        return lines
    lines = [_on_validation(summary, winner, base)]
    if winner.number != summary.base:
        lines += _on_test(summary)
        if base is not None:
            seeds = summary.confirm_seeds
            hint = "to see whether the gain is real, repeat with seeds: sweep.confirm_seeds=5"
            if seeds:
                hint = f"to judge the gain, see the best trial over {seeds} other seeds"
            lines.append(hint)
    lines += _against_naive(summary)
    if summary.importance is not None and summary.importance.too_few:
        lines.append(summary.importance.too_few)
    return lines


def _on_validation(summary: StudySummary, winner: Row, base: Row | None) -> str:
    name = summary.objectives[0]
    values = summary.values_of(winner)
    if base is None:
        return f"best trial {winner.number}: {values}"
    if winner.number == base.number:
        return (
            f"the best trial is the default (trial {base.number}: {values}); no "
            f"other of the {summary.complete} complete trials has a better {name}"
        )
    gain = number(abs(winner.values[0] - base.values[0]))
    better = f"{gain} better than the default ({number(base.values[0])})"
    if len(summary.objectives) > 1:
        return f"best trial {winner.number}: {values}; {name} is {better}"
    return f"best trial {winner.number}: {values}, {better}"


def _on_test(summary: StudySummary) -> Iterator[str]:
    """Yield sentences that compare the winner with the default, if both were tested."""
    objective = summary.objectives[0].rpartition("/")[2]
    for name in (objective, *ranked()):
        key = f"test/{name}"
        if key in summary.tested and key in summary.base_tested:
            break
    else:
        return
    winner_score = summary.tested[key]
    base_score = summary.base_tested[key]
    better = summary.directions[0] if name == objective else direction(key)
    gain = winner_score - base_score if better == "max" else base_score - winner_score
    comparison = "no better"
    if gain < 0:
        comparison = "worse"
    elif gain > 0:
        comparison = "better"
    if gain:
        comparison = f"{number(abs(gain))} {comparison}"
    scores = f"{key} {number(winner_score)} against {number(base_score)}"
    yield f"on the test set it is {comparison}: {scores}"
    if gain > 0:
        return
    hint = ""
    complete = summary.complete
    if complete < FEW_TRIALS:
        hint = f"; with only {complete} complete trials, try sweep.n_trials={complete * 3}"
    yield f"reason: the best score of many trials is partly due to chance{hint}"


def _against_naive(summary: StudySummary) -> Iterator[str]:
    """Yield a warning if the naive prediction is as good as the winner."""
    for name in ranked():
        test = summary.tested.get(f"test/{name}")
        naive = summary.tested.get(f"naive/{name}")
        if test is None or naive is None:
            continue
        larger_is_better = direction(f"test/{name}") == "max"
        is_no_better = test <= naive if larger_is_better else test >= naive
        if is_no_better:
            yield (
                f"no better than the naive baseline: test/{name} {number(test)} against "
                f"{number(naive)}; the network learned nothing useful"
            )
        return


# ── tables ──────────────────────────────────────────────────────────────────────────────────────


def best_table(summary: StudySummary, *, is_short: bool = False) -> TextTable:
    """Return a table of the best trials, or of the Pareto front if there are two objectives."""
    top = SHORT_TOP if is_short else TOP
    most_on_front = SHORT_FRONT if is_short else MOST_ON_FRONT
    notes = []
    if len(summary.objectives) == 1:
        rows = best(summary.rows, summary.directions, top)
        title = f"best {len(rows)} trials" if len(rows) > 1 else "best trial"
    else:
        front = pareto(summary.rows, summary.directions)
        rows = front[:most_on_front]
        title = f"Pareto front: {FRONT}"
        if len(front) > most_on_front:
            notes = [f"{len(front) - most_on_front} more in trials.csv"]
    keys = swept_keys(rows)
    names = short_names(keys)
    wide = len(keys) > MOST_COLUMNS
    headings = ["rank", "trial", *summary.objectives]
    headings += ["parameters"] if wide else names.values()
    lines = []
    for rank, row in enumerate(rows, start=1):
        trial = f"{row.number} (default)" if row.number == summary.base else str(row.number)
        point = [shown_text(row.overrides.get(key)) for key in keys]
        point = [point_words(row.overrides, names)] if wide else point
        lines.append([str(rank), trial, *map(value_text, summary.objectives, row.values), *point])
    return TextTable(
        title=title,
        headings=headings,
        lines=lines,
        words=frozenset({len(headings) - 1} if wide else ()),
        marked=frozenset(n for n, row in enumerate(rows) if row.number == summary.winner),
        notes=notes,
    )


def importance_table(importances: "Importances") -> TextTable:
    """Return a table of the parameters above chance, the most important first."""
    lines = []
    hidden = []
    above_chance = importances.above_chance
    for name, share in importances.shares.items():
        chance = importances.chance[name]
        if name in above_chance:
            lines.append([name, f"{100 * share:.0f} %", f"{100 * chance:.0f} %"])
        else:
            hidden.append(name)
    return TextTable(
        title="parameter importance (PED-ANOVA)",
        headings=["parameter", "share", "chance"],
        lines=lines,
        notes=[f"not above chance: {', '.join(hidden)}"] if hidden else [],
    )


def importance_line(importances: "Importances") -> str:
    """Return the importances of the parameters above chance on one line, and the others' names."""
    names = short_names(importances.shares)
    shares = []
    hidden = []
    above_chance = importances.above_chance
    for key, share in importances.shares.items():
        if key in above_chance:
            shares.append(f"{names[key]} {100 * share:.0f} %")
        else:
            hidden.append(names[key])
    below = f"; not above chance: {', '.join(hidden)}" if hidden else ""
    return f"parameter importance: {', '.join(shares)}{below}"


def figures_table(summary: StudySummary) -> TextTable:
    """Return a table of the test metrics of the best trial, the default and the baselines."""
    tested = summary.tested
    intervals = summary.intervals
    kinds = shown_baselines(tested, {})
    measured = [key.removeprefix("test/") for key in tested if key.startswith("test/")]
    order = dict.fromkeys([*all_metrics(), *(name for name in measured if name != "loss")])
    names = [name for name in order if name in measured]
    lines = score_rows(tested, intervals, names, kinds)
    headings = ["test", "best trial", "95 % CI"]
    if summary.base_tested and summary.winner != summary.base:
        headings.append("default")
        base_lines = score_rows(summary.base_tested, intervals, names, ())
        for line, base_line in zip(lines, base_lines, strict=True):
            line.insert(3, base_line[1])
    notes = [summary.comparison] if summary.comparison else []
    if summary.baselines:
        notes.append(baselines_note(summary.baselines))
    if any(line[2] == MISSING for line in lines):
        notes.append(NO_INTERVAL)
    title = "test results of the best trial"
    if summary.tested_rows:
        title += f" on {summary.tested_rows}"
    return TextTable(
        title=title,
        headings=[*headings, *kinds],
        lines=lines,
        notes=notes,
    )


# ── in a terminal, on MLflow's page, among other studies ────────────────────────────────────────


def print_summary(summary: StudySummary) -> None:
    """Print a study's verdict and tables, and the commands that train the winner again.

    A terminal gets the most important of it, on a screen of 24 lines.
    """
    shown = console()
    is_short = shown.is_terminal
    say(shown, counts_line(summary.rows), style="bold")
    for line in verdict(summary):
        say(shown, line)
    importance = summary.importance
    if importance is not None and importance.above_chance:
        if is_short:
            say(shown, importance_line(importance))
        else:
            show(shown, importance_table(importance))
    if summary.best_row is not None:
        show(shown, best_table(summary, is_short=is_short))
    if summary.tested:
        table = figures_table(summary)
        if is_short:
            lines = [line for line in table.lines if line[0] not in PARTS_OF_F1]
            table = replace(table, lines=lines, notes=())
        show(shown, table)
    if summary.winner is not None:
        if is_short:
            print_lines([f"again   {summary.yaml_command}"])
        else:
            print_lines([f"again   {summary.command}", f"or      {summary.yaml_command}"])


def last_lines(
    folder: Path, file_lines: Iterable[str], where_to_look: Sequence[str], notes: Iterable[str]
) -> Iterator[str]:
    """Yield lines on the time that the command took, the study's folder and where to look.

    `file_lines` are lines on its files, such as the command that writes its report.
    """
    yield f"took    {duration(seconds_since_start())}"
    yield f"study   {folder}"
    yield from file_lines
    yield from headed("see it", where_to_look)
    for note in notes:
        yield f"note    {note}"


def search_blocks(summary: StudySummary) -> list[Block]:
    """Return what a search has found: the command of the best trial, and tables."""
    blocks: list[Block] = []
    if summary.command:
        blocks.append(Section("Train the best trial again", [Command(summary.command)]))
    if summary.best_row is not None:
        blocks.append(best_table(summary))
    if summary.tested:
        blocks.append(figures_table(summary))
    if summary.importance is not None and summary.importance.above_chance:
        blocks.append(importance_table(summary.importance))
    return blocks


def search_note(summary: StudySummary) -> str:
    """Return the Markdown description of a study that has searched for the best trial."""
    lines = [counts_line(summary.rows), *verdict(summary)]
    return _note(lines, search_blocks(summary), summary.folder)


def comparison_note(
    outcome: Sequence[str], table: TextTable, rows: Sequence[Row], folder: Path
) -> str:
    """Return the Markdown description of a study that has compared cells, with its outcome."""
    return _note([*outcome, counts_line(rows)], [table], folder)


def _note(lines: Sequence[str], blocks: Sequence[Block], folder: Path) -> str:
    shown: dict[str, tuple[str, str]] = {}
    for file, title in PICTURES.items():
        if len(shown) < MOST_PICTURES and fits(folder / "artifacts" / file):
            shown[file] = (title, title)
    return description([lines, *blocks], folder, shown=shown, linked={**PICTURES, **FILES})
