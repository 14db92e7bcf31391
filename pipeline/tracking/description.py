"""The description of a run or study on MLflow's page, which renders GitHub's Markdown."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from pipeline.base.markup import (
    Block,
    Command,
    Section,
    TextTable,
    bullets,
    escaped,
    fenced,
    markdown_table,
    sentence,
)
from pipeline.tracking.fields import MAX_TAG, TRAINING_PAGES
from pipeline.tracking.folders import read_state

#: Longest name in characters: a longer word would push half of the page out of sight.
LONGEST = 60
#: Widest picture, in pixels, that fits the page's column in a window of usual width.
WIDEST = 720
# `@name` and addresses would become links, `:sign:` an emoji, and `\$` would keep its backslash.
_CHANGED = re.compile(r"\\\$|@|:(?=\S)|www\.", re.IGNORECASE)


def description(
    blocks: Sequence[Block],
    folder: Path,
    *,
    shown: Mapping[str, tuple[str, str]],
    linked: Mapping[str, str],
) -> str:
    """Return as many blocks, pictures and links as fit into a description, in this order.

    The page shows four lines until it is expanded, so the first lines are the most important.

    Args:
        blocks: What is said of the run or study.
        folder: Its folder; its artifacts are named by their paths in `artifacts`.
        shown: Title and alternative text of each picture that the page shows.
        linked: What each further file is called; one that does not exist is left out.
    """
    state = read_state(folder)
    parts = [as_note(block) for block in blocks]
    if state.run_id:
        for path, (title, words) in shown.items():
            address = f"get-artifact?path={quote(path)}&run_uuid={quote(state.run_id)}"
            parts.append(_with_title(title, f"![{as_text(words)}]({address})"))
    if state.run_id and state.experiment_id:
        place = f"#/experiments/{quote(state.experiment_id)}/runs/{quote(state.run_id)}/artifacts"
        links = []
        for path, words in linked.items():
            if path not in shown and (folder / "artifacts" / path).is_file():
                links.append(f"[{as_text(words)}]({place}/{quote(path)}?{TRAINING_PAGES})")
        parts.append(_with_title("Files", ", ".join(links)))
    text = "\n\n".join(filter(None, parts))
    while len(text) > MAX_TAG and len(parts) > 1:
        parts.pop()
        text = "\n\n".join(filter(None, parts))
    return text


def fits(file: Path) -> bool:
    """Return whether a PNG exists and is narrow enough for the page, which shows it full size."""
    try:
        with file.open("rb") as content:
            head = content.read(24)
    except OSError:
        return False
    return len(head) == 24 and int.from_bytes(head[16:20]) <= WIDEST


def as_note(block: Block) -> str:
    """Return a part of a document as Markdown for MLflow's page.

    The page wraps inline code, unlike a code block, and omits the space between and below cells.
    """
    match block:
        case Section(title, blocks):
            return _with_title(title, "\n\n".join(map(as_note, blocks)))
        case TextTable(title=title, notes=notes):
            table = markdown_table(block, _name_text, gap="&emsp;")
            return _with_title(title, "\n\n".join([table, "<br>", *map(as_text, notes)]))
        case Command(text):
            return fenced(text, "sh") if "`" in text or "\n" in text else f"`{text}`"
        case str():
            return as_text(sentence(block))
        case Mapping():
            return bullets(as_text(f"{name}: {text}") for name, text in block.items())
    lines = []
    for item in block:
        lines.append(as_note(item) if isinstance(item, Command) else as_text(item))
    return bullets(lines)


def as_text(text: str) -> str:
    """Return a text escaped such that MLflow's page shows it unchanged."""
    return _CHANGED.sub(_as_character_references, escaped(text))


def _as_character_references(match: re.Match[str]) -> str:
    signs = match[0].removeprefix("\\")
    return "".join(f"&#{ord(sign)};" for sign in signs)


def _name_text(name: str) -> str:
    """Return a name as text, cut at its end if it is very long."""
    return as_text(name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…")


def _with_title(title: str, content: str) -> str:
    return f"**{as_text(title)}**\n\n{content}" if content else ""
