"""Where pictures are drawn: without a screen, in a font that has the letters."""

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.paths import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 110
LIKELY = ("CJK", "Han Sans", "WenQuanYi", "YaHei", "PingFang", "Hei", "Gothic", "Noto Sans")
"""Parts of the names of fonts that have the letters of most scripts; these are looked at first."""

BOXES = "Last Resort"
"""Matplotlib's own font that has every letter, as a box."""


@contextmanager
def drawing(texts: Iterable[str] = ()) -> Iterator[list[str]]:
    """Draw without a screen and leave Matplotlib's settings and figures as they were.

    Args:
        texts: All that will be written; a font is looked up for letters that ours lacks.

    Yields:
        Notes: the letters that no font of this machine has.
    """
    import matplotlib as mpl

    if "matplotlib.pyplot" not in sys.modules:  # who has imported it has chosen where it draws
        mpl.use("Agg")
    from matplotlib import pyplot

    before = set(pyplot.get_fignums())
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of experimental functions, and letters without a font
        fonts, notes = _fonts_for("".join(texts))
        mpl.rcParams["font.family"] = fonts
        try:
            yield notes
        finally:
            for figure in set(pyplot.get_fignums()) - before:
                pyplot.close(figure)


@contextmanager
def own_style() -> Iterator[None]:
    """Keep the style that one picture sets from the next."""
    import matplotlib as mpl

    with mpl.rc_context():
        yield


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(
        path,
        lambda file: figure.savefig(file, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight"),
    )


def _fonts_for(text: str) -> tuple[list[str], list[str]]:
    """Return the fonts that have the letters, ours first, and a note on those none has."""
    from matplotlib import font_manager

    usual = font_manager.FontProperties().get_family()
    lacking = _lacking(font_manager.findfont(font_manager.FontProperties()), set(text))
    found, lacking = _found(lacking)
    if lacking and _add_new_fonts():
        more, lacking = _found(lacking)
        found += more
    if not lacking:
        return [*usual, *found], []
    letters = "".join(sorted(lacking))[:12]
    note = f"no font here has the letters {letters}; the pictures show boxes instead"
    return [*usual, *found], [note]


def _found(lacking: set[str]) -> tuple[list[str], set[str]]:
    """Return names of fonts that have some of the letters, and the letters that none has."""
    from matplotlib import font_manager

    found: list[str] = []
    for entry in sorted(font_manager.fontManager.ttflist, key=_unlikely):
        if not lacking:
            break
        left = lacking if BOXES in entry.name else _lacking(entry.fname, lacking)
        if len(left) < len(lacking):
            found.append(entry.name)
            lacking = left
    return found, lacking


def _add_new_fonts() -> bool:
    """Look for fonts that were installed since Matplotlib last made its list."""
    from matplotlib import font_manager

    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    new = [file for file in font_manager.findSystemFonts() if file not in known]
    for file in new:
        with suppress(OSError, RuntimeError):  # a font that can't be read helps nobody
            font_manager.fontManager.addfont(file)
    return bool(new)


def _unlikely(entry: object) -> bool:
    return not any(part in getattr(entry, "name", "") for part in LIKELY)


def _lacking(font_file: str, letters: set[str]) -> set[str]:
    from matplotlib.ft2font import FT2Font

    try:
        known = FT2Font(font_file).get_charmap()
    except (OSError, RuntimeError):
        return letters  # a font that has gone or can't be read helps nobody
    return {letter for letter in letters if letter > " " and ord(letter) not in known}
