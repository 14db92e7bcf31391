"""Kinds of errors with their exit codes, and helpers for messages: values, nearest names."""

import errno
import os
import re
import shlex
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, ClassVar

#: Smallest similarity, by `difflib`, of a name that is suggested in place of another.
LEAST_LIKENESS = 0.7
#: The same of names of which one contains the other, such as `epoch` and `max_epochs`, and of
#: names of three letters, of which one differs.
LEAST_LIKENESS_OF_PART = 0.6
#: Names under which a key is sought, and its own name, which is not similar.
SYNONYMS = {"test_rows": "last"}
#: Number of characters of a value that a message shows.
LONGEST_VALUE = 80
_QUOTES = ("'", '"')
_NO_PROCESSES = (
    "no more processes or threads can be started; end other programs, or raise the limit with "
    "ulimit -u"
)
#: What the process or the machine has no more of, by a part of an error's text. Libraries and
#: Python's threads pass on the text alone, without the code of the system's error.
_USED_UP = {
    os.strerror(errno.EAGAIN): _NO_PROCESSES,
    "can't start new thread": _NO_PROCESSES,
    os.strerror(errno.ENOMEM): (
        "no memory is left; end other programs, or raise the limit with ulimit -v"
    ),
    # Its text contains that of the next one.
    os.strerror(errno.ENFILE): "this machine has too many open files; end other programs",
    os.strerror(errno.EMFILE): (
        "this process has too many open files; raise the limit with ulimit -n"
    ),
}
#: Stands in a message between the code of the user's own that raised an error, and the error.
RAISED = " raised "
#: Packages of the user's own, whose code this process may run, as `trust=` names them.
own_packages: set[str] = set()
#: Words that Hydra reads unchanged without quotes.
BARE = re.compile(r"(?!(?i:null|true|false|nan|inf)$)[A-Za-z_][A-Za-z0-9_.-]*|0|-?[1-9][0-9]*")

#: A requirement of the program's metadata, such as `ray<3,>=2.60; extra == "ray"`.
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?P<extras>(?:\[[^]]*\])?)(?P<versions>[^;\s]*)")


class PipelineError(Exception):
    """One or more problems of one line each: what is wrong, where, and how to fix it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ConfigError(PipelineError):
    """The command is wrong: a name, a value, a search space or a checkpoint."""

    exit_code = 2


class DataError(PipelineError):
    """The data are wrong: a missing column, an empty cell, a single class."""

    exit_code = 2


class ChangedDataError(DataError):
    """The data are no longer those that a study began with."""


class EnvironmentFaultError(PipelineError):
    """The environment is at fault: a server is down, the disk full, an accelerator missing."""

    exit_code = 3


class OutOfMemoryFaultError(EnvironmentFaultError):
    """The memory of the machine or of an accelerator is used up."""


class DivergedError(PipelineError):
    """The loss became NaN or infinite; `result` is what the run has left, if that was written."""

    exit_code = 4
    result: Any = None


class StoresDifferError(PipelineError):
    """Two stores disagree about the same runs."""

    exit_code = 5


class Interrupted(BaseException):
    """A signal asked for an orderly stop; no `except Exception` on the way may swallow it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


def named(error: BaseException) -> str:
    """Return an unforeseen error in one line: its class, its message and where it was raised.

    For an error of the user's own code that is the place in this code, and its function as well.
    """
    user_frame = _own_frame(error)
    if user_frame is None:
        frames = list(traceback.walk_tb(error.__traceback__))[-1:]
    else:
        frames = [user_frame]
    place = "".join(f" ({_file_name(frame)}:{line})" for frame, line in frames)
    text = " ".join(str(error).split()) or "no message"
    line = f"{type(error).__name__}: {text}{place}"
    if user_frame is None:
        return line
    frame, _ = user_frame
    return f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}{RAISED}{line}"


def _file_name(frame: FrameType) -> str:
    file = Path(frame.f_code.co_filename)
    return f"{file.parent.name}/{file.name}" if file.stem == "__init__" else file.name


def _own_frame(error: BaseException) -> tuple[FrameType, int] | None:
    """Return the function of the user's own code, and the line, in which an error was raised.

    It may have called a library, which raised the error. `None` if code of this program did, or
    was called by the user's and raised it.
    """
    user_frame = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = f"{frame.f_globals.get('__name__')}."
        if any(module.startswith(f"{package}.") for package in own_packages):
            user_frame = frame, line
        elif module.startswith("pipeline."):
            user_frame = None
    return user_frame


def unforeseen(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the line for an error that nothing else explains."""
    for text, problem in _USED_UP.items():
        if text in str(error):
            return EnvironmentFaultError.exit_code, f"{problem}. {named(error)}"
    if isinstance(error, ImportError) and not str(error.name).startswith("pipeline"):
        line = "a library can't be imported; install it, or reinstall this program. "
        return EnvironmentFaultError.exit_code, line + named(error)
    if _own_frame(error) is not None:
        line = f"{named(error)}. Correct this code; for the traceback set traceback=true."
        return ConfigError.exit_code, line
    line = f"{named(error)}. This is a bug in the program; for the traceback set traceback=true."
    return PipelineError.exit_code, line


def explain_failed_start(
    kind: type[BaseException], error: BaseException, frames: TracebackType | None
) -> None:
    """Print an error that ended a program while it was imported, in one line, and end it.

    It takes the place of `sys.excepthook`.
    """
    from pipeline.base.redaction import redact  # a command that starts does without it

    if "traceback=true" in sys.argv or "HYDRA_FULL_ERROR" in os.environ:
        sys.stderr.write(redact("".join(traceback.format_exception(kind, error, frames))))
    code, line = unforeseen(error)
    print(f"error: {redact(line)}", file=sys.stderr, flush=True)
    os._exit(code)


def some(words: Sequence[str], *, most: int) -> str:
    """Return the first few words as `a, b, …`; the ellipsis appears only if words are left out."""
    listed_words = list(words[:most])
    if len(words) > most:
        listed_words.append("…")
    return ", ".join(listed_words)


def shown(value: object) -> str:
    """Return a value as a user would type it; long values are cut."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    else:
        text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def typed(key: str, value: str | Sequence[str]) -> str:
    """Return `key=value` or `key=[value,…]` as a user types it, quoted for Hydra and the shell."""
    return shlex.quote(override(key, value))


def override(key: str, value: str | Sequence[str]) -> str:
    """Return `key=value` or `key=[value,…]` as Hydra reads it."""
    words = [value] if isinstance(value, str) else value
    text = ",".join(word if BARE.fullmatch(word) else literal(word) for word in words)
    return f"{key}={text}" if isinstance(value, str) else f"{key}=[{text}]"


def typed_pairs(key: str, pairs: Mapping[str, str]) -> str:
    """Return `key={name: value, …}` as a user types it.

    Hydra reads no quotes and few letters in a name, so others stand in a list of texts.
    """
    texts = [f"{name}: {value}" for name, value in pairs.items()]
    names = "".join(pairs)
    if names.isascii() and not set(names) & set("\"'{}()[],:=\\&!#^~`;<>"):
        return shlex.quote(f"{key}={{{', '.join(texts)}}}")
    return typed(key, texts)


def pip_install(*packages: str) -> str:
    """Return the command that installs packages, in the versions that this program requires.

    It does not name an extra, such as `pipeline[ray]`: pip would look for `pipeline` in the package
    index, where it is another project.
    """
    from importlib import metadata  # takes 10 ms

    try:
        required = metadata.requires("pipeline") or []
    except metadata.PackageNotFoundError:  # a clone that is not installed
        required = []
    requirements: dict[str, str] = {}
    for text in required:
        match = REQUIREMENT.match(text)
        if match:
            versions = sorted(match["versions"].split(","), reverse=True)  # the lower bound first
            requirement = match["name"] + match["extras"] + ",".join(versions)
            requirements.setdefault(match["name"], requirement)
    return shlex.join(["pip", "install", *(requirements.get(name, name) for name in packages)])


def typed_text(key: str, text: str) -> str:
    """Return `key=text` as a user types it, for an option that holds a text and nothing else."""
    return shlex.quote(text_override(key, text))


def text_override(key: str, text: str) -> str:
    """Return `key=text` as it is read for an option that holds a text, with quotes if needed.

    Such an option takes most texts as they are, such as a path with spaces or commas.
    """
    is_read_otherwise = text != text.strip() or text in ("", "null") or "${" in text
    if is_read_otherwise or text[0] in _QUOTES:
        text = literal(text)
    return f"{key}={text}"


def literal(text: str) -> str:
    """Return a text in the quotes in which it is read unchanged, also if it holds a reference."""
    # Backslashes count as escapes before a reference, before a quote and at the end.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)
    at_end = len(text) - len(text.rstrip("\\"))
    return f'"{text}{text[len(text) - at_end :]}"'


def did_you_mean(name: str, choices: Iterable[str], *, by_leaf: bool = False) -> str:
    """Return ` Did you mean 'lstm'?` for the choice that `nearest` finds, or an empty string."""
    near = nearest(name, choices, by_leaf=by_leaf)
    return "" if near is None else f" Did you mean '{near}'?"


def nearest(name: str, choices: Iterable[str], *, by_leaf: bool = False) -> str | None:
    """Return the choice nearest to `name`, whatever their case, or `None` if none is similar.

    Args:
        name: The unknown name.
        choices: The known names; of equally near ones the first is taken.
        by_leaf: If a choice has the same parent as the name, such as `val/` or `trainer.`,
            compare only what follows the parent.
    """
    nearest_choice = None
    highest = 0.0
    for choice in dict.fromkeys(choices):
        parent = _common_parent(name, choice) if by_leaf else ""
        likeness = _likeness(choice.removeprefix(parent), name.removeprefix(parent))
        if likeness > highest:
            nearest_choice = choice
            highest = likeness
    return nearest_choice


def _common_parent(name: str, choice: str) -> str:
    """Return the parent of a choice, such as `val/` or `trainer.`, if the name has the same one."""
    for separator in "./":
        parent = choice[: choice.rfind(separator) + 1]
        if len(parent) > 1 and name.startswith(parent):
            return parent
    return ""


def _likeness(first: str, second: str) -> float:
    """Return how similar two names are, from 0 to 1; 0 = not similar enough to be confused."""
    first = first.casefold()
    second = second.casefold()
    is_part = first in second or second in first
    is_short = max(len(first), len(second)) == 3
    least = LEAST_LIKENESS_OF_PART if is_part or is_short else LEAST_LIKENESS
    if 2 * min(len(first), len(second)) < least * (len(first) + len(second)):
        return 0.0  # the ratio can't exceed the limit, and comparing long names is slow
    ratio = SequenceMatcher(a=first, b=second).ratio()
    return ratio if ratio >= least else 0.0


def unknown_key(
    key: str, known: Iterable[str], hint: str = "", *, value: str = "", place: str = ""
) -> str:
    """Return the message for an unknown key.

    Args:
        key: The unknown key.
        known: The known keys.
        hint: Why the key can't be given here; '' if it is only unknown.
        value: The value with its `=`, which the suggestion repeats.
        place: Where the key is known, after a semicolon; '' if it is not known elsewhere.
    """
    if hint:
        return f"{key} can't be set here: {hint}."
    parent, _, leaf = key.rpartition(".")
    names: list[str] = []
    siblings: list[str] = []
    names_by_leaf: dict[str, str] = {}
    for name in known:
        if key.startswith(f"{name}.") or name.endswith("_target_"):
            continue
        name_parent, _, name_leaf = name.rpartition(".")
        names.append(name)
        names_by_leaf.setdefault(name_leaf, name)
        if parent and name_parent == parent:
            siblings.append(name)
    suggestion = names_by_leaf.get(SYNONYMS.get(leaf, leaf))
    if not suggestion:
        suggestion = nearest(key, siblings, by_leaf=True) or nearest(key, names, by_leaf=True)
    if not suggestion and not siblings:
        suggestion = names_by_leaf.get(nearest(leaf, names_by_leaf) or "")
    line = f"{key} is unknown{place}."
    return f"{line} Did you mean '{suggestion}{value}'?" if suggestion else line
