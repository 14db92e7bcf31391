"""Pictures as elements of a page: SVG in the page's own colours, or PNG where that is too large."""

import base64
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from pipeline.pictures.picture import DOTS_PER_INCH, Picture, drawing, own_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS_PER_INCH = 72
WIDE = 500.0  # points
LARGEST_SVG = 1_500_000
"""Characters of a picture above which it is given as pixels: a browser is slow with so many."""

INK, PAPER = "#010203", "#fdfcfb"
"""Stand for the page's own colours while Matplotlib draws; no picture chooses them."""

INKED = (
    "text.color",
    "axes.edgecolor",
    "axes.labelcolor",
    "axes.titlecolor",
    "xtick.color",
    "xtick.labelcolor",
    "ytick.color",
    "ytick.labelcolor",
    "patch.edgecolor",
    "hatch.color",
    "boxplot.boxprops.color",
    "boxplot.whiskerprops.color",
    "boxplot.capprops.color",
)
"""Settings of Matplotlib's that are black or white where nobody sets them."""
GROUND = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_TEXTS = frozenset({f"{_SVG}text", f"{_SVG}tspan"})
_LEFT_OUT = frozenset({f"{_SVG}metadata", f"{_SVG}style"})
_LINK = re.compile(r"(?:url\(#|^#)(?P<id>[^)]+)")
_FONTS = re.compile(r"font-family:[^;]*;?\s*")
_COLOURS = {INK: "currentColor", PAPER: "var(--paper)"}
_DARK = re.compile(r"(?<=[: ])#([0-5][0-9a-f])\1\1\b")
"""Black and the darkest greys, of which a dark page would show nothing."""
ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
"""Signs that no page may hold, and that a name may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePicture:
    """A picture of a page.

    Args:
        group: The pictures that it belongs to, such as `curves`; empty where it stands alone.
        title: What it is.
        alt: What is seen in it.
        content: The element that shows it; `None` where it could not be drawn.
        width: Of that, in points.
        reason: Why it could not be drawn; empty where it was.
    """

    group: str
    title: str
    alt: str
    content: Markup | None = None
    width: float = 0.0
    reason: str = ""

    @property
    def is_wide(self) -> bool:
        """Whether it takes the whole width of a page."""
        return self.width > WIDE


def drawn(
    pictures: Iterable[Picture], *, texts: Iterable[str] = (), prefix: str = "picture"
) -> list[PagePicture]:
    """Draw pictures as elements of one page.

    Args:
        pictures: What to draw.
        texts: Names in the pictures; a font is looked up for letters that the usual one lacks.
        prefix: Begins the ids in these pictures; no other pictures of the page have it.
    """
    with drawing(texts):
        return [_drawn(picture, f"{prefix}-{n}") for n, picture in enumerate(pictures)]


def _drawn(picture: Picture, prefix: str) -> PagePicture:
    shown = PagePicture(group=picture.name.rpartition("/")[0], title=picture.title, alt=picture.alt)
    try:
        content, width = _svg(picture, prefix)
        if len(content) > LARGEST_SVG:
            content, width = _pixels(picture)
    except Exception as error:  # no picture is worth a page
        return replace(shown, reason=" ".join(str(error).split()) or type(error).__name__)
    return replace(shown, content=content, width=width)


def _svg(picture: Picture, prefix: str) -> tuple[Markup, float]:
    with own_style(), _page_colours(), _closed(picture) as figure:
        text, width = _inline(figure, prefix=prefix, alt=picture.alt)
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
    """Draw a picture, and close its figure afterwards."""
    from matplotlib import pyplot

    figure = picture.draw()
    try:
        yield figure
    finally:
        pyplot.close(figure)


@contextmanager
def _page_colours() -> Iterator[None]:
    """Let Matplotlib draw what will stand in a page: no ground, and the page's ink."""
    import matplotlib as mpl

    own = {"svg.fonttype": "none", "svg.hashsalt": "report", "legend.facecolor": PAPER}
    own |= {**dict.fromkeys(GROUND, "none"), **dict.fromkeys(INKED, INK)}
    with mpl.rc_context(own):  # type: ignore[arg-type] # its types want a literal for each key
        yield


def _inline(figure: "Figure", *, prefix: str, alt: str) -> tuple[str, float]:
    """Return a figure as an `<svg>` element, and its width in points.

    It is drawn, and this is called, within `_page_colours`.
    """
    written = BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(written, format="svg", bbox_inches="tight", metadata=nothing)
    root = ElementTree.fromstring(ILLEGAL.sub("", written.getvalue().decode("utf-8")))
    width, height = (float(root.attrib[side].removesuffix("pt")) for side in ("width", "height"))
    _shorten(root)
    _rename(root, prefix)
    for element in root.iter():
        _restyle(element)
        element.tag = element.tag.removeprefix(_SVG)
    root.attrib.clear()
    root.attrib |= {
        "viewBox": f"0 0 {width:g} {height:g}",
        "style": f"--width: {width:.0f}pt",
        "role": "img",
        "aria-label": ILLEGAL.sub("", alt),
    }
    return ElementTree.tostring(root, encoding="unicode"), width


def _shorten(root: ElementTree.Element) -> None:
    """Take away what a page has no use for."""
    for parent in list(root.iter()):
        for child in [one for one in parent if one.tag in _LEFT_OUT]:
            parent.remove(child)
        if parent.tag not in _TEXTS and not (parent.text or "").strip():
            parent.text = None
        parent.tail = parent.tail if (parent.tail or "").strip() else None


def _rename(root: ElementTree.Element, prefix: str) -> None:
    """Give ids that are asked for a name of their own, and take the others away."""
    asked = {
        match["id"]
        for element in root.iter()
        for value in element.attrib.values()
        for match in _LINK.finditer(value)
    }
    names = {name: f"{prefix}-{number}" for number, name in enumerate(sorted(asked))}

    def renamed(match: re.Match[str]) -> str:
        return match[0].replace(match["id"], names[match["id"]])

    for element in root.iter():
        own, link = element.attrib.pop("id", None), element.attrib.pop(_HREF, None)
        for key, value in element.attrib.items():
            if "url(#" in value:
                element.attrib[key] = _LINK.sub(renamed, value)
        if own in names:
            element.attrib["id"] = names[own]
        if link is not None:
            element.attrib["href"] = _LINK.sub(renamed, "".join(link.split()))


def _restyle(element: ElementTree.Element) -> None:
    """Let the page's colours stand for ours, and for black where it is no writing.

    A picture that writes in black means it: on a bright cell, in the dark as well.
    """
    value = element.attrib.get("style")
    if value is None:
        return
    for ours, colour in _COLOURS.items():
        value = value.replace(ours, colour)
    is_text = element.tag in _TEXTS
    element.attrib["style"] = _FONTS.sub("", value) if is_text else _DARK.sub("currentColor", value)
