"""Texts that anybody may have written, put into Markdown or a terminal as nothing but text."""

import re
from collections.abc import Iterable, Sequence

_SIGNS = re.compile(r"([\\`*_\[\]#|~$]|^[+-])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def plain(text: str) -> str:
    """Return a text on one line, without signs that would move a terminal's cursor."""
    return "".join(sign if sign.isprintable() else "�" for sign in " ".join(text.split()))


def escaped(text: str) -> str:
    """Return a text that Markdown shows as it stands."""
    html = "".join(_HTML.get(sign, sign) for sign in plain(text))
    return _SIGNS.sub(r"\\\1", html)


def table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already; all but the first column are numbers."""
    rules = [":---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, rules, *lines))


def fenced(text: str, language: str = "") -> str:
    """Return a text as a block of code, whatever it holds."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def bullets(lines: Iterable[str]) -> str:
    """Return Markdown lines as a list."""
    return "\n".join(f"- {line}" for line in lines)
