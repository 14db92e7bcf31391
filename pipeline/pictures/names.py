"""Names in pictures: of any length, in any script, and never read as a formula."""

import unicodedata

LONGEST = 24
"""Columns that a name may take; a Chinese letter or an emoji takes two."""
_SELECTORS = {"\ufe0e", "\ufe0f"}  # ask for an emoji's look; no font that is drawn with has them


def short(name: str, most: int = LONGEST) -> str:
    """Return a name on one line, cut in its middle where it is longer than `most` columns."""
    kept = "".join(letter for letter in " ".join(name.split()) if _is_seen(letter))
    if not kept:
        return "''"
    if _columns(kept) <= most:
        return kept
    tail = _within(kept[::-1], (most - 1) // 2)[::-1]
    return f"{_within(kept, most - 1 - _columns(tail))}…{tail}"


def label(name: str, most: int = LONGEST) -> str:
    """Return a name as Matplotlib is to be given it: a dollar is no formula, `_` hides nothing."""
    text = short(name, most).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def layer_name(name: str, most: int = 28) -> str:
    """Return the name of a layer without what all of them begin with."""
    return short(name.removeprefix("layers."), most)


def _is_seen(letter: str) -> bool:
    return not unicodedata.category(letter).startswith("C") and letter not in _SELECTORS


def _columns(text: str) -> int:
    return sum(map(_width, text))


def _width(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _within(text: str, most: int) -> str:
    """Return as much of the beginning as fits."""
    taken = 0
    for index, letter in enumerate(text):
        taken += _width(letter)
        if taken > most:
            return text[:index]
    return text
