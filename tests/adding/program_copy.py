"""A copy of the program, to which a test adds a file."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


class ProgramCopy:
    """A copy of the program in an empty folder."""

    def __init__(self, folder: Path) -> None:
        for name in ("pipeline", "conf", "sweeps", "docs"):
            left_out = shutil.ignore_patterns("*.png")
            shutil.copytree(ROOT / name, folder / name, ignore=left_out)
        self.folder = folder

    def add(self, place: str, code: str) -> Path:
        """Write a file of the package, such as `metrics/a.py`, and return its path."""
        path = self.folder / "pipeline" / place
        path.write_text(code, encoding="utf-8")
        return path

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Python with this copy of the program."""
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )

    def printed(self, words: str) -> str:
        """Run a command of the program and return what it prints, in one line."""
        ended = self.python("-m", *words.split())
        return " ".join((ended.stdout + ended.stderr).split())

    def page(self, name: str, script: str = "") -> str:
        """Return a page of the docs, after a script has written it anew."""
        assert not script or self.python(f"docs/{script}").stderr == ""
        return (self.folder / "docs" / name).read_text(encoding="utf-8")


def shown_code(name: str) -> str:
    """Return the code of a file that docs/architecture.md shows."""
    pattern = rf"`{re.escape(name)}`:\n\n```python\n(.*?)```\n"
    (code,) = re.findall(pattern, ARCHITECTURE, re.DOTALL)
    return str(code)
