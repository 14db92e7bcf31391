"""Rows of text as a person, or the next program in a pipe, wants them."""

import sys
from collections.abc import Sequence


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows as a table in a terminal, and as tab-separated lines in a pipe."""
    if not sys.stdout.isatty():
        print("\n".join(map("\t".join, [headings, *rows])))
        return
    from rich.table import Table

    from pipeline.terminal import console

    table = Table(*headings, box=None)
    for row in rows:
        table.add_row(*row)
    console().print(table)
