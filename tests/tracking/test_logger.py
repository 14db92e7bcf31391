from pathlib import Path

from pipeline.tracking.journal import Journal
from pipeline.tracking.logger import JournalLogger


def test_values_of_an_epoch_are_counted_from_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    logger = JournalLogger(journal)
    logger.log_metrics({"epoch": 0, "train/loss": 0.5}, step=125)
    logger.log_metrics({"epoch": 1, "train/loss": 0.4}, step=250)
    assert journal.epochs() == {1: {"train/loss": 0.5}, 2: {"train/loss": 0.4}}


def test_values_of_a_test_belong_to_the_last_finished_epoch(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    JournalLogger(journal).log_metrics({"epoch": 20, "test/f1": 0.9}, step=2500)
    assert journal.epochs() == {20: {"test/f1": 0.9}}


def test_values_without_an_epoch_belong_to_the_one_in_progress(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    logger = JournalLogger(journal)
    logger.log_metrics({"epoch": 0, "train/loss": 0.5}, step=125)
    logger.log_metrics({"lr-Adam": 0.001}, step=126)
    assert journal.epochs()[2] == {"lr-Adam": 0.001}
