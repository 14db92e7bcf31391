"""Faults F6 and F32, promise N1: kills at any moment, and damaged checkpoints."""

import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers.fixture_types import Capture, Train
from helpers.run_files import events

from faults.conftest import Start
from faults.processes import checkpoint_epoch, recorded_epochs
from pipeline.base.errors import ConfigError
from pipeline.callbacks.checkpoint_file import read_checkpoint

WORDS = ("model=mlp", "data=iris", "scheduler=none", "tracking=none", "verbose=0")
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncation": lambda content: content[: len(content) // 2],
    "one bit": lambda content: with_bit(content, len(content) // 2, 0),
}


def with_bit(content: bytes, place: int, bit: int) -> bytes:
    """The same but for one bit."""
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def half_written(folder: Path) -> list[Path]:
    return list(folder.glob(".*.tmp"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_refused_naming_the_intact_one(
    train: Train, run: Path, capsys: Capture, damage: str
) -> None:
    """With resume=auto the run continues from the intact one."""

    def resume(which: str) -> tuple[int, str]:
        code = train(*WORDS, "trainer.max_epochs=6", f"resume={which}")
        (line,) = capsys.readouterr().err.splitlines()
        return code, line

    journal = run / "journal.jsonl"
    journal.write_text(journal.read_text("utf-8").replace('"FINISHED"', '"KILLED"'), "utf-8")
    last, best = run / "checkpoints" / "last.ckpt", run / "checkpoints" / "best.ckpt"
    content, best_content = last.read_bytes(), best.read_bytes()
    last.unlink()  # the best epoch may be the same file
    last.write_bytes(DAMAGES[damage](content))
    code, line = resume(str(run))
    assert (code, line[: len(f"error: {last} is ")]) == (2, f"error: {last} is ")
    assert line.endswith(f"; {best} is complete: resume=auto continues from it")
    best.unlink()
    best.write_bytes(b"")
    code, line = resume(str(run))
    assert (code, "is complete" in line) == (2, False)
    best.write_bytes(best_content)
    code, line = resume("auto")
    assert code == 0
    assert line.startswith(f"warning: {last.relative_to(Path.cwd())} is ")
    assert line.endswith(f"; continuing from {best.relative_to(Path.cwd())}")
    assert read_checkpoint(last)["pipeline"]["epoch"] == 6
    assert recorded_epochs(run) == [1, 2, 3, 4, 5, 6]


def test_flipped_bits_never_change_the_weights(run: Path, tmp_path: Path) -> None:
    """Reading either fails or gives the same weights."""
    path, broken = run / "checkpoints" / "last.ckpt", tmp_path / "broken.ckpt"
    content, weights = path.read_bytes(), read_checkpoint(path)["state_dict"]
    directory = content.rfind(b"PK\x01\x02", 0, len(content) - 3000)
    chance = random.Random(0)
    places = [*chance.sample(range(len(content)), 60), *range(60)]
    for place in [*places, *chance.sample(range(directory, len(content)), 60)]:
        broken.write_bytes(with_bit(content, place, chance.randrange(8)))
        try:
            read_weights = read_checkpoint(broken)["state_dict"]
        except ConfigError:
            continue
        # A bit that no reader looks at, such as a date in the archive.
        assert read_weights.keys() == weights.keys()
        assert all(torch.equal(read_weights[name], weights[name]) for name in weights)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder on another file system than the one of temporary files."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
def test_twenty_kills_lose_only_the_running_epoch(fork: Start, memory: Path) -> None:
    """Every file is whole after each kill."""
    chance, hits, newest = random.Random(6), 0, 0
    words = ["model=mlp", "data=iris", "data.batch_size=128", "model.hidden=[2100,2100]"]
    words += [f"output={memory}/runs", "trainer.max_epochs=100000", "tracking=none", "resume=auto"]
    words.append("trainer.checkpoint_seconds=0")
    for kill in range(20):
        training = fork(*words)
        if kill == 0:
            training.await_epoch()  # a run without any checkpoint is begun anew
        training.wait_until(lambda: training.out, what="its first words")  # noqa: B023
        (checkpoints,) = memory.glob("runs/*/checkpoints")
        if kill % 2:  # many a random moment lies between two writes
            training.wait_until(lambda: half_written(checkpoints), what="a write")  # noqa: B023
        time.sleep(chance.uniform(0, 0.05 if kill % 2 else 1.0))
        training.send(signal.SIGKILL)
        assert training.end() == -9
        hits += len(half_written(checkpoints))
        names = {path.name for path in checkpoints.iterdir() if path.suffix != ".tmp"}
        assert names == {"last.ckpt", "best.ckpt"}
        before, epochs = newest, recorded_epochs(checkpoints.parent)
        newest = epochs[-1]
        assert newest >= before
        assert epochs == list(range(1, newest + 1))
        saved = read_checkpoint(checkpoints / "last.ckpt")["pipeline"]["epoch"]
        assert saved in (newest, newest - 1)
        read_checkpoint(checkpoints / "best.ckpt")
        assert (checkpoints / "last.ckpt").stat().st_size >= 50 * 10**6
    assert hits >= 3, "too few kills have hit a write"
    last = fork(*words)
    last.await_epoch()
    last.send(signal.SIGTERM)
    assert last.end() == 143
    assert half_written(checkpoints) == []


@pytest.mark.slow
@pytest.mark.minutes
def test_kills_lose_at_most_one_second_of_training(fork: Start) -> None:
    chance = random.Random(7)
    words = (*WORDS[:-1], "trainer.max_epochs=100000", "resume=auto")
    newest, saved = 0, 0
    for _ in range(20):
        training = fork(*words)
        last = newest + chance.randrange(2, 70)
        training.await_epoch(last)
        training.send(signal.SIGKILL)
        assert training.end() == -signal.SIGKILL
        assert saved == 0 or f"resumed after epoch {saved}" in training.out
        before = newest
        epochs = recorded_epochs(training.run)
        newest = epochs[-1]
        assert epochs == list(range(1, newest + 1))
        saved = checkpoint_epoch(training.run)
        if (training.run / "checkpoints" / "best.ckpt").exists():  # it is written after `last.ckpt`
            assert checkpoint_epoch(training.run, "best") <= newest
        ended_at: dict[
            int, int
        ] = {}  # in ms, of the epochs that this process was the first to record
        for event in events(training.run):
            if event["event"] == "epoch" and event["epoch"] > max(before, saved):
                ended_at.setdefault(event["epoch"], event["time"])
        ended_at.pop(newest, None)  # the kill may have hit its checkpoint
        if ended_at:
            assert max(ended_at.values()) - min(ended_at.values()) <= 1000
    stopped = fork(*words)
    stopped.await_epoch(newest + 1)
    stopped.send(signal.SIGTERM)
    assert stopped.end() == 143
    newest = recorded_epochs(stopped.run)[-1]
    assert checkpoint_epoch(stopped.run) in (newest, newest - 1)  # the journal is written first


@pytest.mark.slow
def test_new_run_removes_partial_files_of_killed_runs(train: Train, fork: Start) -> None:
    training = fork("model=mlp", "data=iris", "tracking=none", "trainer.max_epochs=100000")
    training.await_epoch(1)
    half = training.run / "checkpoints" / f".last.ckpt.{2**22 + 1}.tmp"
    half.write_bytes(b"half")
    assert train(*WORDS, "trainer.max_epochs=1") == 0
    assert half.exists()  # its run is alive: whose file it is can't be known
    training.send(signal.SIGKILL)
    training.end()
    own_partial_file = half.with_name(f".last.ckpt.{training.pid}.tmp")
    described = half.parents[1] / "model" / f".interface.json.{training.pid}.tmp"
    described.parent.mkdir(exist_ok=True)
    for file in (own_partial_file, described):
        file.write_bytes(b"half")
    assert train(*WORDS, "trainer.max_epochs=1") == 0
    assert not any(file.exists() for file in (half, own_partial_file, described))


def test_resumed_run_removes_only_its_own_partial_files(run: Path, train: Train) -> None:
    """The run was moved to another folder before."""
    stranger = Path("elsewhere/papers/.draft.tmp")
    stranger.parent.mkdir(parents=True)
    moved = run.rename(stranger.parents[1] / run.name)
    half = moved / "checkpoints" / ".last.ckpt.1.tmp"
    for file in (stranger, half):
        file.write_bytes(b"half")
    assert train(f"resume={moved}", "trainer.max_epochs=4") == 0
    assert (stranger.exists(), half.exists()) == (True, False)
