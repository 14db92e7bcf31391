"""A metric is added to a copy of the program as docs/architecture.md says."""

import re
from pathlib import Path

import pytest
from adding.program_copy import ProgramCopy, shown_code

NAME = "specificity"
CODE = shown_code(f"{NAME}.py")
TRAIN = (
    *("-m", "pipeline.train", "model=mlp", "data=breast_cancer", "tracking=none"),
    *("pictures=false", "trainer.max_epochs=2", "optimizer.lr=3e-4", f"monitor=val/{NAME}"),
)
COLUMNS = "from pipeline.tracking.fields import columns; print(columns())"
FAULTS = (
    ("bounds=(0.0, 1.0)", "bounds=(1.0, 0.0)", "`bounds` must be a lower and an upper one"),
    ('"binary"', '"classes"', "`tasks` must be some of binary, multiclass, regression"),
    ('"max"', '"higher"', "`better` must be max or min"),
)
"""Text of the file, what replaces it, and the problem; test_records.py has those of any record."""


@pytest.mark.slow
def test_metric_is_added_by_one_file(tmp_path: Path) -> None:
    program = ProgramCopy(tmp_path / "copy")
    program.add(f"metrics/{NAME}.py", CODE)
    training = program.python(*TRAIN)
    assert training.returncode == 0, training.stderr
    assert re.search(rf"^{NAME} +\d\.\d+ +\d\.\d+–\d\.\d+ +1\.0+ +", training.stdout, re.MULTILINE)
    assert program.python("-m", "pipeline.report", "run=last").returncode == 0
    (report,) = program.folder.glob("**/report*.html")
    assert f">{NAME}<" in report.read_text(encoding="utf-8")
    assert f"metrics.`test/{NAME}`" in program.python("-c", COLUMNS).stdout
    row = f"| {NAME} | `{NAME}` | always | of the rows of the negative class, the share that "
    assert f"\n{row}" in program.page("glossary.md", "write_records.py")


def test_incomplete_metrics_end_a_training(tmp_path: Path) -> None:
    program = ProgramCopy(tmp_path / "copy")
    files = {
        str(program.add(f"metrics/odd{number}.py", CODE.replace(line, changed))): problem
        for number, (line, changed, problem) in enumerate(FAULTS)
    }
    training = program.python(*TRAIN)
    assert training.returncode == 2
    problems = training.stderr.replace("error: ", "\n").splitlines()
    for file, problem in files.items():
        (message,) = [line for line in problems if file in line]
        assert message.endswith(f"Metric {NAME!r}: {problem}")
    assert not (program.folder / "runs").exists()
