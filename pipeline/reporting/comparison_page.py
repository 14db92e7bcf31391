"""The report of two runs, A and B: whether B is better than A, and what differs between them."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.targets import TARGET
from pipeline.config.values import shown
from pipeline.errors import ConfigError
from pipeline.findings.records import Array, Findings, TestRows
from pipeline.markup import MISSING, TextTable
from pipeline.pictures import style
from pipeline.pictures.curves import LOG_RATIO
from pipeline.pictures.picture import Picture
from pipeline.reporting.page import Places, rendered
from pipeline.reporting.run_page import main_metric, rows_words, size_words, summary
from pipeline.reporting.run_pair import RunPair
from pipeline.reporting.subject import SHORT_ID, found_subject
from pipeline.reporting.svg import drawn
from pipeline.running.results import tested_names
from pipeline.terminal import duration, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CHANGES = 3
"""Differences of the configs that a line names."""
MOST_ROWS = 50
"""Test rows that are listed."""
LONGEST_WORD = 40
COLOURS = {"A": style.TRAIN, "B": style.VALIDATION}
DIFFERENCE = (
    "difference: B less A, with its 95 % interval; both were measured on the same draws of the "
    "test rows, so that what a row does to both cancels out. Where the interval holds 0, these "
    "rows do not tell the two apart"
)


def report_pair(references: Sequence[str], places: Places) -> list[str]:
    """Report on two runs against each other, and return what the terminal is told."""
    first, second = (found_subject(reference, places) for reference in references)
    for subject, reference in zip((first, second), references, strict=True):
        if subject.is_range_test:
            raise ConfigError(
                f"run {reference!r} is a range test of the learning rate; expected runs that have "
                "trained"
            )
    pair = RunPair(first=first, second=second)
    run_id = first.findings.run_id[:SHORT_ID]
    word = run_id if first.folder is None else first.folder.name[-LONGEST_WORD:]
    text = rendered("comparison.html", comparison_page(pair))
    return [*lines(pair), second.publish(text, places, f"report-against-{word}.html")]


def comparison_page(pair: RunPair) -> dict[str, Any]:
    """Return what the template of a comparison asks for."""
    names = [findings.name for findings in pair.findings]
    return {
        "title": f"{names[1]} against {names[0]}",
        "summary": f"{verdict(pair)}.",
        "subjects": [
            (letter, subject.findings.name, summary(subject), subject.lacks)
            for letter, subject in (("A", pair.first), ("B", pair.second))
        ],
        "obstacle": pair.obstacle,
        "figures": figures_table(pair),
        "changes": changes_table(pair),
        "flips": flips_words(pair),
        "rows": rows_table(pair),
        "pictures": drawn(_pictures(pair)),
        "costs": costs_table(pair),
        "is_other_data": pair.findings[0].data_hash != pair.findings[1].data_hash,
    }


def verdict(pair: RunPair) -> str:
    """Say in a sentence which of the two is better, and how sure that is."""
    name = pair.main_metric
    if name is None:
        return _untold(pair)
    found = pair.figures[name]
    told = f"{name} {number(found.second)} against {number(found.first)}"
    if found.interval is None:
        return f"{told}; how sure the difference is can't be told"
    within = f"a difference of {_signed(found.value)} (95 % interval {_ends(found.interval)})"
    better = pair.better(name)
    sure = f"{better} is better" if better else "these test rows do not tell the two apart"
    return f"{told}, {within}: {sure}"


def _untold(pair: RunPair) -> str:
    """Say what there is of each, where no figure of one stands beside one of the other."""
    tested = [tested_names(one.task, one.metrics) for one in pair.findings]
    if not any(tested):
        return "neither has been tested, so nothing says which is better"
    if all(tested):
        first, second = (", ".join(names) for names in tested)
        return f"no figure in common: A has {first}, B has {second}"
    told = zip("AB", pair.findings, strict=True)
    return "; ".join(_alone(letter, findings) for letter, findings in told)


def _alone(letter: str, findings: Findings) -> str:
    name = main_metric(findings)
    if name is not None:
        return f"{letter} has {name} {number(findings.metrics[f'test/{name}'])}"
    why = " (it diverged)" if findings.end == "diverged" else ""
    return f"{letter} was not tested{why}"


def lines(pair: RunPair) -> list[str]:
    """Return what the terminal is told: at most five lines."""
    found = [f"B {pair.findings[1].name} against A {pair.findings[0].name}"]
    found.append(f"result  {verdict(pair)}")
    if pair.obstacle:
        found.append(f"rows    not compared: {pair.obstacle}")
    elif words := flips_words(pair):
        found.append(f"rows    {words}")
    found.append(f"config  {changes_words(pair)}")
    one, other = pair.findings
    found.append(
        f"cost    {other.parameters:,} weights against {one.parameters:,}; "
        f"{duration(other.seconds)} against {duration(one.seconds)}"
    )
    return found


def changes_words(pair: RunPair) -> str:
    """Name what differs in the configs, in a line: what both have first."""
    changes = pair.changes
    if not changes:
        return "nothing differs but names and places"
    first, second = (findings.config for findings in pair.findings)
    both = [one for one in changes if _has(first, one.key) and _has(second, one.key)]
    told = [_change(one.key, one.old, one.new) for one in both[:MOST_CHANGES]]
    more = len(changes) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


def _change(key: str, old: Any, new: Any) -> str:
    """Write a change; of a class its own name is enough, and its group says what it is."""
    if key.endswith(f".{TARGET}"):
        key = key.removesuffix(f".{TARGET}")
        old, new = (str(value).rpartition(".")[2] for value in (old, new))
    return f"{key} {_text(old)} → {_text(new)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)


def _has(config: Any, key: str) -> bool:
    node = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def figures_table(pair: RunPair) -> TextTable | None:
    """Lay the test figures of both beside each other; `None` where they have none in common."""
    if not pair.figures:
        return None
    lines = [
        [
            name,
            number(found.first),
            number(found.second),
            _signed(found.value),
            MISSING if found.interval is None else _ends(found.interval),
            pair.better(name) or ("not told apart" if found.interval else MISSING),
        ]
        for name, found in pair.figures.items()
    ]
    return TextTable(
        title="figures on the test rows",
        headings=["metric", "A", "B", "difference", "95 % interval", "better"],
        lines=lines,
        words=frozenset({0, 5}),
        notes=[DIFFERENCE] if pair.tests else [],
    )


def changes_table(pair: RunPair) -> TextTable:
    """List what differs in the configs; a key that one lacks is told from one that is null."""
    first, second = (findings.config for findings in pair.findings)
    lines = [
        [
            one.key,
            _text(one.old) if _has(first, one.key) else MISSING,
            _text(one.new) if _has(second, one.key) else MISSING,
        ]
        for one in pair.changes
    ]
    return TextTable(
        title="what differs in the configurations, names and places left out",
        headings=["key", "A", "B"],
        lines=lines,
        words=frozenset({0, 1, 2}),
    )


def flips_words(pair: RunPair) -> str:
    """Say how many test rows flipped; empty where the rows can't be compared."""
    if pair.flips is not None:
        one = pair.flips
        total = one.both + one.first + one.second + one.neither
        return (
            f"of {rows_words(total, 'test row')} {one.second:,} are right in B alone, "
            f"{one.first:,} in A alone, {one.both:,} in both, {one.neither:,} in neither; "
            f"McNemar's exact p = {number(one.p)}"
        )
    if pair.errors is not None:
        before, after = pair.errors
        return (
            f"of {rows_words(len(before), 'test row')} B is nearer to the truth in "
            f"{(after < before).sum():,}, A in {(before < after).sum():,}"
        )
    return ""


def costs_table(pair: RunPair) -> TextTable:
    """Lay time and size of both beside each other."""
    lines = [[name, *texts] for name, texts in _costs(pair)]
    return TextTable(title="time and size", headings=["", "A", "B"], lines=lines)


def _costs(pair: RunPair) -> Iterator[tuple[str, list[str]]]:
    both = pair.findings
    yield "network", [one.model for one in both]
    yield "weights", [f"{one.parameters:,}" if one.parameters else MISSING for one in both]
    sizes = (pair.first.size, pair.second.size)
    yield "model's file", [MISSING if size is None else size_words(size) for size in sizes]
    yield "time of training", [duration(one.seconds) if one.seconds else MISSING for one in both]
    yield "epochs", [f"{one.epochs} of {one.planned}" for one in both]
    yield (
        "seconds an epoch",
        [number(one.seconds / one.epochs) if one.epochs else MISSING for one in both],
    )
    yield "device", [one.device or MISSING for one in both]


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{number(abs(value))}"


def _ends(ends: Sequence[float]) -> str:
    return f"{_signed(ends[0])} … {_signed(ends[1])}"


def rows_table(pair: RunPair) -> TextTable | None:
    """List the test rows that flipped, or whose error changed most, with both predictions."""
    if pair.tests is None:
        return None
    if pair.errors is not None:
        return _changed(pair, pair.tests, pair.errors)
    return _flipped(pair, pair.tests)


def _flipped(pair: RunPair, tests: tuple[TestRows, TestRows]) -> TextTable:
    classes, (before, _) = pair.findings[0].classes, tests
    answers = pair.answers(tests)
    right = [answer == before.targets for answer in answers]
    flipped = np.flatnonzero(right[0] != right[1])
    chances = [_probabilities(*one) for one in zip(tests, answers, strict=True)]
    # The surest of both come first: where one says it is certain, and is wrong.
    order = flipped[np.argsort(-np.maximum(chances[0], chances[1])[flipped], kind="stable")]
    lines = [
        [
            str(before.rows[at]),
            classes[before.targets[at]],
            *(
                f"{classes[answer[at]]} ({chance[at]:.0%})"
                for answer, chance in zip(answers, chances, strict=True)
            ),
            "B" if right[1][at] else "A",
        ]
        for at in order[:MOST_ROWS]
    ]
    return TextTable(
        title=_first(len(order), "test rows that only one gets right, the surest answers first"),
        headings=["row", "truth", "A says", "B says", "right"],
        lines=lines,
        words=frozenset({1, 2, 3, 4}),
        notes=["in brackets the probability of what was said"],
    )


def _probabilities(test: TestRows, answers: Array) -> Array:
    """Return the probability of what was said of each row, (rows,)."""
    if test.outputs.ndim == 1:
        return np.where(answers == 1, test.outputs, 1 - test.outputs)
    return test.outputs[np.arange(len(answers)), answers]


def _changed(
    pair: RunPair, tests: tuple[TestRows, TestRows], errors: tuple[Array, Array]
) -> TextTable:
    before, after = tests
    gains = errors[0] - errors[1]
    order = np.argsort(-np.abs(gains), kind="stable")
    units = pair.findings[0].units
    lines = [
        [
            str(before.rows[at]),
            *(_values(values[at]) for values in (before.targets, before.outputs, after.outputs)),
            *(number(float(off[at])) for off in errors),
            "B" if gains[at] > 0 else "A" if gains[at] < 0 else "both alike",
        ]
        for at in order[:MOST_ROWS]
    ]
    return TextTable(
        title=_first(len(order), "test rows whose error differs most"),
        headings=["row", "truth", "A says", "B says", "A is off by", "B is off by", "nearer"],
        lines=lines,
        words=frozenset({6}),
        notes=[f"values in {units}"] if units else [],
    )


def _values(values: Any) -> str:
    few = [number(float(value)) for value in np.atleast_1d(values)[:4]]
    return ", ".join(few) + (", …" if np.size(values) > len(few) else "")


def _first(count: int, what: str) -> str:
    return f"{count:,} {what}" if count <= MOST_ROWS else f"{MOST_ROWS} of {count:,} {what}"


def _pictures(pair: RunPair) -> Iterator[Picture]:
    """Yield the losses of both, then what each was judged by on the validation rows."""
    both = dict(zip("AB", pair.findings, strict=True))
    judged = [findings.monitor.rpartition("/")[2] for findings in pair.findings]
    for key in dict.fromkeys(["loss", *judged]):
        keys = [f"train/{key}", f"val/{key}"]
        known = [one for one in keys if any(_curve(run, one) for run in both.values())]
        yield Picture(
            name=f"curves/{key}",
            title=f"{key} over the epochs",
            alt=_words(both, known) or f"neither run has a {key}",
            draw=partial(_draw, both, known, key),
        )


def _curve(findings: Findings, key: str) -> dict[int, float]:
    return {epoch: values[key] for epoch, values in findings.history.items() if key in values}


def _words(both: dict[str, Findings], keys: list[str]) -> str:
    told = []
    for key in keys:
        for letter, findings in both.items():
            values = list(_curve(findings, key).values())
            if values:
                told.append(f"{letter}'s {key} from {number(values[0])} to {number(values[-1])}")
    return "; ".join(told)


def _draw(both: dict[str, Findings], keys: list[str], name: str) -> "Figure":
    figure, axes = style.panels()
    panel: Axes = axes[0, 0]
    epochs: set[int] = {1}
    values: list[float] = []
    for letter, findings in both.items():
        for key in keys:
            curve = _curve(findings, key)
            if not curve:
                continue
            epochs |= curve.keys()
            values += curve.values()
            part = "training" if key.startswith("train/") else "validation"
            panel.plot(
                list(curve),
                list(curve.values()),
                color=COLOURS[letter],
                linestyle="--" if part == "training" else "-",
                marker=style.mark(len(curve)),
                markersize=3,
                label=f"{letter}, {part}",
            )
        if findings.kept is not None:
            panel.axvline(findings.kept, color=COLOURS[letter], linestyle=":", linewidth=1)
    if name == "loss" and values and style.spans_decades(np.asarray(values), ratio=LOG_RATIO):
        panel.set_yscale("log")
    panel.set_ylabel(name)
    style.epochs_across(panel, sorted(epochs))
    style.below(figure, panel, columns=4)
    return figure
