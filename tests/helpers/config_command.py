"""A command that checks a config and does nothing else, called as a user would call it."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import DictConfig

from pipeline.base.paths import conf_folder
from pipeline.commands.entry import command
from pipeline.config.check import check
from pipeline.config.options import RunConfig


@dataclass
class CommandLine:
    """Calls the command in an empty folder and keeps what it left."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __post_init__(self) -> None:
        self.runs: list[RunConfig] = []
        self.out = ""

    def __call__(self, *words: str) -> int:
        """Return the exit code of a command line."""
        self.runs.clear()
        code = command("train", self._body)(words)
        self.out, self.err = self.capsys.readouterr()
        return code

    def _body(self, config: DictConfig) -> int:
        self.runs.append(check(config))
        return 0

    def problems(self, *words: str) -> list[str]:
        """Return the lines of a refused command line, after looking at all it left behind."""
        before = self._files()
        argv = list(sys.argv)
        assert self(*words) == 2, self.err
        lines = self.err.splitlines()
        assert lines
        assert all(line.startswith("error: ") for line in lines)
        assert "Traceback" not in self.err
        assert self._files() == before
        assert sys.argv == argv
        return [line.removeprefix("error: ") for line in lines]

    def _files(self) -> set[Path]:
        return {path for path in self.folder.rglob("*") if "__pycache__" not in path.parts}

    def problem(self, *words: str) -> str:
        """Return the only line of a refused command line."""
        lines = self.problems(*words)
        assert len(lines) == 1, lines
        return lines[0]

    def run(self, *words: str) -> RunConfig:
        """Return the run of an accepted command line."""
        assert self(*words) == 0, self.err
        (run,) = self.runs
        return run


def choices(group: str) -> str:
    """Return the words of a group of `conf/` as a message lists them."""
    return ", ".join(sorted(path.stem for path in (conf_folder() / group).glob("*.yaml")))


def written(folder: Path, files: Mapping[str, str | bytes]) -> Sequence[str]:
    """Write a user's own folder of configuration; return the words that name it."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ["--config-dir", str(folder)]
