"""All pictures of a run, in the order in which they are shown, and how they are drawn and written.

`python -m pipeline.reporting.run_page` is the process that draws them. It imports Matplotlib, which
takes a third of a second, while the run trains; each picture takes a tenth, so two processes draw
them. It gets the folder of the artifacts in a message, and ends with the run's process.
"""

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from pydantic import TypeAdapter

from pipeline.base.findings import Findings, load_findings
from pipeline.base.paths import replace_file, replace_json
from pipeline.base.processes.cpu import cores
from pipeline.base.processes.fork_server import can_fork
from pipeline.base.processes.parent import Parent
from pipeline.base.regular_files import read_json
from pipeline.pictures import classes, inside, predictions, training
from pipeline.pictures.style import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontEntry
    from numpy.typing import NDArray

Used = TypeVar("Used")

DOTS_PER_INCH = 110
#: Name of the text in a PNG that has the outlines of its images.
OUTLINES = "Outlines"
#: Folder among a run's artifacts, and the file in it that describes each picture.
FOLDER = "pictures"
LIST = "pictures.json"
#: Parts of the names of fonts that cover most scripts; these are tried first.
LIKELY = ("CJK", "Han Sans", "WenQuanYi", "YaHei", "PingFang", "Hei", "Gothic", "Noto Sans")
#: Matplotlib's fallback font, which shows every letter as a box.
BOXES = "Last Resort"


def gallery(findings: Findings) -> Iterator[Picture]:
    """Yield each picture that applies to these findings; none is drawn yet."""
    yield from training.curve_pictures(findings)
    for topic in (classes, predictions, inside):
        yield from topic.pictures(findings)
    yield from training.layer_pictures(findings)


def texts(findings: Findings) -> Iterator[str]:
    """Yield each name from the data, the network or the user, for which a font is looked up."""
    yield from (findings.name, findings.model, findings.label, findings.units)
    yield from (*findings.classes, *findings.features, *findings.targets)
    yield from findings.baselines.values()
    yield from set().union(*findings.history.values())
    yield from (activity.layer for activity in findings.activity)
    if findings.vitals is not None:
        yield from findings.vitals.layers
    if findings.importances is not None:
        yield from findings.importances.columns
    if findings.inside is not None:
        yield from findings.inside.labels


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture in a file, or the reason why it is missing.

    Args:
        name: Name of the picture.
        title: Its title.
        alt: Its alternative text.
        file: Path relative to the folder; empty if the picture could not be drawn.
        reason: Why the picture could not be drawn.
    """

    name: str
    title: str
    alt: str
    file: str
    reason: str = ""


def write_pictures(
    pictures: Iterable[Picture],
    folder: Path,
    *,
    texts: Iterable[str] = (),
    on_fork: Callable[[], None] = lambda: None,
) -> list[PictureFile]:
    """Draw pictures as PNG into a folder, and list them in `pictures.json`.

    A fork draws every other one if there is a core for it. Raises OSError if the disk is full.

    Args:
        pictures: The pictures.
        folder: The folder, which is created.
        texts: Names in the pictures; a font is looked up for letters that the usual one lacks.
        on_fork: Called after the fork, before this process draws.
    """
    with drawing(texts) as notes:
        every = list(pictures)
        drawing_beside: AbstractContextManager[dict[str, PictureFile]] = nullcontext({})
        if cores() > 1 and can_fork():
            drawing_beside = _forked(every[1::2], folder)
        with drawing_beside as files:
            on_fork()
            for picture in every[::2]:
                files[picture.name] = _write(picture, folder)
        for picture in every:
            if picture.name not in files:
                files[picture.name] = _write(picture, folder)
    written = [files[picture.name] for picture in every]
    written += [PictureFile("letters", "Letters", alt="", file="", reason=note) for note in notes]
    folder.mkdir(parents=True, exist_ok=True)
    replace_json(folder / LIST, [asdict(picture_file) for picture_file in written])
    return written


@contextmanager
def _forked(pictures: Sequence[Picture], folder: Path) -> Iterator[dict[str, PictureFile]]:
    """Draw pictures in a fork while the body runs, and add those it could to the context."""
    reader, writer = os.pipe()
    files: dict[str, PictureFile] = {}
    parent = os.getpid()
    with open(reader) as answers, open(writer, "w") as answer:  # noqa: PTH123 - no paths
        try:
            pid = os.fork()
        except OSError:  # no memory, or too many processes; this one then draws all
            yield files
            return
        if pid == 0:
            try:
                for picture in pictures:
                    if os.getppid() != parent:
                        break
                    print(json.dumps(asdict(_write(picture, folder))), file=answer, flush=True)
            finally:
                os._exit(0)
        answer.close()
        try:
            yield files
            for line in answers:
                written = PictureFile(**json.loads(line))
                files[written.name] = written
        finally:
            with suppress(ChildProcessError):  # where SIGCHLD is ignored
                os.waitpid(pid, 0)


def read_list(folder: Path) -> list[PictureFile]:
    """Read the list that `write_pictures` has written; return an empty list if it is missing.

    Raises:
        ValueError: It is damaged.
    """
    with suppress(FileNotFoundError):
        return TypeAdapter(list[PictureFile]).validate_python(read_json(folder / LIST))
    return []


def write(picture: Picture, folder: Path) -> str:
    """Draw a picture as PNG into a folder, within `drawing`; return "" or why it is missing."""
    return use_drawn(picture, lambda figure: save(figure, folder / f"{picture.name}.png"))[1]


def _write(picture: Picture, folder: Path) -> PictureFile:
    file = f"{picture.name}.png"
    content, reason = use_drawn(picture, png_of)
    if content is not None:
        _store(content, folder / file)
    return PictureFile(picture.name, picture.title, picture.alt, "" if reason else file, reason)


def use_drawn(picture: Picture, use: "Callable[[Figure], Used]") -> tuple[Used | None, str]:
    """Draw a picture; return the result of `use` and "", or `None` and why it can't be drawn.

    Matplotlib's settings and figures are restored afterwards.
    """
    try:
        with _own_figures():  # so that a style set by one picture does not affect the next
            return use(picture.draw()), ""
    except Exception as error:  # neither a run nor a page fails because of a picture
        return None, " ".join(str(error).split()) or type(error).__name__


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG."""
    _store(png_of(figure), path)


def png_of(figure: "Figure") -> bytes:
    """Return a figure as PNG; its text `OUTLINES` says where it has images and their colour bars.

    The outlines are polygons in pixels, as JSON. A page needs them to make the rest dark.
    """
    content = BytesIO()
    metadata: dict[str, str] = {}
    if any(axes.images for axes in figure.axes):
        # Called while the figure is laid out, and again when its edges are cut and it is drawn.
        figure.canvas.mpl_connect("draw_event", partial(_note_outlines, figure, metadata))
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight", metadata=metadata)
    return content.getvalue()


def _note_outlines(figure: "Figure", metadata: dict[str, str], _event: object) -> None:
    bottom = int(figure.bbox.height)  # in pixels from the picture's upper edge
    polygons = []
    for corners in _outlines(figure):
        from_top = np.array([0, bottom]) + corners * [1, -1]
        polygons.append(from_top.round().tolist())
    metadata[OUTLINES] = json.dumps(polygons)


def _outlines(figure: "Figure") -> "Iterator[NDArray[np.float64]]":
    """Yield the corners of each image and of each part of a colour bar, in pixels."""
    from matplotlib.collections import QuadMesh
    from matplotlib.transforms import Bbox

    for axes in figure.axes:
        boxes = [Bbox.intersection(image.get_window_extent(), axes.bbox) for image in axes.images]
        if any(isinstance(artist, QuadMesh) for artist in axes.collections):  # a colour bar
            boxes.append(axes.bbox)
            for patch in axes.patches:  # its pointed ends
                yield np.asarray(patch.get_transform().transform_path(patch.get_path()).vertices)
        for box in boxes:
            if box is not None:
                yield box.corners()[[0, 1, 3, 2]]


def _store(content: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda file: file.write(content))


@contextmanager
def drawing(texts: Iterable[str] = ()) -> Iterator[list[str]]:
    """Draw without a screen, and restore Matplotlib's settings and figures afterwards.

    `texts` are all the texts in the pictures. The context is a list of notes on letters that no
    font of this machine has.
    """
    import matplotlib as mpl

    if "matplotlib.pyplot" not in sys.modules:  # else the importer has chosen a backend
        mpl.use("Agg")
    with _own_figures(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about experimental functions and missing letters
        fonts, notes = _fonts_for("".join(texts))
        mpl.rcParams["font.family"] = fonts
        yield notes


@contextmanager
def _own_figures() -> Iterator[None]:
    """Restore Matplotlib's settings at the end, and close the figures that were opened."""
    import matplotlib as mpl
    from matplotlib import pyplot

    before = set(pyplot.get_fignums())
    with mpl.rc_context():
        try:
            yield
        finally:
            for figure in set(pyplot.get_fignums()) - before:
                pyplot.close(figure)


def _fonts_for(text: str) -> tuple[list[str], list[str]]:
    """Return the fonts that have the letters, the usual one first, and a note on missing ones."""
    from matplotlib import font_manager

    usual_font = font_manager.FontProperties()
    fonts = list(usual_font.get_family())
    missing = _missing_letters(font_manager.findfont(usual_font), set(text))
    if not missing:
        return fonts, []
    for entry in _other_fonts():
        if BOXES not in entry.name:
            still_missing = _missing_letters(entry.fname, missing)
            if len(still_missing) < len(missing):
                fonts.append(entry.name)
                missing = still_missing
        if not missing:
            break
    if not missing:
        return fonts, []
    letters = "".join(sorted(missing))[:12]
    note = f"no installed font has the letters {letters}; the pictures show boxes instead"
    return fonts, [note]


def _other_fonts() -> "Iterator[FontEntry]":
    """Yield the fonts of Matplotlib's list, the likeliest first, then those newer than the list."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    yield from sorted(manager.ttflist, key=_is_unlikely)
    listed_files = {entry.fname for entry in manager.ttflist}
    for file in font_manager.findSystemFonts():
        if file not in listed_files:
            with suppress(OSError, RuntimeError):  # a font that can't be read
                manager.addfont(file)
    newer = [entry for entry in manager.ttflist if entry.fname not in listed_files]
    yield from sorted(newer, key=_is_unlikely)


def _is_unlikely(font: "FontEntry") -> bool:
    return not any(part in font.name for part in LIKELY)


def _missing_letters(font_file: str, letters: set[str]) -> set[str]:
    from matplotlib.ft2font import FT2Font

    try:
        characters = FT2Font(font_file).get_charmap()
    except (OSError, RuntimeError):
        return letters  # the font was removed or can't be read
    return {letter for letter in letters if letter > " " and ord(letter) not in characters}


# ── the process that draws ──────────────────────────────────────────────────────────────────────


def draw_for_run(conclude: Callable[[Path], object]) -> None:
    """Draw the pictures of the run that has started this process, and end.

    `conclude` is called with the run's folder once they are drawn.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the run decides when to stop
    parent = Parent.claim()
    with drawing():  # its imports and the list of fonts take a while
        pass
    artifacts = Path(parent.first_message()["artifacts"])
    findings = load_findings(artifacts)
    failure = "the pictures could not be drawn"
    try:
        write_pictures(
            gallery(findings), artifacts / FOLDER, texts=texts(findings), on_fork=parent.listen
        )
        failure = "the report could not be written"
        conclude(artifacts.parent)
    except Exception as error:  # such as a full disk; the run has its result
        reason = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        parent.say({"problem": f"{failure} ({reason})"})
        os._exit(1)
    os._exit(0)  # Matplotlib takes a while to end
