"""Data report as text: lines, warnings, tables, and drift from another report."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import some
from pipeline.base.markup import MISSING, TextTable, plain
from pipeline.data.preparation.report import ColumnReport, DataReport

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
    absent = []
    if not report.constant:
        absent.append("constant")
    if not report.equal and report.of == "train":
        absent.append("duplicate")
    checks = []
    if absent:
        checks.append(f"no {' or '.join(absent)} {_unit(report)}s")
    if report.repeated == 0:
        checks.append("no train/test overlap")
    return ", ".join(checks)


def warnings(report: DataReport) -> list[str]:
    """Return a sentence for each property of the data that affects how to read the results."""
    sentences = []
    if report.constant:
        columns = len(report.columns) + report.unlisted
        share = f"{len(report.constant)} of {columns} {_unit(report)}s"
        names = _listed(report.constant)
        sentences.append(f"constant in the training rows: {names} ({share})")
    if report.equal and report.of == "train":
        pairs = [f"{first} = {second}" for first, second in report.equal]
        sentences.append(f"duplicate {_unit(report)}s: {_listed(pairs)}")
    if report.repeated:
        part = _part_name(report, "test")
        meaning = "as few different rows are possible"
        if not report.is_repetitive:
            meaning = "so their results are optimistic"
        sentences.append(
            f"{report.repeated} of {report.rows['test']:,} {part} rows have the inputs of a "
            f"training row, {meaning}"
        )
    for part in report.rows:
        absent = [class_.name for class_ in report.classes if not class_.rows[part]]
        if absent:
            sentences.append(f"no {_part_name(report, part)} rows of class {_listed(absent)}")
    return sentences


def few_rows(report: DataReport) -> list[str]:
    """Return a sentence, in a list, on classes that have few of the rows; empty = there are none.

    With more than 5 classes, few is less than half of an equal share.
    """
    counts = _class_counts(report)
    total = max(1, sum(counts.values()))
    least = min(FEW, 0.5 / max(1, len(counts)))
    rare_classes = []
    for name, count in counts.items():
        if count / total < least:
            rare_classes.append(f"{plain(name)} ({_percent(count / total)})")
    if not rare_classes:
        return []
    remedy = "loss.class_weights=balanced gives all classes the same weight"
    return [f"few rows of class {some(rare_classes, most=NAMED)}; {remedy}"]


def _class_counts(report: DataReport) -> dict[str, int]:
    return {class_.name: sum(class_.rows.values()) for class_ in report.classes}


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
    unlisted = max(0, len(report.columns) - SHOWN_COLUMNS) + report.unlisted
    if unlisted:
        notes.append(f"{unlisted:,} more columns are not listed")
    units = f", in {report.units}" if report.units else ""
    candidates = [
        _classes_table(report),
        _columns_table(f"target{units}", report.targets, []),
        _columns_table(f"{_unit(report)}s", report.columns, notes),
    ]
    return [table for table in candidates if table.lines]


def _classes_table(report: DataReport) -> TextTable:
    """Return the rows and the share of each class in each part."""
    lines = []
    for class_ in report.classes:
        line = [class_.name]
        for part, count in class_.rows.items():
            share = count / max(1, report.rows[part])
            line.append(f"{count:,} ({_percent(share)})")
        lines.append(line)
    return TextTable(title="rows by class", headings=["class", *report.rows], lines=lines)


def _content(report: DataReport) -> str:
    """Return the rows before and after the split, the size of a row, and the target in words."""
    count = sum(report.rows.values())
    if report.kind == "series":
        first, last, times = report.span
        rows = f"{int(times):,} times from {first} to {last}, {count:,} windows"
    else:
        rows = f"{count:,} rows"
    if len(report.rows) > 1:
        if report.left_out:
            rows = f"{count + report.left_out:,} → {rows}"
        parts = ", ".join(f"{part_count:,} {part}" for part, part_count in report.rows.items())
        rows = f"{rows}: {parts}".replace(" validation", " val")
    return f"{rows} · {_row(report)} · {_target(report)}"


def _row(report: DataReport) -> str:
    shape = report.shape
    if report.are_channels and len(shape) == 3:
        return f"{shape[1]}×{shape[2]} pixels" + _channels(shape[0])
    if report.are_channels and len(shape) == 2:
        return _count(shape[0], "step") + _channels(shape[1])
    if report.are_channels:
        return f"{shape[0]} numbers"
    columns = _count(len(report.columns) + report.unlisted, "column")
    categorical = sum(bool(column.levels) for column in report.columns)
    return f"{columns} ({categorical} with categories)" if categorical else columns


def _channels(count: int) -> str:
    return "" if count == 1 else f", {count} channels"


def _target(report: DataReport) -> str:
    if report.positive:
        counts = _class_counts(report)
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
    heading = "missing"
    shares = []
    for column in sorted(with_holes, key=lambda column: -column.missing):
        share = f"{plain(column.name)} {_percent(column.missing_share)}"
        if column.filled:
            heading = "filled"
            share += f" ({plain(column.filled)})"
        shares.append(share)
    cells = _count(sum(column.missing for column in with_holes), "cell")
    columns = _count(len(with_holes), _unit(report))
    listed = some(shares, most=NAMED)
    return {heading: f"{cells} in {columns} {_measured(report)}: {listed}"}


def _measured(report: DataReport) -> str:
    return "of the training rows" if report.of == "train" else "of the evaluated rows"


def _part_name(report: DataReport, part: str) -> str:
    """Return the name of a part; the only one of an evaluation may hold rows of any part."""
    return part if report.of == "train" else "evaluated"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _listed(names: Sequence[str]) -> str:
    return some([plain(name) for name in names], most=NAMED)


def _unit(report: DataReport) -> str:
    return "channel" if report.are_channels else "column"


def _count(number: int, unit: str) -> str:
    return f"1 {unit}" if number == 1 else f"{number:,} {unit}s"


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
    new_columns = {column.name: column for column in (*new.columns, *new.targets)}
    pairs = []
    for column in (*trained.columns, *trained.targets):
        if column.name in new_columns:
            pairs.append((column, new_columns[column.name]))
    drifts = []
    for column, new_column in pairs:
        index, differences = _differences(column, new_column, chance=CHANCE / len(pairs))
        if differences:
            drifts.append((index, f"{plain(column.name)}: {'; '.join(differences)}"))
    drifts.sort(key=lambda drift: -drift[0])
    lines = [line for _, line in drifts[:TOLD]]
    if len(drifts) > TOLD:
        lines.append(f"… and {len(drifts) - TOLD} more columns")
    return lines


def _differences(
    trained: ColumnReport, new: ColumnReport, *, chance: float
) -> tuple[float, list[str]]:
    """Return the stability index, and in words the differences less likely than `chance`."""
    from scipy.special import chdtri, ndtri  # type: ignore[import-untyped] # it brings no types

    differences = []
    share = (trained.missing + new.missing) / max(1, trained.rows + new.rows)
    variance = share * (1 - share) * (1 / max(1, trained.rows) + 1 / max(1, new.rows))
    least_difference = max(MORE_MISSING, -ndtri(chance / 2) * np.sqrt(variance))
    if abs(new.missing_share - trained.missing_share) > least_difference:
        missing = f"{_percent(new.missing_share)} missing"
        differences.append(f"{missing}, {_percent(trained.missing_share)} in training")
    have_equal_bins = (trained.levels, trained.edges) == (new.levels, new.edges)
    if not have_equal_bins or not trained.known:
        return 0.0, differences
    index = 0.0
    if new.known:
        before = _smoothed_shares(trained)
        after = _smoothed_shares(new)
        index = float(((after - before) * np.log(after / before)).sum())
        freedom = max(1, sum(share > 0 for share in trained.shares) - 1)
        chance_index = chdtri(freedom, chance) * (1 / trained.known + 1 / new.known)
        if index > LARGE and index > chance_index:
            differences.insert(0, f"{_shift(trained, new)} (stability index {index:.2f})")
    if new.unknown:
        differences.append(f"{new.unknown} of {new.rows} rows have a new category")
    absent = []  # levels whose absence is unlikely to be chance
    shares = zip(trained.levels, trained.shares, new.shares, strict=False)
    for name, trained_share, new_share in shares:
        probability = (1 - trained_share) ** new.known
        is_unlikely = probability < chance / len(trained.levels)
        if trained_share >= FEWEST_SHARE and new_share == 0 and is_unlikely:
            absent.append(name)
    if absent:
        differences.append(f"no rows with {_listed(absent)}")
    return index, differences


def _smoothed_shares(column: ColumnReport) -> NDArray[np.float64]:
    """Return the shares with half a row added to each count, so that no bin has a share of 0."""
    counts = np.asarray(column.shares) * column.known + 0.5
    return np.asarray(counts / counts.sum())


def _shift(trained: ColumnReport, new: ColumnReport) -> str:
    """Return the level whose share has changed most, or the means, in words."""
    if trained.levels:
        names = (*trained.levels, "other levels")
        changes = np.asarray(new.shares) - np.asarray(trained.shares)
        most = int(np.abs(changes).argmax())
        share = f"{plain(names[most])} {_percent(new.shares[most])}"
        return f"{share}, {_percent(trained.shares[most])} in training"
    return f"mean {_mean_and_deviation(new)}, {_mean_and_deviation(trained)} in training"


def _mean_and_deviation(column: ColumnReport) -> str:
    mean = "unknown" if column.mean is None else f"{column.mean:.4g}"
    deviation = "unknown" if column.deviation is None else f"{column.deviation:.4g}"
    return f"{mean} (sd {deviation})"
