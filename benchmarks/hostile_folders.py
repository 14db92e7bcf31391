"""Run and study folders of a hostile person, for `benchmarks.fuzz`, and commands that read them.

A case copies a real run, a real study and their databases, replaces some of their files by links,
pipes, devices, huge or damaged files, and calls a command. Whatever the command does, what lies
outside of the folders stays as it was; if the command refuses a folder, that stays as well.
"""

import contextlib
import json
import os
import resource
import shutil
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil
import yaml  # type: ignore[import-untyped] # PyYAML brings no types
from hypothesis import strategies as st

from benchmarks.case import CODES, Case, Snapshot, called, changes, empty_folder
from pipeline.tracking.ownership import adopt

RUN, OTHER, STUDY = "20260101-000000-mine-aaaaaa", "20260101-000001-other-bbbbbb", "small"
OUTSIDE = "outside"
"""Folder with the files that no command may change."""
NO_STORE = '"uri": ""'
"""What the journal of an untracked run says; a case puts the address of its store there."""
MEMORY = 2 << 30
"""Bytes that a command may have besides the libraries."""
QUICK = ("model=mlp", "model.hidden=[4]", "data=iris", "trainer.max_epochs=1")
SPACE = ("sweep.name=small", "sweep.sampler=random", "sweep.pruner=none", "sweep.workers=1",
         "optimizer.lr=tag(log, interval(1e-3, 1e-1))")  # fmt: skip
COMMANDS: tuple[tuple[int, str, str], ...] = (
    (6, "train", f"resume=runs/{RUN} trainer.max_epochs=2 tracking=none verbose=0"),
    (2, "train", f"resume=runs/{RUN} trainer.max_epochs=2 verbose=0"),
    (2, "train", f"resume=auto {' '.join(QUICK)} scheduler=none tracking=none verbose=0"),
    (2, "train", f"resume={RUN} trainer.max_epochs=2 tracking=none verbose=0"),
    (2, "train", f"{' '.join(QUICK)} tracking=none verbose=0"),
    (1, "train", f"{' '.join(QUICK)} verbose=0"),
    (8, "runs", ""),
    (2, "runs", "doctor=healthy"),
    (8, "runs", "action=sync"),
    (4, "runs", f"action=sync run=runs/{RUN}"),
    (3, "runs", f"action=adopt run=runs/{RUN}"),
    (2, "runs", f"action=adopt run=runs/{STUDY}"),
    (4, "runs", "action=reap grace=0.1"),
    (3, "runs", "action=check study=small"),
    (3, "runs", "action=clean older_than=0 apply=true"),
    (2, "runs", "action=clean study=small apply=true"),
    (6, "report", f"run=runs/{RUN} tracking=none"),
    (2, "report", f"run=runs/{RUN} output=page.html"),
    (2, "report", "run=last tracking=none"),
    (4, "report", f"runs=[runs/{RUN},runs/{OTHER}] output=page.html tracking=none"),
    (3, "report", "study=small tracking=none"),
    (4, "evaluate", f"model_from=runs/{RUN} tracking=none verbose=0"),
    (1, "evaluate", f"model_from=runs/{RUN} verbose=0"),
    (5, "predict", f"model_from=runs/{RUN} input=in.csv output=out.csv"),
    (2, "predict", "model_from=runs/small input=in.csv output=out.csv"),
    (3, "export", f"model_from=runs/{RUN} output=exported"),
    (1, "sweep", f"{' '.join((*QUICK, *SPACE[:-1]))} sweep.n_trials=3 tracking=none"),
)
RAW_VALUES = (
    "null", "true", "0", "-1", "1", "2.5", "1e400", "-1e400", "NaN", "1" + "0" * 400, '""', '"x"',
    '"' + "x" * 10_000 + '"', '"../../outside/secret.txt"', '"/dev/zero"', '"\\u001b[31m"',
    '"\\u0000"', '"\\ud800"', "[]", "{}", "[[1]]", '{"a": 1}', "[null]", '["a", 1]',
    "[" * 3000 + "]" * 3000, '{"a": ' * 300 + "1" + "}" * 300, "[" * 100_000, '{"a": 1, "a": 2}',
    "2026-01-01", "!!python/object/apply:os.getcwd []", "&a [*a]", "${oc.env:HOME}", "1_000",
)  # fmt: skip
RAW_FILES = (
    b"", b"\0", b"\xff\xfe", b"null", b"[]", b"{}", b"1", b'"text"', b"\n\n\n", b"{", b"PK\x03\x04",
    b"[" * 100_000, b"\x1b[31m\n", b"x" * 100_000,
)  # fmt: skip
PLACEHOLDER = "placeholder of a raw value"


@dataclass(frozen=True)
class Harm:
    """What is done to a file or folder before the command.

    Args:
        place: Its path within the case's folder.
        kind: One of `KINDS`, or `content`.
        note: What follows it in the description of the case.
        content: New content of a file.
    """

    place: str
    kind: str
    note: str = ""
    content: bytes = b""

    def apply(self, folder: Path) -> None:
        """Do it; what can't be done on this system, such as making a device, is left out."""
        path = folder / self.place
        if not os.path.lexists(path.parent) or not path.parent.is_dir():
            return  # another harm has replaced the folder
        content = self.content or (path.read_bytes() if _is_file(path) else b"")
        _remove(path)
        with contextlib.suppress(PermissionError):
            self._put(path, content, folder / OUTSIDE)

    def _put(self, path: Path, content: bytes, outside: Path) -> None:
        kind = self.kind
        if kind in LINKS:
            target = str(outside / LINKS[kind])
            is_relative = kind.startswith("relative")
            path.symlink_to(os.path.relpath(target, path.parent) if is_relative else target)
        elif kind in INNER_LINKS:
            path.symlink_to(INNER_LINKS[kind].format(name=path.name))
        elif kind in DEVICES:
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, DEVICES[kind]))
        elif kind in FILES:
            _write(path, content, kind)
        elif kind == "link to a copy":
            _link_to_copy(path, content, outside)
        elif kind == "hard link":
            path.hardlink_to(outside / "secret.txt")
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            _make_socket(path)
        elif kind == "folder":
            path.mkdir()


@dataclass(frozen=True)
class FolderCase(Case):
    """A command beside folders that somebody has changed.

    Args:
        harms: What was done to the folders.
        is_own: Whether the user has begun or adopted them before that.
    """

    harms: tuple[Harm, ...] = field(default_factory=tuple)
    is_own: bool = True

    def __str__(self) -> str:
        lines = [f"{harm.kind} {harm.place} {harm.note}".rstrip() for harm in self.harms]
        whose = "own" if self.is_own else "foreign"
        return "\n    ".join([f"{self.command} {' '.join(self.words)} ({whose})", *lines])

    @property
    def codes(self) -> tuple[int, ...]:
        """Exit codes that the documentation knows."""
        return (*CODES, 5) if "action=check" in self.words else CODES

    def write(self, folder: Path) -> None:
        """Copy the real folders and change them."""
        shutil.copytree(ORIGINALS, folder, dirs_exist_ok=True)
        store = f"sqlite:///{folder}/mlflow.db"
        for file in folder.glob("runs/**/*.json*"):
            text = file.read_text(encoding="utf-8")
            if NO_STORE in text:
                file.write_text(text.replace(NO_STORE, f'"uri": "{store}"'), encoding="utf-8")
        for name in (RUN, OTHER, STUDY) if self.is_own else ():
            adopt(folder / "runs" / name)
        for harm in self.harms:
            harm.apply(folder)

    def damage(self, before: Snapshot, after: Snapshot, code: int | str) -> list[str]:
        """Return what has changed outside of the folders, or within them after a refusal."""
        new = sorted(after.keys() - before.keys())
        changed = changes(before, after)
        below = f"{OUTSIDE}/"
        problems = [f"outside: {name}" for name in (*changed, *new) if name.startswith(below)]
        if code == 2 and (changed or new):
            problems.append(f"exit code 2, and it changed {changed[:5]} and left {new[:5]}")
        if half_written := [name for name in new if name.endswith(".tmp")]:
            problems.append(f"half-written files: {half_written}")
        return problems


def _is_file(path: Path) -> bool:
    return os.path.lexists(path) and stat.S_ISREG(path.lstat().st_mode)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _link_to_copy(path: Path, content: bytes, outside: Path) -> None:
    """Link to a whole file outside, so that the command reads what it expects."""
    target = outside / "copy"
    target.write_bytes(content)
    path.symlink_to(target)


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(path.parent):
        listener.bind(path.name)


def _write(path: Path, content: bytes, kind: str) -> None:
    path.write_bytes(content)
    if kind == "huge":
        os.truncate(path, 1 << 40)
    elif kind == "unreadable":
        path.chmod(0)


#: Target of a link by the kind of harm, below `OUTSIDE` unless it is one of `INNER_LINKS`.
LINKS = {
    "link to a file": "secret.txt",
    "relative link to a file": "secret.txt",
    "dangling link": "new.txt",
    "link to a folder": "folder",
}
INNER_LINKS = {"link to the parent": "..", "link to itself": "{name}"}
DEVICES = {"null device": 3, "zero device": 5}
FILES = ("content", "huge", "unreadable")
KINDS = (
    *("link to a copy", "hard link", "pipe", "socket", "missing", "folder"),
    *(*LINKS, *INNER_LINKS, *DEVICES, *FILES[1:]),
)
NEW_NAMES = (
    "artifacts/extra.txt", "artifacts/.x.1.tmp", "checkpoints/.x.1.tmp", ".forget", "code/own.py",
    "artifacts/report.html", "artifacts/pictures", "artifacts/comparison.html", "model/.x.1.tmp",
    ".recorder.lock", ".study.lock", "artifacts/find_lr/lr.csv", "run.log", "mlflow.json",
    "checkpoints/kept.ckpt", "trials/aaaaaa-0000", "conf/experiment/extra.yaml", "owner",
)  # fmt: skip
READ = (".json", ".jsonl", ".yaml")
"""Endings of the files whose keys get values of a wrong type."""
_JOURNAL = ("journal.jsonl",) * 3
_MODEL = ("model", "model.ckpt", "interface.json", "example.json", "config.yaml", "journal.jsonl")
READ_BY = {
    "train": (*_JOURNAL, "mlflow.json", "command.json", "command.json", "last.ckpt",
              "checkpoints", "artifacts", "run.log"),
    "runs": (*_JOURNAL, *_JOURNAL, "mlflow.json", "artifacts", "interface.json",
             "example.json", "model"),
    "report": (*_JOURNAL, "findings.json", "findings.json", "findings.json", "arrays.npz",
               "data_report.json", "data_report.json", "config.yaml", "intervals.json",
               "layers.txt", "artifacts", "small.yaml"),
    "evaluate": _MODEL,
    "predict": _MODEL,
    "export": _MODEL,
    "sweep": ("journal.jsonl", "mlflow.json", "artifacts", "trials", "small.yaml", "conf"),
}  # fmt: skip
"""Names of files and folders that each command reads or writes."""
ORIGINALS = Path()


@contextlib.contextmanager
def prepared(run: Path, table: Path) -> Iterator[None]:
    """Make what all cases copy: a run that was trained on a table, a study and an empty store."""
    global ORIGINALS  # noqa: PLW0603 - one for all cases
    with empty_folder() as folder:
        shutil.copy(table, folder)
        for name in (RUN, OTHER):
            shutil.copytree(run, folder / "runs" / name)
        _succeed("sweep", *QUICK, *SPACE, "sweep.n_trials=2", "tracking=none")
        for file in folder.glob("runs/**/*.png"):
            file.unlink()
        (folder / OUTSIDE / "folder").mkdir(parents=True)
        for name in ("secret.txt", "folder/inside.txt", "folder/.x.1.tmp", "folder/last.ckpt"):
            (folder / OUTSIDE / name).write_text(f"secret of {name}\n", encoding="utf-8")
        (folder / "in.csv").write_text("a,kind\n1,red\n2,green\n", encoding="utf-8")
        _succeed("runs", "action=reap", "output=none")  # makes the store
        state = {"uri": "", "run_id": "0" * 32, "experiment_id": "1", "sent": 1, "done": False}
        (folder / "runs" / RUN / "mlflow.json").write_text(json.dumps(state), encoding="utf-8")
        ORIGINALS = folder
        with _limited_memory():
            yield


@contextlib.contextmanager
def _limited_memory() -> Iterator[None]:
    """Let a command that reads a huge file or a device fail before the machine runs out."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _succeed(command: str, *words: str) -> None:
    code, errors = called(Case(command, words))
    assert code == 0, errors


@st.composite
def folder_cases(draw: st.DrawFn) -> FolderCase:
    """Return a command that meets one or two hostile changes."""
    return folder_case(draw(st.randoms(use_true_random=True)))


def folder_case(chance: Random) -> FolderCase:
    """Return a random case."""
    weights = [weight for weight, _, _ in COMMANDS]
    ((_, command, words),) = chance.choices(COMMANDS, weights)
    harms = tuple(_harm(chance, command) for _ in range(chance.choice((1, 1, 1, 2))))
    is_own = chance.random() < 0.8
    return FolderCase(command, tuple(words.split()), harms=harms, is_own=is_own)


def _harm(chance: Random, command: str) -> Harm:
    """Return a change, in most cases of something that the command reads."""
    top = ORIGINALS / "runs" / chance.choice((RUN, RUN, RUN, STUDY))
    paths = [top, *sorted(top.rglob("*"))]
    name = chance.choice(READ_BY[command])
    likely = [path for path in paths if path.name == name]
    path = chance.choice(likely if likely and chance.random() < 0.8 else paths)
    place = str(path.relative_to(ORIGINALS))
    if path.suffix in READ and chance.random() < 0.7:
        return Harm(place, "content", *_with_raw_value(chance, path))
    if path.is_file() and chance.random() < 0.3:
        return Harm(place, "content", *_damaged(chance, path.read_bytes()))
    if chance.random() < 0.2:
        path = top / chance.choice(NEW_NAMES)
    return Harm(str(path.relative_to(ORIGINALS)), _kind(chance))


def _kind(chance: Random) -> str:
    return chance.choice(KINDS)


def _damaged(chance: Random, content: bytes) -> tuple[str, bytes]:
    """Return other bytes for a file, and what they are."""
    position = chance.randrange(len(content) + 1)
    if chance.random() < 0.3:
        return f"cut at {position}", content[:position] or b"\0"
    if chance.random() < 0.5:
        noise = chance.randbytes(8)
        return f"noise at {position}", content[:position] + noise + content[position + 8 :]
    raw = chance.choice(RAW_FILES)
    return f"= {raw[:40]!r}", raw or b"\n"


def _with_raw_value(chance: Random, file: Path) -> tuple[str, bytes]:
    """Return a text with an odd value at one of its keys, and what it is."""
    raw = chance.choice(RAW_VALUES)
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines() if file.suffix == ".jsonl" else [text]
    number = chance.randrange(len(lines))
    is_yaml = file.suffix == ".yaml"
    tree: Any = yaml.safe_load(text) if is_yaml else json.loads(lines[number])
    path = _path(chance, tree)
    change = chance.choice(("value", "value", "value", "value", "missing", "renamed", "key"))
    tree = _changed(tree, path, change)
    shown = yaml.safe_dump(tree, sort_keys=False) if is_yaml else json.dumps(tree)
    lines[number] = shown.replace(f'"{PLACEHOLDER}"', raw).replace(PLACEHOLDER, raw)
    note = f"line {number + 1}: {'.'.join(map(str, path))} {change} {raw[:40]}"
    return note, ("\n".join(lines) + "\n").encode("utf-8", errors="surrogatepass")


def _path(chance: Random, tree: Any) -> tuple[Any, ...]:
    """Return the path of a value of a tree; the further down, the rarer."""
    keys: list[Any] = []
    while tree and isinstance(tree, dict | list) and chance.random() < 0.75:
        is_list = isinstance(tree, list)
        keys.append(chance.randrange(len(tree)) if is_list else chance.choice(list(tree)))
        tree = tree[keys[-1]]
    return tuple(keys)


def _changed(tree: Any, path: tuple[Any, ...], change: str) -> Any:
    """Return the tree with another value or key at a path."""
    if not path:
        return PLACEHOLDER
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    if change == "value" or isinstance(inner, list):
        inner[path[-1]] = PLACEHOLDER
        return tree
    value = inner.pop(path[-1])
    if change == "renamed":
        inner[f"{path[-1]}x"] = value
    elif change == "key":
        inner[PLACEHOLDER] = value
    return tree
