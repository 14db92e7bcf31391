"""The pages of `docs/how-to/`: their files are written and their commands run as they stand."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from helpers.printed_lines import differences
from helpers.printed_study import skeleton

#: `pipeline` as a fork, which starts at once; a function would be a process of its own beside `&`.
QUICK = "shopt -s expand_aliases\nalias pipeline='python -m pipeline'"
ROOT = Path(__file__).parents[2]
HOW_TO = ROOT / "docs" / "how-to"
FOR_TESTS = ("test", "test-slow", "dev")
"""Extras that only those who change the program need."""
_FENCE = re.compile(r"^```(?P<language>\w+)(?P<words>[^\n]*)\n(?P<content>.*?)^```$", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, the `key=value` words behind it, its content.

    `extra=onnx` says that it needs the packages of this extra, which the page says how to install.
    """

    language: str
    content: str
    words: dict[str, str] = field(default_factory=dict)


def fenced(page: Path) -> Iterator[Block]:
    for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
        words = dict(word.split("=", 1) for word in match["words"].split())
        yield Block(match["language"], match["content"], words)


def work_through(name: str, folder: Path, python: str) -> None:
    """Follow a how-to in a folder, and compare what is printed with what the page shows.

    Args:
        name: Of the page.
        folder: Where its files are written and its commands run.
        python: The `python` that runs them, in a folder that holds no other program for them.
    """
    printed = ""
    programs = f"{Path(python).parent}:{Path(sys.executable).parent}"
    for block in fenced(HOW_TO / f"{name}.md"):
        if "file" in block.words:
            file = folder / block.words["file"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.content, encoding="utf-8")
        elif block.language == "sh":
            ended = subprocess.run(
                ["bash", "-euc", f'PATH="{programs}:$PATH"\n{QUICK}\n{block.content}'],
                cwd=folder,
                env={**os.environ, "WITHOUT": " ".join(packages_without(block.words.get("extra")))},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=300,
                check=False,
            )
            printed = ended.stdout
            assert ended.returncode == int(block.words.get("exit", "0")), printed
        elif block.words.get("form") == "study":
            found = differences(skeleton(block.content), skeleton(printed), tolerance=0)
            assert not found, "\n".join([*found, printed])
        else:
            assert block.language == "text", f"nothing says what to do with {block.language}"
            assert differences(block.content, printed, tolerance=0.1) == []


def packages_without(extra: str | None) -> set[str]:
    """Return the packages of all extras for users, as they are imported, but for those of one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = {_module(text) for text in (*project["dependencies"], *extras.get(extra, ()))}
    others = [texts for name, texts in extras.items() if name not in FOR_TESTS]
    return {_module(text) for texts in others for text in texts} - needed


def _module(requirement: str) -> str:
    return re.split(r"[<>=\[]", requirement)[0].replace("-", "_")
