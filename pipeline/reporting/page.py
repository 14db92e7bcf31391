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
from dataclasses import astuple, dataclass
from datetime import datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from markupsafe import Markup

from pipeline.config.options import TrackingOptions
from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.gallery import (
    DOTS_PER_INCH,
    OUTLINES,
    Written,
    drawing,
    png_of,
    read_list,
    use_drawn,
)
from pipeline.paths import replace_text
from pipeline.pictures.style import Picture

if TYPE_CHECKING:
    from jinja2 import Template as LoadedTemplate

TEMPLATES = Path(__file__).parent / "templates"
Template = Literal["run.html", "range.html", "study.html", "comparison.html"]
PNG = b"\x89PNG\r\n\x1a\n"
NAME = "report.html"
#: Pixels of CSS per inch.
PIXELS_PER_INCH = 96

#: Width in pixels above which a picture takes the page's width.
WIDE = 760
#: Share of red, green and blue in the lightness of a colour, as in CSS.
LIGHTNESS = (0.213, 0.715, 0.072)
#: Most pixels of a picture that is made dark; one of another person's run could fill the memory.
MOST_PIXELS = 20_000_000

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
    """Begin a text with a capital letter and end it with a full stop, unless it ends with `:`."""
    if text.partition(" ")[0].rstrip(",:;").isalpha():  # no `val/f1`
        text = f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith((".", "!", "?", ":")) else f"{text}."


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


def drawn(pictures: Iterable[Picture], *, texts: Iterable[str] = ()) -> list[PagePicture]:
    """Draw pictures as elements of a page.

    Characters of `texts` that the usual font lacks are drawn with another font.
    """
    with drawing(texts):
        return [_element(one.name, one.title, one.alt, *use_drawn(one, png_of)) for one in pictures]


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
    png, reason = None, written.reason
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
    dark = _dark_around_images(png)
    element = Markup(
        '<img class="{}" style="--width: {:.0f}px" alt="{}" src="data:image/png;base64,{}">'
    ).format(
        "chart" if dark is None else "images",
        width / DOTS_PER_INCH * PIXELS_PER_INCH,
        alt,
        base64.b64encode(png).decode("ascii"),
    )
    if dark is not None:
        element = Markup(
            '<picture><source media="screen and (prefers-color-scheme: dark)" '
            'srcset="data:image/png;base64,{}">{}</picture>'
        ).format(base64.b64encode(dark).decode("ascii"), element)
    return PagePicture(group, title, alt, element, is_wide=width > WIDE, reason="")


def _dark_around_images(png: bytes) -> bytes | None:
    """Return a picture with inverted lightness outside its images; `None` if it has no images.

    It is inverted as by the filter of CSS for charts: `invert(1) hue-rotate(180deg)`.
    """
    if OUTLINES.encode() not in png:
        return None  # most pictures are charts, and importing PIL takes 20 ms
    from PIL import Image, ImageDraw

    try:
        picture = Image.open(BytesIO(png), formats=["PNG"])
        outlines = json.loads(picture.info.get(OUTLINES, "[]"))
        if not outlines or picture.width * picture.height > MOST_PIXELS:
            return None
        light = picture.convert("RGB")
        are_images = Image.new("1", light.size)
        for corners in outlines:
            ImageDraw.Draw(are_images).polygon([(x, y) for x, y in corners], fill=1)
    except Exception:  # the file of another person's run may be damaged in any way
        return None
    inverted = 255.0 - np.asarray(light)
    dark = 2 * (inverted @ LIGHTNESS)[..., np.newaxis] - inverted
    around = Image.fromarray(dark.clip(0, 255).round().astype(np.uint8))
    content = BytesIO()
    Image.composite(light, around, are_images).save(content, "PNG")
    return content.getvalue()
