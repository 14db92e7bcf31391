"""Fault F13: two drivers of one study, started at the same moment."""

import pytest

from faults.conftest import StartSweep
from faults.study_records import Records
from faults.sweeps import behaving


@pytest.mark.slow
def test_two_sweeps_that_start_together_in_an_empty_folder_share_one_total(
    sweep: StartSweep,
) -> None:
    words = ("sweep.n_trials=6", *behaving(delay=0.3))
    together = [sweep(*words), sweep(*words)]
    assert [one.end() for one in together] == [0, 0], [one.err for one in together]
    assert [one.err for one in together] == ["", ""]
    records = Records()
    records.require_whole(6)
    assert records.parent().end == ("FINISHED", None)
    assert len(records.ends()) == 6
    said = "".join(one.out for one in together)
    assert "the winner, tested once" in said
