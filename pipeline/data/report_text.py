"""Data report as text: lines, warnings, tables, and drift from another report."""

from collections.abc import Sequence

import numpy as np

from pipeline.data.report import ColumnReport, DataReport
from pipeline.errors import some
from pipeline.markup import MISSING, TextTable, plain

#: Most names in a line before "…".
NAMED = 5
#: Share of the rows below which a class has few.
FEW = 0.1
#: Most columns in a table.
SHOWN_COLUMNS = 100

#: Stability index above which a shift of the distribution counts as large in the literature.
LARGE = 0.25
#: Probability of a false alarm in a whole table.
CHANCE = 1e-3
MORE_MISSING = 0.05
#: Smallest share of a level in training for its absence to be reported.
FEWEST_SHARE = 0.01
#: Most lines before "…".
TOLD = 8


def facts_of(report: DataReport) -> dict[str, str]:
    """Return in words, by name: the data, the missing values, and the checks that found nothing."""
    facts = {"data": _content(report), **_missing(report), "checks": _clean_checks(report)}
    return {name: text for name, text in facts.items() if text}


def lines(report: DataReport, *, details: bool = False) -> list[str]:
    """Return a line on the data, and one for each thing in them that the user should know.

    With `details`, lines on what is in order follow.
    """
    facts = facts_of(report)
    if not details:
        facts.pop("checks", None)
        if facts.get("missing") == "none":
            del facts["missing"]
    shown = [f"{name:8}{text}" for name, text in facts.items()]
    return [*shown, *(f"warning: {words}" for words in warnings(report))]


def _clean_checks(report: DataReport) -> str:
    sought = {"constant": report.constant, "duplicate": report.equal or report.of != "train"}
    absent = " or ".join(word for word, problems in sought.items() if not problems)
    clean = [f"no {absent} {_unit(report)}s"] if absent else []
    if report.repeated == 0:
        clean.append("no train/test overlap")
    return ", ".join(clean)


def warnings(report: DataReport) -> list[str]:
    """Return a sentence for each property of the data that affects how to read the results."""
    count, columns = len(report.constant), len(report.columns) + report.unlisted
    told = []
    if count:
        of = f"{count} of {columns} {_unit(report)}s"
        told.append(f"constant in the training rows: {_named(report.constant)} ({of})")
    if report.equal and report.of == "train":
        pairs = [f"{one} = {other}" for one, other in report.equal]
        told.append(f"duplicate {_unit(report)}s: {_named(pairs)}")
    if report.repeated:
        part = _word(report, "test")
        told.append(
            f"{report.repeated} of {report.rows['test']:,} {part} rows have the inputs of a "
            "training row, so their results are optimistic"
        )
    for part in report.rows:
        if absent := [one.name for one in report.classes if not one.rows[part]]:
            told.append(f"no {_word(report, part)} rows of class {_named(absent)}")
    return told


def few_rows(report: DataReport) -> list[str]:
    """Return a sentence, in a list, on classes that have few of the rows; empty = there are none.

    With more than 5 classes, few is less than half of an equal share.
    """
    counts = {one.name: sum(one.rows.values()) for one in report.classes}
    total, least = max(1, sum(counts.values())), min(FEW, 0.5 / max(1, len(counts)))
    few = [f"{plain(n)} ({_percent(c / total)})" for n, c in counts.items() if c / total < least]
    if not few:
        return []
    remedy = "loss.class_weights=balanced gives all classes the same weight"
    return [f"few rows of class {some(few, most=NAMED)}; {remedy}"]


def tables(report: DataReport) -> list[TextTable]:
    """Return the tables of the classes, the targets of a regression, and the columns or channels.

    Those of a series are measured over its times, all others over rows.
    """
    rows = report.rows[report.of]
    part = _measured(report).removeprefix("of the ")
    if report.kind == "series":
        measured = f"{report.measured} times {_measured(report)}"
    elif report.measured < rows:
        measured = f"{report.measured:,} evenly spaced rows out of {rows:,} {part}"
    else:
        measured = f"all {rows:,} {part}"
    notes = [f"measured on {measured}"]
    if unlisted := max(0, len(report.columns) - SHOWN_COLUMNS) + report.unlisted:
        notes.append(f"{unlisted:,} more columns are not listed")
    units = f", in {report.units}" if report.units else ""
    every = [
        _classes_table(report),
        _columns_table(f"target{units}", report.targets, []),
        _columns_table(f"{_unit(report)}s", report.columns, notes),
    ]
    return [table for table in every if table.lines]


def _classes_table(report: DataReport) -> TextTable:
    """Return the rows and the share of each class in each part."""
    lines = []
    for each in report.classes:
        shares = {part: count / max(1, report.rows[part]) for part, count in each.rows.items()}
        cells = [f"{count:,} ({_percent(shares[part])})" for part, count in each.rows.items()]
        lines.append([each.name, *cells])
    return TextTable(title="rows by class", headings=["class", *report.rows], lines=lines)


def _content(report: DataReport) -> str:
    """Return the rows before and after the split, the size of a row, and the target in words."""
    rows = f"{sum(report.rows.values()):,} {'windows' if report.kind == 'series' else 'rows'}"
    if report.kind == "series":
        first, last, times = report.span
        rows = f"{int(times):,} times from {first} to {last}, {rows}"
    if len(report.rows) > 1:
        parts = (f"{count:,} {part}" for part, count in report.rows.items())
        before = f"{sum(report.rows.values()) + report.left_out:,} → " if report.left_out else ""
        rows = f"{before}{rows}: {', '.join(parts)}".replace(" validation", " val")
    return f"{rows} · {_row(report)} · {_target(report)}"


def _row(report: DataReport) -> str:
    shape = report.shape
    if report.are_channels and len(shape) == 3:
        return f"{shape[1]}×{shape[2]} pixels" + _channels(shape[0])
    if report.are_channels and len(shape) == 2:
        return _count(shape[0], "step") + _channels(shape[1])
    if report.are_channels:
        return f"{shape[0]} numbers"
    words = sum(bool(column.levels) for column in report.columns)
    kinds = f" ({words} with categories)" if words else ""
    return f"{_count(len(report.columns) + report.unlisted, 'column')}{kinds}"


def _channels(count: int) -> str:
    return "" if count == 1 else f", {count} channels"


def _target(report: DataReport) -> str:
    if report.positive:
        counts = {one.name: sum(one.rows.values()) for one in report.classes}
        share = counts.get(report.positive, 0) / max(1, sum(counts.values()))
        return f"{plain(report.positive)}: {_percent(share)}"
    label = f" of {plain(report.label)}" if report.label else ""
    if report.classes:
        return f"{len(report.classes)} classes{label}"
    return f"regression{label}"


def _missing(report: DataReport) -> dict[str, str]:
    with_holes = [column for column in report.columns if column.missing]
    if not with_holes:
        return {"missing": "none"}
    words = [
        f"{plain(column.name)} {_percent(column.missing_share)}"
        + (f" ({plain(column.filled)})" if column.filled else "")
        for column in sorted(with_holes, key=lambda column: -column.missing)
    ]
    heading = "filled" if any(column.filled for column in with_holes) else "missing"
    cells = _count(sum(c.missing for c in with_holes), "cell")
    columns = _count(len(with_holes), _unit(report))
    listed = some(words, most=NAMED)
    return {heading: f"{cells} in {columns} {_measured(report)}: {listed}"}


def _measured(report: DataReport) -> str:
    return "of the training rows" if report.of == "train" else "of the evaluated rows"


def _word(report: DataReport, part: str) -> str:
    """Return the name of a part; the only one of an evaluation may hold rows of any part."""
    return part if report.of == "train" else "evaluated"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _named(names: Sequence[str]) -> str:
    return some([plain(name) for name in names], most=NAMED)


def _unit(report: DataReport) -> str:
    return "channel" if report.are_channels else "column"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _columns_table(title: str, columns: Sequence[ColumnReport], notes: list[str]) -> TextTable:
    headings = ["name", "missing", "mean", "sd", "from", "to", "most frequent"]
    lines = []
    for column in columns[:SHOWN_COLUMNS]:
        numbers = (column.mean, column.deviation, column.minimum, column.maximum)
        cells = [MISSING if value is None else f"{value:.5g}" for value in numbers]
        levels = zip(column.levels[:NAMED], column.shares, strict=False)
        frequent = ", ".join(f"{name} {_percent(share)}" for name, share in levels)
        lines.append([column.name, f"{column.missing:,}", *cells, frequent or MISSING])
    if not any(column.levels for column in columns):
        headings.pop()
        lines = [line[:-1] for line in lines]
    words = frozenset({0, 6})
    return TextTable(title=title, headings=headings, lines=lines, words=words, notes=notes)


def drifted(trained: DataReport, new: DataReport) -> list[str]:
    """Return a line for each column that has drifted, the largest index first, `TOLD` at most.

    `new` must have been made with `like=trained`. Drift is reported if the population stability
    index over the deciles or levels of the training part is both large and unlikely for rows of
    the same distribution. The first condition ignores tiny effects in large tables, the second one
    chance in small tables. Twice the sum of the rows' information is chi-squared (Kullback 1959);
    for the index see Yurdakul and Naranjo 2020.
    """
    before = (*trained.columns, *trained.targets)
    now = {column.name: column for column in (*new.columns, *new.targets)}
    pairs = [(column, now[column.name]) for column in before if column.name in now]
    found = [(*_differences(*pair, chance=CHANCE / len(pairs)), pair[0].name) for pair in pairs]
    found = sorted((one for one in found if one[1]), key=lambda one: -one[0])
    told = [f"{plain(name)}: {'; '.join(words)}" for _, words, name in found[:TOLD]]
    return [*told, *([f"… and {len(found) - TOLD} more columns"] if len(found) > TOLD else [])]


def _differences(
    then: ColumnReport, now: ColumnReport, *, chance: float
) -> tuple[float, list[str]]:
    """Return the stability index, and in words the differences less likely than `chance`."""
    from scipy.special import chdtri, ndtri  # type: ignore[import-untyped] # it brings no types

    words = []
    p, q = then.missing_share, now.missing_share
    both = (then.missing + now.missing) / max(1, then.rows + now.rows)
    spread = both * (1 - both) * (1 / max(1, then.rows) + 1 / max(1, now.rows))
    if abs(q - p) > max(MORE_MISSING, -ndtri(chance / 2) * np.sqrt(spread)):
        words = [f"{_percent(q)} missing, {_percent(p)} in training"]
    if (then.levels, then.edges) != (now.levels, now.edges) or not then.known:
        return 0.0, words
    index = 0.0
    if now.known:  # half a row is added to each count, so that no bin has a share of 0
        counts = (np.asarray(one.shares) * one.known + 0.5 for one in (then, now))
        before, after = (count / count.sum() for count in counts)
        index = float(((after - before) * np.log(after / before)).sum())
    freedom = max(1, sum(share > 0 for share in then.shares) - 1)
    if index > LARGE and index > chdtri(freedom, chance) * (1 / then.known + 1 / now.known):
        words.insert(0, f"{_moved(then, now)} (stability index {index:.2f})")
    if now.unknown:
        words.append(f"{now.unknown} of {now.rows} rows have a new category")
    levels = zip(then.levels, then.shares, now.shares, strict=False)
    gone = [  # levels whose absence is unlikely to be chance
        name
        for name, p, q in levels
        if p >= FEWEST_SHARE and q == 0 and (1 - p) ** now.known < chance / len(then.levels)
    ]
    return index, [*words, *([f"no rows with {_named(gone)}"] if gone else [])]


def _moved(then: ColumnReport, now: ColumnReport) -> str:
    if then.levels:
        names = (*then.levels, "other levels")
        changes = np.asarray(now.shares) - np.asarray(then.shares)
        most = int(np.abs(changes).argmax())
        shares = _percent(now.shares[most]), _percent(then.shares[most])
        return "{} {}, {} in training".format(plain(names[most]), *shares)
    figures = (now.mean, now.deviation, then.mean, then.deviation)
    shown = ("unknown" if value is None else f"{value:.4g}" for value in figures)
    return "mean {} (sd {}), {} (sd {}) in training".format(*shown)
