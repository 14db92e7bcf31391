"""CSV files that a spreadsheet opens without running anything in them."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.paths import replace_text

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def cell(text: str) -> str:
    """Keep a spreadsheet from running a text as a formula; a number stays one."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) and not _is_number(text) else text


def csv_text(lines: Iterable[Iterable[Any]]) -> str:
    """Return the cells of lines as CSV, each line ended by a line feed."""
    text = _Text()
    csv.writer(text, lineterminator=_Text.END).writerows(lines)
    return "".join(text.lines)


def write_csv(path: Path, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    """Write a table whole or not at all."""
    replace_text(path, csv_text([header, *lines]))


class _Text:
    """Takes what a writer of CSV writes.

    Python before 3.13 quotes a cell for the letters that end a line alone, and a bare carriage
    return ends one for whoever reads the file; so that both are quoted, both end a line here.
    """

    END = "\r\n"

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        """Take a line with its end."""
        self.lines.append(f"{line.removesuffix(self.END)}\n")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
