"""HTML pages that need no other file: pictures as elements, filled templates, publishing.

A picture is a PNG that a run has drawn, or an SVG in the page's own colours that is drawn for the
page; an SVG that would be too large becomes a PNG.
"""

import base64
import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from datetime import datetime
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from pipeline.config.options import TrackingOptions
from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.gallery import DOTS_PER_INCH, Written, drawing, read_list, use_drawn
from pipeline.paths import replace_text
from pipeline.pictures.style import Picture

if TYPE_CHECKING:
    from jinja2 import Template as LoadedTemplate
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"
Template = Literal["run.html", "range.html", "study.html", "comparison.html"]
Look = Literal["chart", "as-is"]
PNG = b"\x89PNG\r\n\x1a\n"
NAME = "report.html"

POINTS_PER_INCH = 72
WIDE = 500.0  # points
#: Characters of an SVG above which a picture is a PNG: browsers are slow with larger ones.
LARGEST_SVG = 1_500_000

#: Beginnings of the names of pictures that a dark page does not invert: images, heat maps.
AS_IS = ("inside/", "mistakes/")

#: Placeholders for the page's own colours while Matplotlib draws; no picture uses them itself.
INK, PAPER = "#010203", "#fdfcfb"

#: Settings of Matplotlib that are black by default.
INKED = (
    "text.color",
    "axes.edgecolor",
    "axes.labelcolor",
    "axes.titlecolor",
    *(f"{axis}tick.{part}" for axis in "xy" for part in ("color", "labelcolor")),
    "patch.edgecolor",
    "hatch.color",
    *(f"boxplot.{part}props.color" for part in ("box", "whisker", "cap")),
)
GROUND = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
#: Settings of Matplotlib for a figure without background, in the page's text colour.
ON_PAGE = {
    "svg.fonttype": "none",
    "legend.facecolor": PAPER,
    **dict.fromkeys(GROUND, "none"),
    **dict.fromkeys(INKED, INK),
}

#: Parts of Matplotlib's SVG that a page does not need: unreferenced ids, whitespace between tags.
_IDS = re.compile(r' id="(?![Cmhp]\w*[0-9a-f]{10}")[^"]*"')
_BLANKS = re.compile(r">\s+<")
_SIZE = re.compile(r'width="([\d.]+)pt" height="([\d.]+)pt"')
_TAG = re.compile(r"<(\w+)[^<>]*>")
_FONTS = re.compile(r"font-family:(?:&apos;|[^;\"])*;?\s*")
#: Black and the darkest greys, which a dark page would hide.
_DARK = re.compile(r"(?<=[: ])#([0-5][0-9a-f])\1\1\b")
#: Characters that a name may contain but a page may not.
ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


def rendered(template: Template, values: Mapping[str, Any]) -> str:
    """Return the page that a template makes of the values that it asks for.

    All texts are escaped, except the elements of pictures.
    """
    script, style = ((TEMPLATES / name).read_text("utf-8") for name in ("sort.js", "style.css"))
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    moment = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    own = {
        "script": Markup(script),
        "script_hash": f"sha256-{base64.b64encode(digest).decode('ascii')}",
        "style": Markup(style),
        "made": f"Report written on {moment}",
    }
    text = template_of(template).render(**values, **own)
    # A lone surrogate can't be encoded.
    return ILLEGAL.sub("", text.encode("utf-8", "replace").decode("utf-8"))


@cache
def template_of(name: Template) -> "LoadedTemplate":
    """Return a template; the first call of a process takes a tenth of a second."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    templates = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["sentence"] = _sentence
    return templates.get_template(name)


def _sentence(text: str) -> str:
    """Begin a text with a capital letter and end it with a full stop."""
    if text.partition(" ")[0].rstrip(",:;").isalpha():  # no `val/f1`
        text = f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith((".", "!", "?")) else f"{text}."


def publish(
    text: str, path: Path, tracking: TrackingOptions, attach: Callable[[Path], str | None]
) -> str:
    """Write a page, add it to the artifacts in MLflow, and return the line that says where it is.

    `attach` adds the file in MLflow and returns the problem; `None` if there is none.

    Raises:
        ConfigError: The path is a folder.
        EnvironmentFaultError: The page can't be written.
    """
    if path.is_dir():
        raise ConfigError(f"output={str(path)!r} is a folder; expected a file ending in .html")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
    except OSError as error:
        raise EnvironmentFaultError(
            f"{str(path)!r} can't be written ({error.strerror}); choose another with output=FILE"
        ) from error
    problem = None if tracking.kind == "none" else attach(path)
    if problem is not None:
        print(
            f"warning: {problem}; the report is not in MLflow; the same command sends it again",
            file=sys.stderr,
        )
    return f"report  {path}  {path.absolute().as_uri()}"


# ── pictures as elements ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class PagePicture:
    """A picture of a page.

    `group` is empty for a picture that stands alone. `content` is the element that shows it, or
    `None` if it could not be drawn; `reason` then says why. `is_wide` says that it takes the page's
    width.
    """

    group: str
    title: str
    alt: str
    content: Markup | None
    is_wide: bool
    reason: str


def drawn(
    pictures: Iterable[Picture], *, texts: Iterable[str] = (), prefix: str = "picture"
) -> list[PagePicture]:
    """Draw pictures as elements of one page.

    Characters of `texts` that the usual font lacks are drawn with another font. `prefix` must be
    unique among the calls for one page.
    """
    with drawing(texts):
        return [_drawn(picture, f"{prefix}-{n}") for n, picture in enumerate(pictures)]


def _drawn(picture: Picture, prefix: str) -> PagePicture:
    import matplotlib as mpl

    salted = {**ON_PAGE, "svg.hashsalt": prefix}  # the ids are unique within the page
    with mpl.rc_context(salted):  # type: ignore[arg-type] # its types want a literal for each key
        shown, reason = use_drawn(picture, partial(_svg, alt=picture.alt))
    if shown is not None and len(shown[0]) > LARGEST_SVG:
        shown, reason = use_drawn(picture, partial(_pixels, alt=picture.alt))
    content, width = shown or (None, 0.0)
    group = picture.name.rpartition("/")[0]
    return PagePicture(group, picture.title, picture.alt, content, width > WIDE, reason)


def embedded(folder: Path) -> list[PagePicture]:
    """Return the pictures that `write_pictures` has put into a folder as elements of a page.

    The list is empty if there is none or if it is damaged.
    """
    try:
        found = read_list(folder)
    except (OSError, ValueError, TypeError):
        return []
    are_texts = all(isinstance(part, str) for written in found for part in astuple(written))
    return [_embedded(written, folder) for written in found] if are_texts else []


def _embedded(written: Written, folder: Path) -> PagePicture:
    content, width, reason = None, 0.0, written.reason
    if written.file:
        look: Look = "as-is" if written.name.startswith(AS_IS) else "chart"
        file, reason = (folder / written.file).resolve(), f"{written.file} is not a PNG file"
        # The list of another person's run could name any file of this machine.
        if file.is_relative_to(folder.resolve()) and file.is_file():
            png = file.read_bytes()
            if png.startswith(PNG):
                (content, width), reason = _image(png, written.alt, look), ""
    group = written.name.rpartition("/")[0]
    return PagePicture(group, written.title, written.alt, content, width > WIDE, reason)


def _image(png: bytes, alt: str, look: Look) -> tuple[Markup, float]:
    """Return a PNG as an `<img>` element, and its width in points.

    A dark page inverts the lightness of a chart.
    """
    width = int.from_bytes(png[16:20]) / DOTS_PER_INCH * POINTS_PER_INCH
    code = base64.b64encode(png).decode("ascii")
    element = Markup(
        '<img class="{}" style="--width: {:.0f}pt" alt="{}" src="data:image/png;base64,{}">'
    )
    return element.format(look, width, alt, code), width


def _pixels(figure: "Figure", *, alt: str) -> tuple[Markup, float]:
    written = BytesIO()
    figure.savefig(written, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight", facecolor="white")
    return _image(written.getvalue(), alt, "chart")


def _svg(figure: "Figure", *, alt: str) -> tuple[Markup, float]:
    """Return a figure as an `<svg>` element, and its width in points.

    The settings `ON_PAGE` must be in force, here and when the figure is drawn.
    """
    written = BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(written, format="svg", bbox_inches="tight", metadata=nothing)
    head, _, body = ILLEGAL.sub("", written.getvalue().decode("utf-8")).partition("</defs>")
    width, height = map(float, _SIZE.findall(head)[0])
    body = _TAG.sub(_in_colours_of_page, _BLANKS.sub("><", body))
    root = Markup(
        '<svg viewBox="0 0 {:g} {:g}" style="--width: {:.0f}pt" role="img" aria-label="{}">'
    )
    # Matplotlib has escaped all texts.
    return root.format(width, height, width, alt) + Markup(body), width


def _in_colours_of_page(tag: re.Match[str]) -> str:
    """Return an SVG tag with the page's colours in place of placeholders, and of black lines.

    Black text is kept: it stands on bright cells, which are bright on a dark page as well.
    """
    text = _IDS.sub("", tag[0]).replace(INK, "currentColor").replace(PAPER, "var(--paper)")
    is_text = tag[1] in ("text", "tspan")
    return _FONTS.sub("", text) if is_text else _DARK.sub("currentColor", text)
