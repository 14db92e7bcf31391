"""A verdict of the doctor is added to a copy of the program as docs/architecture.md says."""

import re
from pathlib import Path

import pytest
from adding.program_copy import ProgramCopy, shown_code

NAME = "many_weights"
CODE = shown_code(f"{NAME}.py")
TRAIN = ("-m", "pipeline.train", "model=mlp", "data=iris", "tracking=none", "trainer.max_epochs=1")


@pytest.mark.slow
def test_verdict_is_added_by_one_file(tmp_path: Path) -> None:
    program = ProgramCopy(tmp_path / "copy")
    program.add(f"doctor/rules/{NAME}.py", CODE)
    training = program.python(*TRAIN)
    assert training.returncode == 0, training.stderr
    weights = (
        r"doctor  many weights: \d+ weights for \d+ training rows; try optimizer.weight_decay="
    )
    assert re.search(weights, " ".join(training.stdout.split("\n          "))), training.stdout
    glossary = program.page("glossary.md", "write_records.py")
    assert "\n| many weights | far more weights than training rows | 参数过多 |\n" in glossary
    doctor_page = program.page("how-to/doctor.md")
    assert "\n### many_weights\nThe network has 1.5 weights or more" in doctor_page


def test_unknown_names_of_verdicts_end_a_training(tmp_path: Path) -> None:
    program = ProgramCopy(tmp_path / "copy")
    hides = program.add("doctor/rules/a.py", CODE.replace('"too_few_steps"', '"few_steps"'))
    needs = program.add("doctor/rules/b.py", CODE.replace('"rows"', '"row"'))
    training = program.python(*TRAIN)
    assert training.returncode == 2
    message = "`{}` has the unknown name '{}'. Did you mean '{}'?"
    problems = training.stderr.replace("\n", "")
    assert f"{hides}: {message.format('hides', 'few_steps', 'too_few_steps')}" in problems
    assert f"{needs}: {message.format('needs', 'row', 'rows')}" in problems
    assert not (program.folder / "runs").exists()
