"""Studies of runs without a validation, through the command."""

from pathlib import Path

import pytest

from pipeline.sweep import main

UNVALIDATED = ("model=mlp", "data=iris", "data.validation=0", "trainer.max_epochs=1", "verbose=0")
SMALL = (*UNVALIDATED, "sweep.workers=1", "tracking=none")


@pytest.mark.slow
def test_seeds_are_compared_by_their_test_figures(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "sweeps=seeds", "seed=range(0,2)"]) == 0
    assert capsys.readouterr() == ("", "")
    table = own_folder / "runs" / "seeds-mlp-iris" / "artifacts" / "comparison.md"
    heading = table.read_text(encoding="utf-8").splitlines()[2]
    assert heading == "| predictor | n | test/f1 | test/accuracy | 95 % interval |"


def test_a_study_that_chooses_refuses_to_do_so_on_training_rows(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "sweeps=quick"]) == 2
    assert "sweep.objective='val/f1' is not logged; expected one of train/loss" in (
        capsys.readouterr().err
    )
    assert not (own_folder / "optuna.db").exists()
