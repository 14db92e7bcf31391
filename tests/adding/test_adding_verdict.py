"""A verdict of the doctor is added to a copy of the program as docs/architecture.md says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAME = "many_weights"
PAGES = ("docs/how-to/doctor.md", "docs/glossary.md")
TRAIN = ["-m", "pipeline.train", "model=mlp", "data=iris", "tracking=none", "trainer.max_epochs=1"]


class Copy:
    """A copy of the program, to which a verdict is added."""

    def __init__(self, folder: Path) -> None:
        for name in ("pipeline", "conf", "sweeps", "docs"):
            left_out = shutil.ignore_patterns("__pycache__", "*.png")
            shutil.copytree(ROOT / name, folder / name, ignore=left_out)
        self.folder = folder
        self.rule = folder / "pipeline" / "doctor" / "rules" / f"{NAME}.py"
        (code,) = re.findall(rf"`{NAME}\.py`:\n\n```python\n(.*?)```\n", ARCHITECTURE, re.DOTALL)
        self.rule.write_text(code, encoding="utf-8")

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

    def pages(self) -> list[str]:
        """Write the pages anew and return them."""
        assert self.python("docs/write_records.py").stderr == ""
        return [(self.folder / page).read_text(encoding="utf-8") for page in PAGES]


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "copy")


def test_verdict_is_added_by_one_file(copy: Copy) -> None:
    training = copy.python(*TRAIN)
    assert training.returncode == 0, training.stderr
    weights = (
        r"doctor  many weights: \d+ weights for \d+ training rows; try optimizer.weight_decay="
    )
    assert re.search(weights, " ".join(training.stdout.split("\n          "))), training.stdout
    doctor_page, glossary = copy.pages()
    assert "\n### many_weights\nThe network has 1.5 weights or more" in doctor_page
    assert "\n| many weights | far more weights than training rows | 参数过多 |\n" in glossary
    copy.rule.unlink()
    assert copy.pages() == [(ROOT / page).read_text(encoding="utf-8") for page in PAGES]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            ('    chinese="参数过多",\n', ""),
            ":LINE: Rule.__init__() missing 1 required keyword-only argument: 'chinese'",
        ),
        (
            ('"too_few_steps"', '"few_steps"'),
            ": `hides` has the unknown name 'few_steps'. Did you mean 'too_few_steps'?",
        ),
        (('"rows"', '"row"'), ": `needs` has the unknown name 'row'. Did you mean 'rows'?"),
    ],
)
def test_incomplete_verdict_ends_a_training(
    copy: Copy, change: tuple[str, str], problem: str
) -> None:
    code = copy.rule.read_text(encoding="utf-8")
    line = code.splitlines().index("RULE = Rule(") + 1
    copy.rule.write_text(code.replace(*change), encoding="utf-8")
    training = copy.python(*TRAIN)
    assert training.returncode == 2
    assert f"{copy.rule}{problem.replace('LINE', str(line))}" in training.stderr.replace("\n", "")
    assert not (copy.folder / "runs").exists()
