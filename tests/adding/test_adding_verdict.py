"""A verdict of the doctor is added to a copy of the program as docs/architecture.md says."""

import re
from pathlib import Path

import pytest
from program_copy import ProgramCopy, page_of_project, shown_code

NAME = "many_weights"
PAGES = ("how-to/doctor.md", "glossary.md")
TRAIN = ["-m", "pipeline.train", "model=mlp", "data=iris", "tracking=none", "trainer.max_epochs=1"]


@pytest.fixture
def program(tmp_path: Path) -> ProgramCopy:
    return ProgramCopy(tmp_path / "copy")


@pytest.fixture
def rule(program: ProgramCopy) -> Path:
    """The file of the verdict that docs/architecture.md shows."""
    return program.add(f"doctor/rules/{NAME}.py", shown_code(f"{NAME}.py"))


def pages(program: ProgramCopy) -> list[str]:
    """Write the pages anew and return them."""
    return [program.page(page, "write_records.py") for page in PAGES]


def test_verdict_is_added_by_one_file(program: ProgramCopy, rule: Path) -> None:
    training = program.python(*TRAIN)
    assert training.returncode == 0, training.stderr
    weights = (
        r"doctor  many weights: \d+ weights for \d+ training rows; try optimizer.weight_decay="
    )
    assert re.search(weights, " ".join(training.stdout.split("\n          "))), training.stdout
    doctor_page, glossary = pages(program)
    assert "\n### many_weights\nThe network has 1.5 weights or more" in doctor_page
    assert "\n| many weights | far more weights than training rows | 参数过多 |\n" in glossary
    rule.unlink()
    assert pages(program) == [page_of_project(page) for page in PAGES]


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
    program: ProgramCopy, rule: Path, change: tuple[str, str], problem: str
) -> None:
    code = rule.read_text(encoding="utf-8")
    line = code.splitlines().index("RULE = Rule(") + 1
    rule.write_text(code.replace(*change), encoding="utf-8")
    training = program.python(*TRAIN)
    assert training.returncode == 2
    assert f"{rule}{problem.replace('LINE', str(line))}" in training.stderr.replace("\n", "")
    assert not (program.folder / "runs").exists()
