"""A metric is added to a copy of the program as docs/architecture.md says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
GLOSSARY = Path("docs", "glossary.md")
NAME = "specificity"
TRAIN = (
    *("-m", "pipeline.train", "model=mlp", "data=breast_cancer", "tracking=none"),
    *("pictures=false", "trainer.max_epochs=2", "optimizer.lr=3e-4", f"monitor=val/{NAME}"),
)
COLUMNS = "from pipeline.tracking.fields import columns; print(columns())"


class ProgramCopy:
    """A copy of the program, to which a metric is added."""

    def __init__(self, folder: Path) -> None:
        for name in ("pipeline", "conf", "sweeps", "docs"):
            left_out = shutil.ignore_patterns("__pycache__", "*.png")
            shutil.copytree(ROOT / name, folder / name, ignore=left_out)
        self.folder = folder
        self.file = folder / "pipeline" / "metrics" / f"{NAME}.py"
        (code,) = re.findall(rf"`{NAME}\.py`:\n\n```python\n(.*?)```\n", ARCHITECTURE, re.DOTALL)
        self.file.write_text(code, encoding="utf-8")

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

    def glossary(self) -> str:
        """Write the glossary anew and return it."""
        written = self.python("docs/write_records.py")
        assert written.stderr == ""
        return (self.folder / GLOSSARY).read_text(encoding="utf-8")


@pytest.fixture
def program(tmp_path: Path) -> ProgramCopy:
    return ProgramCopy(tmp_path / "copy")


def test_metric_is_added_by_one_file(program: ProgramCopy) -> None:
    training = program.python(*TRAIN)
    assert training.returncode == 0, training.stderr
    assert re.search(rf"^{NAME} +\d\.\d+ +\d\.\d+–\d\.\d+ +1\.0+ +", training.stdout, re.MULTILINE)
    assert program.python("-m", "pipeline.report", "run=last").returncode == 0
    (report,) = program.folder.glob("**/report*.html")
    assert f">{NAME}<" in report.read_text(encoding="utf-8")
    assert f"metrics.`test/{NAME}`" in program.python("-c", COLUMNS).stdout
    row = f"| {NAME} | `{NAME}` | always | of the rows of the negative class, the share that "
    assert f"\n{row}" in program.glossary()
    program.file.unlink()
    assert program.glossary() == (ROOT / GLOSSARY).read_text(encoding="utf-8")
    refused = program.python(*TRAIN)
    assert refused.returncode == 2
    assert f"monitor='val/{NAME}' is not logged" in refused.stderr


@pytest.mark.parametrize(
    ("line", "changed", "problem"),
    [
        (
            "    bounds=(0.0, 1.0),\n",
            "",
            "missing 1 required keyword-only argument: 'bounds'",
        ),
        (
            'chinese="特异度"',
            'chinese=" "',
            "Metric 'specificity' has an empty `chinese`",
        ),
        (
            "bounds=(0.0, 1.0)",
            "bounds=(1.0, 0.0)",
            "Metric 'specificity': `bounds` must be a lower and an upper one",
        ),
        (
            'tasks=("binary",)',
            'tasks=("classes",)',
            "Metric 'specificity': `tasks` must be some of binary, multiclass, regression",
        ),
        (
            'better="max"',
            'better="higher"',
            "Metric 'specificity': `better` must be max or min",
        ),
    ],
)
def test_incomplete_metric_ends_a_training(
    program: ProgramCopy, line: str, changed: str, problem: str
) -> None:
    code = program.file.read_text(encoding="utf-8")
    assert line in code
    program.file.write_text(code.replace(line, changed), encoding="utf-8")
    training = program.python(*TRAIN)
    assert training.returncode == 2
    assert "Traceback" not in training.stderr
    assert str(program.file) in training.stderr
    assert problem in " ".join(training.stderr.split())
    assert not (program.folder / "runs").exists()
