"""Real workers for the tests of studies: told what to train, and listened to with patience."""

import select
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from faults.conftest import beside
from faults.processes import wait_until
from helpers.run_files import events

from pipeline.base.ends import TrialEnd
from pipeline.base.processes.fork_server import ForkServer
from pipeline.config.compose import compose
from pipeline.config.values import written
from pipeline.study.messages import Answer, Job, Rung, TestJob, TestResult
from pipeline.study.workers.pool import Worker
from pipeline.study.workers.worker import worker_process, worker_server

Kind = TypeVar("Kind", bound=Answer)

BASE = ("model=mlp", "data=iris", "trainer.max_epochs=3", "tracking=none")
TESTS = Path(__file__).parents[1]
OWN_PARTS = (TESTS / "study/own_parts/trial_parts.py", TESTS / "faults/own_code/sweep_parts.py")


@contextmanager
def worker_in(folder: Path) -> Iterator["Conversation"]:
    """A worker in a folder with the tests' own code, forked like those of a study."""
    for part in OWN_PARTS:
        shutil.copy(part, folder)
    with ExitStack() as stack:
        with chdir(folder):
            server = stack.enter_context(worker_server())

        def is_loaded() -> bool:
            server.listen()
            return server.is_loaded

        wait_until(is_loaded, what="the fork server")
        conversation = started(server)
        yield conversation
        conversation.worker.quit()


def job_of(*words: str, **changes: Any) -> Job:
    """The next trial in this folder, of a command line."""
    number = len(list(Path("trials").glob("*")))
    folder = Path("trials").absolute() / str(number)
    folder.mkdir(parents=True)
    fields: dict[str, Any] = {
        "number": number,
        "folder": str(folder),
        "name": f"study-{number}",
        "config": written(compose(beside(BASE, words))),
        "trust": [part.stem for part in OWN_PARTS],
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

    def listen(self) -> list[Answer]:
        """Take what it says within a moment; return all that was not taken before."""
        select.select([self.worker], [], [], 0.1)
        self.said += self.worker.answers()
        return self.said

    def hear(self, kind: type[Kind]) -> Kind:
        """Wait for an answer, and fail where it is of another kind."""
        wait_until(lambda: self.said or self.listen(), what=kind.__name__)
        answer = self.said.pop(0)
        assert isinstance(answer, kind), answer
        return answer

    def train(self, job: Job, *, verdicts: Sequence[bool] = ()) -> TrialEnd:
        """Let it train a trial to its end, with these answers at the rungs."""
        self.worker.train(job)
        for prune in verdicts:
            self.hear(Rung)
            self.worker.verdict(prune)
        return self.hear(TrialEnd)

    def test(self, job: Job, **changes: Any) -> TestResult:
        """Let it test the kept weights of a trial."""
        self.worker.test(TestJob(folder=job.folder, config=job.config, trust=job.trust, **changes))
        return self.hear(TestResult)


def started(server: ForkServer | None = None) -> Conversation:
    """Start a worker, in the current folder if no server forks it."""
    conversation = Conversation(Worker(worker_process({}, server)))

    def is_ready() -> bool:
        conversation.listen()
        return conversation.worker.is_ready

    wait_until(is_ready, what="a worker")
    return conversation


def ending(job: Job) -> tuple[str, str | None]:
    """Status and reason at the end of a trial's journal, which has one end."""
    (end,) = (event for event in events(Path(job.folder)) if event["event"] == "end")
    return end["status"], end["reason"]


def tags(job: Job) -> dict[str, str]:
    """The tags of a trial, those of its end included."""
    begin, *later = events(Path(job.folder))
    return {**begin["tags"], **{e["key"]: e["value"] for e in later if e["event"] == "tag"}}
