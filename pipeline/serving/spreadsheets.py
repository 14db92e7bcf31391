"""CSV files that a spreadsheet opens without running anything in them."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.paths import replace_text

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def cell(text: str) -> str:
    """Keep a spreadsheet from running a text as a formula; a number stays one."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) and not _is_number(text) else text


def write_csv(path: Path, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    """Write a table whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    replace_text(path, text.getvalue())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
