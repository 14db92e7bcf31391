"""A figure as SVG that stands in a page: text as text, in the page's own colours."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


@contextmanager
def page_colours() -> Iterator[None]:
    """Let Matplotlib draw what will stand in a page: no ground, and the page's ink."""
    import matplotlib as mpl

    own = {"svg.fonttype": "none", "svg.hashsalt": "report", "legend.facecolor": PAPER}
    own |= {**dict.fromkeys(GROUND, "none"), **dict.fromkeys(INKED, INK)}
    with mpl.rc_context(own):  # type: ignore[arg-type] # its types want a literal for each key
        yield


def inline_svg(figure: "Figure", *, prefix: str, alt: str) -> tuple[str, float]:
    """Return a figure as an `<svg>` element of a page, and its width in points.

    It is drawn, and this is called, within `page_colours`.

    Args:
        figure: What was drawn.
        prefix: Begins each of its ids, which no other picture of the page may have.
        alt: What is seen in it, for those who can't.
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
