"""Data report as text: lines, warnings, a page of Markdown, and drift from another report."""

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.data.report import ColumnReport, DataReport
from pipeline.errors import some
from pipeline.markup import bullets, escaped, markdown_table, plain

#: Most names in a line before "…".
NAMED = 5
#: Most columns in the table of a page.
SHOWN_COLUMNS = 100
#: Words for parts, where they differ from the names.
PARTS = {"train": "training"}

#: Stability index above which a shift of the distribution counts as large in the literature.
LARGE = 0.25
#: Probability of a false alarm in a whole table.
CHANCE = 1e-3
MORE_MISSING = 0.05
#: Smallest share of a level in training for its absence to be reported.
FEWEST_SHARE = 0.01
#: Most lines before "…".
TOLD = 8


def lines(report: DataReport) -> list[str]:
    """Return four lines: the data, the target, the missing values and the checks."""
    target = _classes(report) if report.classes else _values(report)
    checked = f"checked {'; '.join(_checked(report))}"
    return [f"data    {_content(report)}", target, f"missing {_missing(report)}", checked]


def warnings(report: DataReport) -> list[str]:
    """Return a sentence for each property of the data that affects how to read the results."""
    count, all_there = len(report.constant), len(report.columns) + report.unlisted
    constant = (
        f"{count} of {all_there} {_unit(report)}s are constant in the training part and say "
        f"nothing: {_named(report.constant)}"
    )
    equal = f"{_unit(report)}s that hold the same: {_equal(report)}"
    told = ((count, constant), (report.equal, equal), (report.repeated, _leak(report)))
    return [*(words for is_so, words in told if is_so), *_absences(report)]


def markdown(report: DataReport) -> str:
    """Return the report as a page of Markdown."""
    parts = ["# Data", bullets(escaped(line) for line in lines(report))]
    if report.classes:
        parts += ["## Classes", classes_table(report)]
    if report.targets:
        parts += ["## Target", _columns_table(report.targets)]
    rows, what = report.rows[report.of], f"rows {_measured(report)}"
    if report.kind == "series":
        measured = f"{report.measured} times {_measured(report)}"
    elif report.measured < rows:
        measured = f"{report.measured} evenly spaced ones of {rows} {what}"
    else:
        measured = f"all {rows} {what}"
    unlisted = max(0, len(report.columns) - SHOWN_COLUMNS) + report.unlisted
    more = f" {unlisted} further columns are left out here." if unlisted else ""
    title, table = "Channels" if report.are_channels else "Columns", _columns_table(report.columns)
    parts += [f"## {title}", f"Measured on {measured}.{more}", table]
    if report.notes:
        parts += ["## Notes", bullets(escaped(note) for note in report.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def classes_table(report: DataReport) -> str:
    """Return a Markdown table with the rows and the share of each class in each part."""
    totals = {part: max(1, rows) for part, rows in report.rows.items()}
    rows = [
        [escaped(one.name), *(f"{n} ({n / totals[p]:.1%})" for p, n in one.rows.items())]
        for one in report.classes
    ]
    return markdown_table(["class", *report.rows], rows)


def _content(report: DataReport) -> str:
    rows = sum(report.rows.values())
    if report.kind == "series":
        first, last, times = report.span
        names = _named([column.name for column in report.columns])
        channels = plain(f"{_count(len(report.columns), 'column')}: {names}")
        return f"{times} times from {first} to {last}, {rows} windows; {channels}"
    target = f"target {plain(report.label)}, " if report.label else ""
    return f"{rows} rows of {_row(report)}; {target}{report.task}"


def _row(report: DataReport) -> str:
    shape = report.shape
    if report.are_channels and len(shape) == 3:
        return f"{shape[1]}×{shape[2]} pixels, {_count(shape[0], 'channel')}"
    if report.are_channels and len(shape) == 2:
        return f"{_count(shape[0], 'step')}, {_count(shape[1], 'channel')}"
    if report.are_channels:
        return f"{shape[0]} numbers"
    words = sum(bool(column.levels) for column in report.columns)
    kinds = f"{len(report.columns) - words} with numbers, {words} with categories"
    if words in (0, len(report.columns)):
        kinds = "categories" if words else "numbers"
    return f"{_count(len(report.columns) + report.unlisted, 'column')} ({kinds})"


def _classes(report: DataReport) -> str:
    counts = {one.name: sum(one.rows.values()) for one in report.classes}
    total = max(1, sum(counts.values()))
    ordered = sorted(counts, key=lambda name: -counts[name])
    if len(ordered) > NAMED and len(set(counts.values())) == 1:
        words = f"{len(ordered)}, {1 / len(ordered):.1%} each"
    elif len(ordered) <= NAMED:
        words = ", ".join(f"{plain(name)} {counts[name] / total:.1%}" for name in ordered)
    else:
        most, least = (f"{counts[n] / total:.1%} ({plain(n)})" for n in (ordered[0], ordered[-1]))
        words = f"{len(ordered)}, from {most} down to {least}"
    positive = f"; {plain(report.positive)} is positive" if report.positive else ""
    absent = "".join(f"; {sentence}" for sentence in _absences(report))
    return f"classes {words}{positive}{absent}"


def _absences(report: DataReport) -> Iterator[str]:
    """Yield a sentence for each part that lacks classes."""
    for part in report.rows:
        absent = [one.name for one in report.classes if not one.rows[part]]
        if absent:
            yield f"no {PARTS.get(part, part)} row is of class {_named(absent)}"


def _values(report: DataReport) -> str:
    """Return the line on the targets of a regression; those of a series are among its channels."""
    units = f" {plain(report.units)}" if report.units else ""
    wanted = report.targets
    if not wanted:
        names = report.label.split(", ")
        wanted = tuple(one for one in report.columns if one.name in names)
    words = []
    for one in wanted[:NAMED]:
        figures = (one.minimum, one.maximum, one.mean, one.deviation)
        shown = "without a value"
        if None not in figures:
            shown = "{:.5g} … {:.5g} (mean {:.4g}, sd {:.3g})".format(*figures)
        words.append(f"{plain(one.name)} {shown}{units}")
    more = "; …" if len(wanted) > NAMED else ""
    where = "" if report.of == "test" else " in the training part"
    return f"target  {'; '.join(words)}{more}{where}"


def _missing(report: DataReport) -> str:
    with_holes = [column for column in report.columns if column.missing]
    if not with_holes:
        return "none"
    words = [
        f"{plain(column.name)} {column.missing_share:.1%}"
        + (f" ({plain(column.filled)})" if column.filled else "")
        for column in sorted(with_holes, key=lambda column: -column.missing)
    ]
    return (
        f"{_count(sum(c.missing for c in with_holes), 'cell')} {_measured(report)}, in "
        f"{_count(len(with_holes), _unit(report))}; share and what is put in: "
        f"{some(words, most=NAMED)}"
    )


def _checked(report: DataReport) -> Iterator[str]:
    unit, count = _unit(report), len(report.constant)
    one, several = "becomes 0", "become 0"
    if report.scaled == "none":
        one, several = "stays as it is", "stay as they are"
    effect = f"which {one if count == 1 else several}: {_named(report.constant)}"
    yield f"{_count(count, f'constant {unit}')}, {effect}" if count else f"no constant {unit}"
    same = f"the same twice, both are kept: {_equal(report)}"
    yield same if report.equal else f"no {unit} twice"
    if report.repeated is not None:
        yield _leak(report) if report.repeated else f"no {_tested(report)} also trains"


def _leak(report: DataReport) -> str:
    return (
        f"{report.repeated} of {report.rows['test']} {_tested(report)}s have inputs that also "
        "stand in the training part: the test flatters the network there"
    )


def _measured(report: DataReport) -> str:
    return "of the training part" if report.of == "train" else "of those evaluated"


def _tested(report: DataReport) -> str:
    return "test row" if report.of == "train" else "evaluated row"


def _equal(report: DataReport) -> str:
    return _named([f"{one} = {other}" for one, other in report.equal])


def _named(names: Sequence[str]) -> str:
    return some([plain(name) for name in names], most=NAMED)


def _unit(report: DataReport) -> str:
    return "channel" if report.are_channels else "column"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _columns_table(columns: Sequence[ColumnReport]) -> str:
    headings = ["name", "missing", "mean", "sd", "smallest", "largest", "most frequent"]
    rows = []
    for column in columns[:SHOWN_COLUMNS]:
        numbers = (column.mean, column.deviation, column.minimum, column.maximum)
        shown = ["–" if value is None else f"{value:.5g}" for value in numbers]
        levels = zip(column.levels[:NAMED], column.shares, strict=False)
        frequent = ", ".join(f"{escaped(name)} {share:.1%}" for name, share in levels) or "–"
        rows.append([escaped(column.name), str(column.missing), *shown, frequent])
    return markdown_table(headings, rows)


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
        words = [f"{q:.1%} are missing and {p:.1%} were"]
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
        words.append(f"{now.unknown} of {now.rows} rows have a level that training never saw")
    levels = zip(then.levels, then.shares, now.shares, strict=False)
    gone = [  # levels whose absence is unlikely to be chance
        name
        for name, p, q in levels
        if p >= FEWEST_SHARE and q == 0 and (1 - p) ** now.known < chance / len(then.levels)
    ]
    return index, [*words, *([f"no row has {_named(gone)}"] if gone else [])]


def _moved(then: ColumnReport, now: ColumnReport) -> str:
    if then.levels:
        names = (*then.levels, "other levels")
        changes = np.asarray(now.shares) - np.asarray(then.shares)
        most = int(np.abs(changes).argmax())
        return f"{plain(names[most])} is {now.shares[most]:.1%} and was {then.shares[most]:.1%}"
    figures = (now.mean, now.deviation, then.mean, then.deviation)
    shown = ("unknown" if value is None else f"{value:.4g}" for value in figures)
    return "mean {} (sd {}) and was {} (sd {})".format(*shown)
