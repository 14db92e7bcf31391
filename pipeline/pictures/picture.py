"""One picture: its place, its words for those who can't see it, and how it is drawn."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.canvas import drawing, own_style, save
from pipeline.paths import replace_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIST = "pictures.json"
"""File beside the pictures of a run that names them and says what each shows."""


class NotDrawnError(Exception):
    """Why a picture can't be drawn, in words that stand in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture that can be drawn.

    Args:
        name: Folder and file without its ending, as `curves/loss`.
        title: What it is, in a few words.
        alt: What can be seen in it, with its numbers, in a sentence or two.
        draw: Draws it, and raises `NotDrawnError` where that can't be done.
    """

    name: str
    title: str
    alt: str
    draw: "Callable[[], Figure]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A picture in a file, or the reason why there is none.

    Args:
        name: As of the picture.
        title: As of the picture.
        alt: As of the picture.
        file: Relative to the folder; empty where it could not be drawn.
        reason: Why it could not; empty where it was.
    """

    name: str
    title: str
    alt: str
    file: str
    reason: str = ""


def write_pictures(
    pictures: Iterable[Picture], folder: Path, *, texts: Iterable[str] = ()
) -> list[Written]:
    """Draw pictures as PNG into a folder, and list them in `pictures.json`.

    Args:
        pictures: What to draw.
        folder: Where to write; it is made where it is missing.
        texts: Names that the pictures hold; a font is looked up for letters that ours lacks.
    """
    with drawing(texts) as notes:
        written = [_written(picture, folder) for picture in pictures]
    about = {"name": "letters", "title": "Letters", "alt": "", "file": ""}
    written += [Written(**about, reason=note) for note in notes]
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(one) for one in written], ensure_ascii=False, indent=1)
    replace_text(folder / LIST, text + "\n")
    return written


def read_list(folder: Path) -> list[Written]:
    """Read what `write_pictures` has listed; an empty list where it has not."""
    file = folder / LIST
    if not file.is_file():
        return []
    return [Written(**one) for one in json.loads(file.read_text(encoding="utf-8"))]


def _written(picture: Picture, folder: Path) -> Written:
    from matplotlib import pyplot

    known = {"name": picture.name, "title": picture.title, "alt": picture.alt}
    file = f"{picture.name}.png"
    try:
        with own_style():
            figure = picture.draw()
            save(figure, folder / file)
            pyplot.close(figure)
    except Exception as error:  # no picture is worth a run's end
        reason = " ".join(str(error).split()) or type(error).__name__
        return Written(**known, file="", reason=reason)
    return Written(**known, file=file)
