"""Writes `configuration.md` from the comments in `conf/`: `python docs/write_configuration.py`."""

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.data.parsing.tables.file import formats

HERE = Path(__file__).parent
CONF = HERE.parent / "conf"
PAGE = HERE / "configuration.md"

GROUPS = {
    "model": "the network",
    "data": "the data set; the shared keys of `data` above set its preprocessing",
    "optimizer": "the optimizer",
    "scheduler": "learning rate schedule",
    "trainer": "the device, and all other arguments of Lightning's Trainer",
    "callbacks": "callbacks of Lightning: `callbacks=ema` or `callbacks=[ema,early_stopping]`",
    "tracking": "where runs are recorded",
    "experiment": "complete named runs; the command line overrides them",
    "debug": "short runs for debugging, not recorded in MLflow",
}
INTRODUCTION = """\
# Configuration

A run is a tree of values. `pipeline train` starts from
[`conf/train.yaml`](../conf/train.yaml) and adds one choice of each group; the command line
overrides both:

```sh
pipeline train model=gru data=mnist1d optimizer=sgd optimizer.lr=0.1
```

`model=gru` chooses `conf/model/gru.yaml`; `optimizer.lr=0.1` replaces one value. `--cfg job` prints
the tree that would run, `--help` lists groups and keys, and `-m model=lstm,gru` starts a run for
each. The comment of a key says what `null` means. `--config-dir FOLDER` adds a folder of your own
with the same groups; `tracking.uri`, `sweep.storage`, `sweep.ray.address`, `output` and `resume`
count there only if you type them as well.

This page is written from the comments of these files by `python docs/write_configuration.py`; a
test compares the two.
"""

TABLE_FILES = """\
`data=table`, `data=series`, `pipeline predict` and `pipeline evaluate` read files of these formats,
which are recognized by their content: """

_LINE = re.compile(
    r"^(?P<indent> *)(?P<key>[\w/]+):(?: (?P<value>[^#\s].*?))?(?: # (?P<words>.*))?$"
)


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION, "## Keys of every run\n", _table(CONF / "train.yaml")]
    for group, words in GROUPS.items():
        parts.append(f"## `{group}`: {words}\n")
        parts += _choices(group)
        if group == "data":
            names = sorted(record.name for record in formats())
            parts.append(f"### Formats of table files\n\n{TABLE_FILES}{', '.join(names)}.\n")
    parts += ["## Keys of `pipeline sweep` only\n"]
    parts += [_table(CONF / "sweep.yaml")]
    parts += ["## `sweeps`: what a study varies, and how\n", *_choices("sweeps")]
    for command in ("predict", "evaluate", "export", "report", "runs"):
        parts += [f"## Keys of `pipeline {command}`\n", _table(CONF / f"{command}.yaml")]
    return "\n".join(parts)


def _choices(group: str) -> Iterator[str]:
    files = sorted((CONF / group).glob("*.yaml"))
    if group in ("experiment", "debug", "sweeps"):
        rows = [f"| `{group}={file.stem}` | {_first_comment(file)} |" for file in files]
        yield "\n".join(["| choice | what it is |", "|---|---|", *rows, ""])
        return
    for file in files:
        yield f"### `{group}={file.stem}`\n\n{_first_comment(file)}\n"
        is_global = "# @package _global_" in file.read_text(encoding="utf-8")
        if table := _table(file, prefix="" if is_global else f"{group}."):
            yield table


def _first_comment(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    top: list[str] = []
    for line in lines:
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        top.append(line.removeprefix("#").strip())
    return _escaped(" ".join(top))


def _table(file: Path, *, prefix: str = "") -> str:
    rows = [
        f"| `{prefix}{key}` | {f'`{value}`' if value else ''} | {_escaped(words)} |"
        for key, value, words in _keys(file)
    ]
    return "\n".join(["| key | value | meaning |", "|---|---|---|", *rows, ""]) if rows else ""


def _keys(file: Path) -> Iterator[tuple[str, str, str]]:
    """Yield each key with its dots, its value as written and its comment."""
    path: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        path = [*path[: len(match["indent"]) // 2], match["key"]]
        is_group = match["value"] is None and not match["words"]
        if path[0] in ("defaults", "hydra") or is_group or path[-1] == "_target_":
            continue
        yield ".".join(path), match["value"] or "", match["words"] or ""


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
