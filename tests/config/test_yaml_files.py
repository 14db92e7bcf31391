"""A user's own YAML: what can't be read is told with its file and line."""

from pathlib import Path

import pytest
from command_line import CommandLine, written

EXPERIMENT = "experiment/mine.yaml"
GOOD = "# @package _global_\nseed: 3\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("seed: 1\nseed: 2\n", ":2 has the key 'seed' a second time; keep one."),
        ("data:\n\tseed: 2\n", ":2 is no YAML: a tab; indent with spaces."),
        (b"seed: 1\nname: \xe9\n", ":2 is not UTF-8; save the file as UTF-8."),
        ("", ":1 is empty; expected keys and values, or {} for none."),
        ("- seed\n", ":1 is no mapping; expected KEY: VALUE lines."),
        ("tags: &a [x]\nname: *a\n", ":2 has an alias (*a); write it out."),
        ("seed: [1\n", " is no YAML: "),
        ("tags: " + "[" * 3000 + "]" * 3000, ":1 is nested deeper than 20 levels; flatten it."),
        ("a:\n" + "".join(f"{' ' * n}- \n" for n in range(1, 99)), " is nested deeper than 20 "),
        ("name: !!python/object/apply:os.getcwd []\n", ":1 is no YAML: could not determine a "),
        ("#" * (2**20 + 1), " is larger than 1 MiB; expected a file of configuration."),
    ],
)
def test_a_file_that_can_not_be_read_is_named_with_the_line(
    line: CommandLine, tmp_path: Path, content: str | bytes, says: str
) -> None:
    words = written(tmp_path / "conf", {EXPERIMENT: content})

    problem = line.problem(*words, "experiment=mine")

    assert problem.startswith(str(tmp_path / "conf" / EXPERIMENT))
    assert says in problem


def test_a_bomb_of_aliases_is_refused_before_it_is_read(line: CommandLine, tmp_path: Path) -> None:
    rows = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    words = written(tmp_path / "conf", {EXPERIMENT: "\n".join(rows)})

    assert "has an alias (*a0); write it out." in line.problem(*words, "experiment=mine")


def test_a_file_that_is_not_asked_for_is_looked_through_too(
    line: CommandLine, tmp_path: Path
) -> None:
    deep = "tags: " + "[" * 3000 + "]" * 3000
    words = written(tmp_path / "conf", {EXPERIMENT: GOOD, "model/unused.yaml": deep})

    problem = line.problem(*words, "experiment=mine")

    assert problem.startswith(f"{tmp_path / 'conf' / 'model' / 'unused.yaml'}:1 is nested deeper")


def test_a_file_that_is_nested_as_deep_as_it_may_be_is_read(
    line: CommandLine, tmp_path: Path
) -> None:
    text = "# @package _global_\ncallbacks: {mine: {_target_: my.Net, a: " + "[" * 17 + "]" * 17
    words = written(tmp_path / "conf", {EXPERIMENT: text + "}}\n"})

    assert "callbacks.mine._target_='my.Net'" in line.problem(*words, "experiment=mine")


def test_all_files_with_problems_are_told_together(line: CommandLine, tmp_path: Path) -> None:
    words = written(tmp_path / "conf", {EXPERIMENT: "", "model/mine.yaml": "- a\n"})

    assert len(line.problems(*words)) == 2


def test_yaml_that_is_no_configuration_of_ours_is_left_alone(
    line: CommandLine, tmp_path: Path
) -> None:
    words = written(tmp_path, {EXPERIMENT: GOOD, "docker/compose.yaml": "a: &a 1\nb: *a\n"})

    assert line.run(*words, "experiment=mine").seed == 3


def test_an_unknown_key_in_a_users_file_is_named(line: CommandLine, tmp_path: Path) -> None:
    text = "# @package _global_\ntrainer:\n  epochs: 3\nsede: 3\n"
    words = written(tmp_path / "conf", {EXPERIMENT: text})

    assert line.problems(*words, "experiment=mine") == [
        "trainer.epochs is unknown. Did you mean 'trainer.max_epochs'?",
        "sede is unknown. Did you mean 'seed'?",
    ]


@pytest.mark.parametrize("folder", ["a b", "结果", "a,b=c", "#[x]", "it's"])
def test_a_users_folder_may_have_any_name(line: CommandLine, tmp_path: Path, folder: str) -> None:
    words = written(tmp_path / folder, {EXPERIMENT: GOOD})

    assert line.run(*words, "experiment=mine").seed == 3


def test_a_missing_folder_of_configuration_is_one_line(line: CommandLine) -> None:
    assert line.problem("--config-dir", "nowhere") == "--config-dir 'nowhere' is no folder."
