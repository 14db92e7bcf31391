"""Fills the templates, and writes what comes of it as one file that needs no other."""

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.paths import replace_text
from pipeline.reporting.svg import ILLEGAL

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
Template = Literal["run.html", "range.html", "study.html", "comparison.html"]


def rendered(template: Template, values: Mapping[str, Any]) -> str:
    """Return a page; every text in it is escaped but for the elements of pictures.

    Args:
        template: What kind of page.
        values: What the template asks for.
    """
    script = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    moment = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    own = {
        "script": Markup(script),
        "script_hash": f"sha256-{base64.b64encode(digest).decode('ascii')}",
        "style": Markup(style),
        "made": f"Made by python -m pipeline.report, {moment}",
    }
    text = _templates().get_template(template).render(**values, **own)
    whole = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate is no letter
    return ILLEGAL.sub("", whole)


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["sentence"] = _sentence
    return templates


def _sentence(text: str) -> str:
    """Begin a text with a capital letter and end it with a full stop."""
    if text.partition(" ")[0].rstrip(",:;").isalpha():  # no `val/f1`
        text = f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith((".", "!", "?")) else f"{text}."


def write_page(path: Path, text: str) -> None:
    """Write a page.

    Raises:
        ConfigError: The path is a folder.
        EnvironmentFaultError: It can't be written.
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
