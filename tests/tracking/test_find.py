from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.tracking.folders import State, find_run, listed, unfinished, write_state
from pipeline.tracking.journal import Header, Journal


def add_run(
    output: Path, name: str, run_id: str, command: str = "train", at: int | None = None
) -> Path:
    folder = output / name
    folder.mkdir(parents=True)
    tags = {"pipeline.command": command}
    Journal(folder).begin(Header(name="lstm", experiment="pipeline", uri="", tags=tags), at=at)
    write_state(folder, State(run_id=run_id))
    return folder


def test_a_run_is_found_by_its_path_its_name_its_id_and_a_unique_prefix(tmp_path: Path) -> None:
    folder = add_run(tmp_path, "20260101-000000-lstm-aaaaaa", "12e45678" * 4)
    add_run(tmp_path, "20260102-000000-lstm-bbbbbb", "12f45678" * 4)
    for reference in (str(folder), folder.name, "12e45678" * 4, "12e"):
        assert find_run(reference, tmp_path) == folder


def test_last_is_the_newest_run_that_trained(tmp_path: Path) -> None:
    folder = add_run(tmp_path, "20260101-000000-lstm-aaaaaa", "a" * 32, at=2)
    older = add_run(tmp_path, "20260102-000000-lstm-bbbbbb", "b" * 32, at=1)
    other = add_run(tmp_path, "20260103-000000-lstm-cccccc", "c" * 32, command="evaluate", at=3)
    assert find_run("last", tmp_path) == folder
    assert [run.folder for run in listed(tmp_path)] == [older, folder, other]
    assert unfinished(tmp_path) == [older, folder, other]


def test_an_ambiguous_prefix_is_refused_with_the_candidates(tmp_path: Path) -> None:
    add_run(tmp_path, "20260101-000000-lstm-aaaaaa", "12e" + "0" * 29)
    add_run(tmp_path, "20260102-000000-lstm-bbbbbb", "12f" + "0" * 29)
    with pytest.raises(ConfigError, match=r"'12' is not the beginning of one id; .*bbbb.*aaaa"):
        find_run("12", tmp_path)


def test_an_unknown_run_is_refused_with_the_nearest_folder(tmp_path: Path) -> None:
    add_run(tmp_path, "20260101-000000-lstm-aaaaaa", "1" * 32)
    with pytest.raises(ConfigError, match=r"unknown below .* mean '20260101-000000-lstm-aaaaaa'"):
        find_run("20260101-000000-lstm-aaaaab", tmp_path)


def test_last_without_any_run_says_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no run below output='.*' yet; train one"):
        find_run("last", tmp_path)
