"""A data report as a page of Markdown."""

from collections.abc import Sequence

from pipeline.data.column_report import ColumnReport
from pipeline.data.report import DataReport
from pipeline.data.report_text import NAMED, lines, which_rows
from pipeline.markup import bullets, escaped, markdown_table

SHOWN_COLUMNS = 100
"""Columns in a page's table."""


def markdown(report: DataReport) -> str:
    """Return the report as a page."""
    parts = ["# Data", bullets(escaped(line) for line in lines(report))]
    if report.classes:
        parts += ["## Classes", classes_table(report)]
    if report.targets:
        parts += ["## Target", _columns_table(report.targets)]
    title = "Channels" if report.are_channels else "Columns"
    parts += [f"## {title}", _columns_words(report), _columns_table(report.columns)]
    if report.notes:
        parts += ["## Notes", bullets(escaped(note) for note in report.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def classes_table(report: DataReport) -> str:
    """Return Markdown with the rows and the share of each class in each part."""
    totals = {part: max(1, rows) for part, rows in report.rows.items()}
    rows = [
        [escaped(one.name), *(f"{n} ({n / totals[p]:.1%})" for p, n in one.rows.items())]
        for one in report.classes
    ]
    return markdown_table(["class", *report.rows], rows)


def _columns_words(report: DataReport) -> str:
    rows, what = report.rows[report.of], f"rows {which_rows(report)}"
    if report.kind == "series":
        measured = f"{report.measured} times {which_rows(report)}"
    elif report.measured < rows:
        measured = f"{report.measured} evenly spaced ones of {rows} {what}"
    else:
        measured = f"all {rows} {what}"
    unlisted = max(0, len(report.columns) - SHOWN_COLUMNS) + report.unlisted
    more = f" {unlisted} further columns are left out here." if unlisted else ""
    return f"Measured on {measured}.{more}"


def _columns_table(columns: Sequence[ColumnReport]) -> str:
    headings = ["name", "missing", "mean", "sd", "smallest", "largest", "most frequent"]
    return markdown_table(headings, map(_cells, columns[:SHOWN_COLUMNS]))


def _cells(column: ColumnReport) -> list[str]:
    numbers = (column.mean, column.deviation, column.minimum, column.maximum)
    shown = ["–" if value is None else f"{value:.5g}" for value in numbers]
    levels = zip(column.levels[:NAMED], column.shares, strict=False)
    frequent = ", ".join(f"{escaped(name)} {share:.1%}" for name, share in levels) or "–"
    return [escaped(column.name), str(column.missing), *shown, frequent]
