"""Pages of HTML that need no other file: filled, written, and added to MLflow's artifacts."""

import base64
import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from pipeline.config.options import TrackingOptions
from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.paths import replace_text
from pipeline.reporting.svg import ILLEGAL

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
Template = Literal["run.html", "range.html", "study.html", "comparison.html"]
NAME = "report.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where runs are looked for, and where a report goes.

    Args:
        folder: Holds a folder for each run and each study.
        storage: Optuna's URL of the studies' database; `None` = the default.
        tracking: Where runs are on record.
        output: The file; `None` = among the run's artifacts.
    """

    folder: Path
    storage: str | None
    tracking: TrackingOptions
    output: Path | None


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


def publish(
    text: str, path: Path, tracking: TrackingOptions, attach: Callable[[Path], str | None]
) -> str:
    """Write a page, add it to the artifacts in MLflow, and return the line that says where it is.

    Args:
        text: The page.
        path: The file.
        tracking: Where runs are on record.
        attach: Adds the file in MLflow, and returns what was in the way; `None` = nothing.

    Raises:
        ConfigError: The path is a folder.
        EnvironmentFaultError: It can't be written.
    """
    _write(path, text)
    problem = None if tracking.kind == "none" else attach(path)
    if problem is not None:
        print(
            f"warning: {problem}; MLflow lacks the report, which the same command sends again",
            file=sys.stderr,
        )
    return f"report  {path}  {path.absolute().as_uri()}"


def _write(path: Path, text: str) -> None:
    if path.is_dir():
        raise ConfigError(f"output={str(path)!r} is a folder; expected a file ending in .html")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
    except OSError as error:
        raise EnvironmentFaultError(
            f"{str(path)!r} can't be written ({error.strerror}); choose another with output=FILE"
        ) from error
