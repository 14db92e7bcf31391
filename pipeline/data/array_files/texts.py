"""The lines of a text file with their numbers, or the byte that is no text."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import DataError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, stripped of spaces, each with its number from 1.

    Raises:
        DataError: The file is not UTF-8, or holds a NUL byte; names line and byte.
    """
    with file.open("rb") as opened:
        for number, content in enumerate(opened, start=1):
            text = _text(content, f"{file.name} line {number}", first=number == 1).strip(" \r\n")
            if text.strip():
                yield number, text


def _text(content: bytes, where: str, *, first: bool) -> str:
    if first and content.startswith(_UTF16):
        raise DataError(f"{where} begins as UTF-16; expected UTF-8. Save the file as UTF-8")
    if b"\0" in content:
        raise DataError(
            f"{where} has a NUL byte at position {content.index(0)}; expected a text in UTF-8. "
            "Save the file as UTF-8"
        )
    try:
        return content.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where} has byte 0x{content[error.start]:02X} at position {error.start}, which is "
            "not UTF-8; save the file as UTF-8"
        ) from error
