"""Pictures on their way into a page: drawn, or with the reason why they are not."""

import base64
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from markupsafe import Markup

from pipeline.pictures.picture import DOTS_PER_INCH, Picture, drawing, own_style
from pipeline.reporting.svg import inline_svg, page_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS_PER_INCH = 72
WIDE = 500.0  # points
LARGEST_SVG = 1_500_000
"""Letters of a picture above which it is given as pixels: a browser is slow with so many lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture of a page.

    Args:
        key: Tells it from the others of the page; a word for an anchor.
        folder: What it belongs to, such as `curves`; empty where it stands alone.
        title: What it is.
        alt: What is seen in it.
        content: The element that shows it; `None` where it could not be drawn.
        width: Of that, in points.
        reason: Why it could not; empty where it was.
    """

    key: str
    folder: str
    title: str
    alt: str
    content: Markup | None
    width: float = 0.0
    reason: str = ""

    @property
    def is_wide(self) -> bool:
        """Whether it takes the whole width of a page."""
        return self.width > WIDE


def drawn(
    pictures: Iterable[Picture], *, texts: Iterable[str] = (), prefix: str = "picture"
) -> list[Shown]:
    """Draw pictures as elements of one page.

    Args:
        pictures: What to draw.
        texts: Names that the pictures hold; a font is looked up to measure letters ours lacks.
        prefix: Begins their keys; no other pictures of the page have it.
    """
    with drawing(texts):
        return [_shown(picture, f"{prefix}-{n}") for n, picture in enumerate(pictures)]


def _shown(picture: Picture, key: str) -> Shown:
    content, width, reason = None, 0.0, ""
    try:
        content, width = _drawing(picture, key)
        if len(content) > LARGEST_SVG:
            content, width = _pixels(picture)
    except Exception as error:  # no picture is worth a page
        reason = " ".join(str(error).split()) or type(error).__name__
    return Shown(
        key=key,
        folder=picture.name.rpartition("/")[0],
        title=picture.title,
        alt=picture.alt,
        content=content,
        width=width,
        reason=reason,
    )


def _drawing(picture: Picture, key: str) -> tuple[Markup, float]:
    with own_style(), page_colours(), _closed(picture) as figure:
        text, width = inline_svg(figure, prefix=key, alt=picture.alt)
    return Markup(text), width  # an XML writer has escaped it


def _pixels(picture: Picture) -> tuple[Markup, float]:
    """Return a picture as PNG on white, in the page itself, and its width in points."""
    written = BytesIO()
    with own_style(), _closed(picture) as figure:
        figure.savefig(
            written, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight", facecolor="white"
        )
        width = float(figure.get_size_inches()[0]) * POINTS_PER_INCH
    code = base64.b64encode(written.getvalue()).decode("ascii")
    element = Markup('<img style="--width: {:.0f}pt" alt="{}" src="data:image/png;base64,{}">')
    return element.format(width, picture.alt, code), width


@contextmanager
def _closed(picture: Picture) -> "Iterator[Figure]":
    """Draw a picture, and let go of its figure afterwards."""
    from matplotlib import pyplot

    figure = picture.draw()
    try:
        yield figure
    finally:
        pyplot.close(figure)
