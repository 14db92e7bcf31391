"""Whether a file is UTF-8, and what it is where it is not."""

from pathlib import Path

from pipeline.errors import DataError

SAVE_AS = "save it as UTF-8, as with: iconv -f {code} -t UTF-8 {name} > new.csv"
BLOCK_BYTES = 2**24


def require_utf8(path: Path, head: bytes) -> None:
    """Refuse what the first bytes of a file show to be another encoding, or no text at all.

    Raises:
        DataError: Names the encoding, or the line and byte.
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _looks_like_utf16(head):
        raise DataError(f"{path} is UTF-16; {SAVE_AS.format(code='UTF-16', name=path.name)}")
    if b"\0" in head:
        raise DataError(nul_problem(path))


def nul_problem(path: Path) -> str:
    """Say where the first NUL byte of a file is."""
    line, byte = _first(path, b"\0")
    return (
        f"{path} line {line} has a NUL byte (byte {byte} of the file): it is no text, or it was "
        "damaged; write it anew"
    )


def utf8_problem(path: Path) -> str | None:
    """Say where a file stops being UTF-8; None = it is UTF-8 throughout."""
    line = 0
    with path.open("rb") as file:
        for line, content in enumerate(file, start=1):
            try:
                content.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = content[error.start]
                return (
                    f"{path} line {line} has the byte 0x{byte:02x} "
                    f"({bytes([byte]).decode('latin-1')!r} in Latin-1), which is no UTF-8; "
                    f"{SAVE_AS.format(code='LATIN1', name=path.name)}"
                )
    return None


def _looks_like_utf16(head: bytes) -> bool:
    """Tell Latin letters of two bytes each, every other one NUL."""
    if len(head) < 4:
        return False
    return any(
        head[first::2].count(0) > 0.4 * len(head[first::2]) and head[1 - first :: 2].count(0) == 0
        for first in (0, 1)
    )


def _first(path: Path, sought: bytes) -> tuple[int, int]:
    """Return line and byte, both counted from 1, of the first place of one byte."""
    line, before = 1, 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            position = block.find(sought)
            if position >= 0:
                return line + block.count(b"\n", 0, position), before + position + 1
            line, before = line + block.count(b"\n"), before + len(block)
    return line, before
