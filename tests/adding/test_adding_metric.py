"""A metric is added to a copy of the program as docs/architecture.md says."""

import re
from pathlib import Path

import pytest
from program_copy import ProgramCopy, page_of_project, shown_code

GLOSSARY = "glossary.md"
SCRIPT = "write_records.py"
NAME = "specificity"
TRAIN = (
    *("-m", "pipeline.train", "model=mlp", "data=breast_cancer", "tracking=none"),
    *("pictures=false", "trainer.max_epochs=2", "optimizer.lr=3e-4", f"monitor=val/{NAME}"),
)
COLUMNS = "from pipeline.tracking.fields import columns; print(columns())"


@pytest.fixture
def program(tmp_path: Path) -> ProgramCopy:
    return ProgramCopy(tmp_path / "copy")


@pytest.fixture
def added(program: ProgramCopy) -> Path:
    """The file of the metric that docs/architecture.md shows."""
    return program.add(f"metrics/{NAME}.py", shown_code(f"{NAME}.py"))


def test_metric_is_added_by_one_file(program: ProgramCopy, added: Path) -> None:
    training = program.python(*TRAIN)
    assert training.returncode == 0, training.stderr
    assert re.search(rf"^{NAME} +\d\.\d+ +\d\.\d+–\d\.\d+ +1\.0+ +", training.stdout, re.MULTILINE)
    assert program.python("-m", "pipeline.report", "run=last").returncode == 0
    (report,) = program.folder.glob("**/report*.html")
    assert f">{NAME}<" in report.read_text(encoding="utf-8")
    assert f"metrics.`test/{NAME}`" in program.python("-c", COLUMNS).stdout
    row = f"| {NAME} | `{NAME}` | always | of the rows of the negative class, the share that "
    assert f"\n{row}" in program.page(GLOSSARY, SCRIPT)
    added.unlink()
    assert program.page(GLOSSARY, SCRIPT) == page_of_project(GLOSSARY)
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
    program: ProgramCopy, added: Path, line: str, changed: str, problem: str
) -> None:
    code = added.read_text(encoding="utf-8")
    assert line in code
    added.write_text(code.replace(line, changed), encoding="utf-8")
    training = program.python(*TRAIN)
    assert training.returncode == 2
    assert "Traceback" not in training.stderr
    assert str(added) in training.stderr
    assert problem in " ".join(training.stderr.split())
    assert not (program.folder / "runs").exists()
