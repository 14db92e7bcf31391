"""Evidence as odd runs leave it: the doctor still has a word for the rest."""

from dataclasses import replace

import numpy as np
from findings_made import made_findings

from pipeline.doctor.diagnosis import diagnose
from pipeline.findings.records import Clipping, Importances


def test_forecasts_of_more_steps_than_there_are_windows_are_judged() -> None:
    found = made_findings(task="regression", kind="series", rows=12)
    assert diagnose(replace(found, horizon=24)).names


def test_gradients_that_overflowed_for_a_while_say_nothing_of_the_threshold() -> None:
    found = made_findings(task="multiclass", kind="table")
    history = {
        epoch: {**values, "grad/norm_max": np.nan} for epoch, values in found.history.items()
    }
    chosen = Clipping(threshold=500.0, algorithm="norm", chosen=True)
    assert "clipping_never" not in diagnose(replace(found, history=history, clipping=chosen)).names


def test_a_leak_is_found_among_columns_of_which_most_were_not_looked_at() -> None:
    found = made_findings(task="binary", kind="table")
    assert found.test is not None
    right = replace(found.test, outputs=found.test.targets.astype(np.float32))
    falls = np.full((1000, 5), np.nan)
    falls[7], falls[8] = 0.5, 0.001
    columns = tuple(f"column {number}" for number in range(1000))
    importances = Importances(metric="f1", part="validation", columns=columns, falls=falls)
    metrics = {**found.metrics, "test/accuracy": 1.0, "test/f1": 1.0, "test/recall": 1.0}
    leaky = replace(found, test=right, metrics=metrics, importances=importances)
    (leakage,) = [one for one in diagnose(leaky).verdicts if one.name == "leakage"]
    assert "'column 7' alone has 100 %" in leakage.evidence
