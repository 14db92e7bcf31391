"""HTML pages that need no other file: pictures as elements, filled templates, publishing.

A picture is a PNG that a run has drawn, or one that is drawn for the page.
"""

import base64
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from pipeline.base.errors import ConfigError, EnvironmentFaultError
from pipeline.base.markup import sentence
from pipeline.base.paths import replace_text
from pipeline.config.options import TrackingOptions
from pipeline.pictures.gallery import (
    DOTS_PER_INCH,
    OUTLINES,
    PictureFile,
    drawing,
    png_of,
    read_list,
    use_drawn,
)
from pipeline.pictures.style import Picture

if TYPE_CHECKING:
    from jinja2 import Template as LoadedTemplate

TEMPLATES = Path(__file__).parent / "templates"
Template = Literal["run.html", "study.html", "comparison.html"]
PNG = b"\x89PNG\r\n\x1a\n"
NAME = "report.html"
#: Pixels of CSS per inch.
PIXELS_PER_INCH = 96

#: The edge of a picture, from its first corner and back to it, in shares of its width and height.
EDGE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0))
#: Width in pixels above which a picture takes the page's width.
WIDE = 760

#: Characters that a name may contain but a page may not.
ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


def render(template: Template, values: Mapping[str, Any]) -> str:
    """Return the page that a template makes of the values that it asks for.

    All texts are escaped, except the elements of pictures.
    """
    script = (TEMPLATES / "sort.js").read_text("utf-8")
    style = (TEMPLATES / "style.css").read_text("utf-8")
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    moment = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    common_values = {
        "script": Markup(script),
        "script_hash": f"sha256-{base64.b64encode(digest).decode('ascii')}",
        "style": Markup(style),
        "made": f"Report written on {moment}",
    }
    text = template_of(template).render(**values, **common_values)
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
    templates.filters["sentence"] = sentence
    return templates.get_template(name)


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
            f"warning: {problem}; the report is not in MLflow; run the same command to send it",
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


def draw_pictures(pictures: Iterable[Picture], *, texts: Iterable[str] = ()) -> list[PagePicture]:
    """Draw pictures as elements of a page.

    Characters of `texts` that the usual font lacks are drawn with another font.
    """
    with drawing(texts):
        return [_draw_element(picture) for picture in pictures]


def _draw_element(picture: Picture) -> PagePicture:
    png, reason = use_drawn(picture, png_of)
    return _element(picture.name, picture.title, picture.alt, png, reason)


def read_pictures(folder: Path) -> list[PagePicture]:
    """Return the pictures that `write_pictures` has put into a folder as elements of a page.

    The list is empty if there is none or if it is damaged.
    """
    with suppress(OSError, ValueError):
        return [_read_element(written, folder) for written in read_list(folder)]
    return []


def _read_element(written: PictureFile, folder: Path) -> PagePicture:
    png = None
    reason = written.reason
    if written.file:
        reason = f"{written.file} is not a PNG file"
        with suppress(OSError, ValueError):
            file = (folder / written.file).resolve()
            # The list of another person's run could name any file of this machine.
            if file.is_relative_to(folder.resolve()) and file.is_file():
                content = file.read_bytes()
                png = content if content.startswith(PNG) else None
    return _element(written.name, written.title, written.alt, png, reason)


def _element(name: str, title: str, alt: str, png: bytes | None, reason: str) -> PagePicture:
    """Return a picture as an element; a dark page inverts its lightness, except that of images."""
    group = name.rpartition("/")[0]
    if png is None:
        return PagePicture(group, title, alt, None, is_wide=False, reason=reason)
    width = int.from_bytes(png[16:20])
    outline = _around_images(png)
    element = Markup(
        '<span class="{}" style="--width: {:.0f}px{}"><img alt="{}" src="data:image/png;base64,{}">'
        "</span>"
    ).format(
        "chart" if outline is None else "images",
        width / DOTS_PER_INCH * PIXELS_PER_INCH,
        "" if outline is None else f"; --around: {outline}",
        alt,
        base64.b64encode(png).decode("ascii"),
    )
    return PagePicture(group, title, alt, element, is_wide=width > WIDE, reason="")


def _around_images(png: bytes) -> str | None:
    """Return the part of a picture around its images as a shape of CSS; `None` if it has none.

    The shape goes along the picture's edge, and from its first corner around each image and back.
    A point that lies within an odd number of these rings is a part of it.
    """
    keyword = f"tEXt{OUTLINES}\0".encode("latin-1")
    chunk = png.find(keyword)
    if chunk < 0:
        return None
    length = int.from_bytes(png[chunk - 4 : chunk])
    width = int.from_bytes(png[16:20])
    height = int.from_bytes(png[20:24])
    points = list(EDGE)
    try:
        outlines = json.loads(png[chunk + len(keyword) : chunk + len("tEXt") + length])
        rings = set()
        for outline in outlines:
            ring = tuple((float(x) / width, float(y) / height) for x, y in outline)
            if ring not in rings:  # images may lie on each other
                rings.add(ring)
                points += [*ring, ring[0], EDGE[0]]
    except Exception:  # the file of another person's run may be damaged in any way
        return None
    if not rings or not all(0 <= x <= 1 and 0 <= y <= 1 for x, y in points):
        return None
    shape = ", ".join(f"{x:.4%} {y:.4%}" for x, y in points)
    return f"polygon(evenodd, {shape})"
