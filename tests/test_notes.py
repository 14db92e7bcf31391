"""The notes: both languages agree, and every claim passes again."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.printed_lines import blocks

ROOT = Path(__file__).parent.parent
NOTES = ROOT / "docs" / "notes"
ENGLISH = sorted(NOTES.glob("*.md"))
PAGES = [*ENGLISH, *sorted((NOTES / "zh").glob("*.md"))]
LARGEST_PICTURE = 60_000
"""Bytes."""
PICTURE = re.compile(r"!\[([^\]]+)\]\((?:\.\./)?(pictures/[^)]+)\)")

each_twin = pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.stem)


def shell_blocks(page: Path) -> list[str]:
    """The commands of a page, with what stands behind `sh`, such as an exit code."""
    return re.findall(r"^```sh(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def claims(text: str) -> list[str]:
    """Each claim with its line of numbers."""
    return re.findall(r"^(?:pass|fail)  .+\n      .+$", text, flags=re.M)


def sentences(text: str) -> list[str]:
    return [claim.splitlines()[0] for claim in claims(text)]


@each_twin
def test_both_languages_show_equal_commands_and_claims(page: Path) -> None:
    """Pictures and table rows are equal too."""
    twin = NOTES / "zh" / page.name
    english, chinese = (one.read_text(encoding="utf-8") for one in (page, twin))
    assert shell_blocks(twin) == shell_blocks(page)
    assert blocks(chinese, "text") == blocks(english, "text")
    pictures = [[file for _, file in PICTURE.findall(text)] for text in (english, chinese)]
    assert pictures[0] == pictures[1]
    rows = [len(re.findall(r"^\| ", text, flags=re.M)) for text in (english, chinese)]
    assert rows[0] == rows[1]


def test_every_picture_is_small_and_shown() -> None:
    shown = {file for page in PAGES for _, file in PICTURE.findall(page.read_text("utf-8"))}
    there = {f"pictures/{file.name}" for file in (NOTES / "pictures").iterdir()}
    assert shown == there
    assert [one for one in there if (NOTES / one).stat().st_size > LARGEST_PICTURE] == []


def test_every_claim_passed_in_the_last_run() -> None:
    """Each one stands on a page with the numbers of that run."""
    last = claims((NOTES / "results.txt").read_text(encoding="utf-8"))
    shown = [claim for page in ENGLISH for claim in claims(page.read_text(encoding="utf-8"))]
    assert sorted(shown) == sorted(last)
    assert [claim for claim in last if not claim.startswith("pass")] == []
    assert len(last) >= 25


@pytest.mark.slow
@pytest.mark.minutes
def test_script_reproduces_pictures_and_claims(own_folder: Path) -> None:
    words = [sys.executable, str(NOTES / "experiments"), "--small", "--output", str(own_folder)]
    ended = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=900, check=False)
    assert ended.returncode == 0, ended.stdout
    last = (NOTES / "results.txt").read_text(encoding="utf-8")
    assert sentences(ended.stdout) == sentences(last)
    made, kept = (
        {file.name for file in place.glob("pictures/*.png")} for place in (own_folder, NOTES)
    )
    assert made == kept


@pytest.mark.slow
def test_diverging_commands_exit_as_shown(python: str) -> None:
    said = [block for page in ENGLISH for block in shell_blocks(page) if block[0] == " "]
    assert len(said) == 2
    for block in said:
        words, command = block.split("\n", 1)
        given = ["-m", *shlex.split(command), "tracking=none", "verbose=0"]
        ended = subprocess.run(
            [python, *given], stderr=subprocess.PIPE, text=True, timeout=300, check=False
        )
        assert words.strip() == f"exit={ended.returncode}", ended.stderr
        assert ended.stderr.startswith("error: "), ended.stderr
        assert ended.stderr.count("\n") == 1, ended.stderr
