"""Real workers for the tests of studies: told what to train, and listened to with patience."""

import json
import os
import select
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from omegaconf import OmegaConf

from pipeline.config.compose import compose
from pipeline.study.messages import Answer, Job, Rung, Tested, TestJob, TrialEnd
from pipeline.study.workers.worker import Worker, worker_command, worker_process

Kind = TypeVar("Kind", bound=Answer)

BASE = ("model=mlp", "data=iris", "trainer.max_epochs=3", "tracking=none")
TRUST = ("trial_parts",)
OWN_PARTS = Path(__file__).parent / "own_parts" / "trial_parts.py"


@contextmanager
def worker_in(folder: Path) -> Iterator["Conversation"]:
    """A worker in a folder with the tests' own code."""
    shutil.copy(OWN_PARTS, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        conversation = started()
    yield conversation
    conversation.worker.quit()


def config_of(*words: str) -> dict[str, Any]:
    """The plain config of a command line, references unresolved."""
    plain = OmegaConf.to_container(compose(list(words)), resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def beside_base(words: Sequence[str]) -> list[str]:
    """The words of a short run, without those that are given otherwise."""
    given = {word.partition("=")[0] for word in words}
    return [*(word for word in BASE if word.partition("=")[0] not in given), *words]


def callback(name: str, **arguments: object) -> list[str]:
    """The words that add a callback of the tests' own."""
    words = [f"+callbacks.own._target_=trial_parts.{name}"]
    return [*words, *(f"+callbacks.own.{key}={value}" for key, value in arguments.items())]


def job_of(*words: str, number: int = 0, folder: Path | None = None, **changes: Any) -> Job:
    """A trial of a command line in a folder of its own, `trials/<number>` by default."""
    folder = folder or Path("trials") / str(number)
    folder.mkdir(parents=True)
    fields: dict[str, Any] = {
        "number": number,
        "folder": str(folder.absolute()),
        "name": f"study-{number}",
        "config": config_of(*beside_base(words)),
        "trust": list(TRUST),
        "parent_folder": str(Path.cwd()),
        "key": f"study-abcdef-{number}",
        "tags": {"pipeline.trial": str(number)},
        "objectives": ["val/f1"],
    }
    return Job(**{**fields, **changes})


class Conversation:
    """A worker that a test talks to; what it says is kept in `said`.

    Args:
        worker: It has been started.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.said: list[Answer] = []

    @property
    def folder(self) -> Path:
        """The folder that it works in."""
        return Path(f"/proc/{self.worker.lease.pid}/cwd").readlink()

    def hear(self, kind: type[Kind]) -> Kind:
        """Wait for an answer, and fail where it is of another kind."""
        self._wait(lambda: self.said)
        answer = self.said.pop(0)
        assert isinstance(answer, kind), answer
        return answer

    def await_ready(self) -> None:
        """Wait until it has loaded its libraries."""
        self._wait(lambda: self.worker.is_ready)

    def _wait(self, happened: Callable[[], object]) -> None:
        deadline = time.monotonic() + 90 * max(1.0, os.getloadavg()[0])
        while not happened():
            assert time.monotonic() < deadline
            select.select([self.worker], [], [], 0.5)
            self.said += self.worker.answers()

    def train(self, job: Job, *, verdicts: Sequence[bool] = ()) -> TrialEnd:
        """Let it train a trial to its end, with these answers at the rungs."""
        self.worker.train(job)
        for prune in verdicts:
            self.hear(Rung)
            self.worker.verdict(prune)
        return self.hear(TrialEnd)

    def test(self, job: Job, **changes: Any) -> Tested:
        """Let it test the kept weights of a trial."""
        self.worker.test(TestJob(folder=job.folder, config=job.config, trust=job.trust, **changes))
        return self.hear(Tested)


def started(environment: dict[str, str] | None = None) -> Conversation:
    """Start a worker in the current folder."""
    worker = Worker(worker_process(environment or {}, worker_command()))
    worker.start()
    conversation = Conversation(worker)
    conversation.await_ready()
    return conversation


def journal(job: Job) -> list[dict[str, Any]]:
    """What a trial's journal says."""
    lines = (Path(job.folder) / "journal.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


def ending(job: Job) -> tuple[str, str | None]:
    """Status and reason at the end of a trial's journal, which has one end."""
    (end,) = (event for event in journal(job) if event["event"] == "end")
    return end["status"], end["reason"]


def tags(job: Job) -> dict[str, str]:
    """The tags of a trial, those of its end included."""
    begin, *later = journal(job)
    return {**begin["tags"], **{e["key"]: e["value"] for e in later if e["event"] == "tag"}}
