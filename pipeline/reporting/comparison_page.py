"""What stands in the report of two runs against each other."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.config.targets import TARGET
from pipeline.config.values import shown
from pipeline.findings.records import Findings
from pipeline.markup import MISSING, TextTable
from pipeline.reporting.against import Against
from pipeline.reporting.figures import drawn
from pipeline.reporting.figures_of_run import rows_words, telling
from pipeline.reporting.flipped import rows_sheet
from pipeline.reporting.run_page import size_words, summary
from pipeline.reporting.two_curves import pictures
from pipeline.running.results import tested_names
from pipeline.terminal import duration, number

MOST_CHANGES = 3
"""Differences of the configs that a line names."""
DIFFERENCE = (
    "difference: B less A, with its 95 % interval; both were measured on the same draws of the "
    "test rows, so that what a row does to both cancels out. Where the interval holds 0, these "
    "rows do not tell the two apart"
)


def comparison_page(against: Against) -> dict[str, Any]:
    """Return what the template of a comparison asks for."""
    names = [findings.name for findings in against.findings]
    return {
        "title": f"{names[1]} against {names[0]}",
        "summary": f"{verdict(against)}.",
        "subjects": [
            (letter, subject.findings.name, summary(subject), subject.lacks)
            for letter, subject in (("A", against.first), ("B", against.second))
        ],
        "obstacle": against.obstacle,
        "figures": figures_sheet(against),
        "changes": changes_sheet(against),
        "flips": flips_words(against),
        "rows": rows_sheet(against),
        "pictures": drawn(pictures(against)),
        "costs": costs_sheet(against),
        "is_other_data": against.findings[0].data_hash != against.findings[1].data_hash,
    }


def verdict(against: Against) -> str:
    """Say in a sentence which of the two is better, and how sure that is."""
    name = against.telling
    if name is None:
        return _untold(against)
    found = against.figures[name]
    told = f"{name} {number(found.second)} against {number(found.first)}"
    if found.interval is None:
        return f"{told}; how sure the difference is can't be told"
    within = f"a difference of {_signed(found.value)} (95 % interval {_ends(found.interval)})"
    better = against.better(name)
    sure = f"{better} is better" if better else "these test rows do not tell the two apart"
    return f"{told}, {within}: {sure}"


def _untold(against: Against) -> str:
    """Say what there is of each, where no figure of one stands beside one of the other."""
    tested = [tested_names(one.task, one.metrics) for one in against.findings]
    if not any(tested):
        return "neither has been tested, so nothing says which is better"
    if all(tested):
        first, second = (", ".join(names) for names in tested)
        return f"no figure in common: A has {first}, B has {second}"
    told = zip("AB", against.findings, strict=True)
    return "; ".join(_alone(letter, findings) for letter, findings in told)


def _alone(letter: str, findings: Findings) -> str:
    name = telling(findings)
    if name is not None:
        return f"{letter} has {name} {number(findings.metrics[f'test/{name}'])}"
    why = " (it diverged)" if findings.end == "diverged" else ""
    return f"{letter} was not tested{why}"


def lines(against: Against) -> list[str]:
    """Return what the terminal is told: at most five lines."""
    found = [f"B {against.findings[1].name} against A {against.findings[0].name}"]
    found.append(f"result  {verdict(against)}")
    if against.obstacle:
        found.append(f"rows    not compared: {against.obstacle}")
    elif words := flips_words(against):
        found.append(f"rows    {words}")
    found.append(f"config  {changes_words(against)}")
    weights, seconds = (
        [getattr(findings, key) for findings in against.findings]
        for key in ("parameters", "seconds")
    )
    times = [duration(one) for one in seconds]
    found.append(
        f"cost    {weights[1]:,} weights against {weights[0]:,}; {times[1]} against {times[0]}"
    )
    return found


def changes_words(against: Against) -> str:
    """Name what differs in the configs, in a line: what both have first."""
    changes = against.changes
    if not changes:
        return "nothing differs but names and places"
    first, second = (findings.config for findings in against.findings)
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


def figures_sheet(against: Against) -> TextTable | None:
    """Lay the test figures of both beside each other; `None` where they have none in common."""
    if not against.figures:
        return None
    lines = [
        [
            name,
            number(found.first),
            number(found.second),
            _signed(found.value),
            MISSING if found.interval is None else _ends(found.interval),
            against.better(name) or ("not told apart" if found.interval else MISSING),
        ]
        for name, found in against.figures.items()
    ]
    return TextTable(
        title="figures on the test rows",
        headings=["metric", "A", "B", "difference", "95 % interval", "better"],
        lines=lines,
        words=frozenset({0, 5}),
        notes=[DIFFERENCE] if against.pair else [],
    )


def changes_sheet(against: Against) -> TextTable:
    """List what differs in the configs; a key that one lacks is told from one that is null."""
    first, second = (findings.config for findings in against.findings)
    lines = [
        [
            one.key,
            _text(one.old) if _has(first, one.key) else MISSING,
            _text(one.new) if _has(second, one.key) else MISSING,
        ]
        for one in against.changes
    ]
    return TextTable(
        title="what differs in the configurations, names and places left out",
        headings=["key", "A", "B"],
        lines=lines,
        words=frozenset({0, 1, 2}),
    )


def flips_words(against: Against) -> str:
    """Say how many test rows flipped; empty where the rows can't be compared."""
    if against.flips is not None:
        one = against.flips
        total = one.both + one.first + one.second + one.neither
        return (
            f"of {rows_words(total, 'test row')} {one.second:,} are right in B alone, "
            f"{one.first:,} in A alone, {one.both:,} in both, {one.neither:,} in neither; "
            f"McNemar's exact p = {number(one.p)}"
        )
    if against.errors is not None:
        before, after = against.errors
        return (
            f"of {rows_words(len(before), 'test row')} B is nearer to the truth in "
            f"{(after < before).sum():,}, A in {(before < after).sum():,}"
        )
    return ""


def costs_sheet(against: Against) -> TextTable:
    """Lay time and size of both beside each other."""
    lines = [[name, *texts] for name, texts in _costs(against)]
    return TextTable(title="time and size", headings=["", "A", "B"], lines=lines)


def _costs(against: Against) -> Iterator[tuple[str, list[str]]]:
    both = against.findings
    yield "network", [one.model for one in both]
    yield "weights", [f"{one.parameters:,}" if one.parameters else MISSING for one in both]
    sizes = (against.first.size, against.second.size)
    yield "model's file", [MISSING if size is None else size_words(size) for size in sizes]
    yield "time of training", [duration(one.seconds) if one.seconds else MISSING for one in both]
    yield "epochs", [f"{one.epochs} of {one.planned}" for one in both]
    yield "seconds an epoch", [_per_epoch(one) for one in both]
    yield "device", [one.device or MISSING for one in both]


def _per_epoch(findings: Findings) -> str:
    return number(findings.seconds / findings.epochs) if findings.epochs else MISSING


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{number(abs(value))}"


def _ends(ends: Sequence[float]) -> str:
    return f"{_signed(ends[0])} … {_signed(ends[1])}"
