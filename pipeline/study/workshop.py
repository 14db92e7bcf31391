"""The workers of this process: hired when there is work, listened to, replaced, sent home."""

import selectors
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from pipeline.errors import EnvironmentFaultError
from pipeline.processes.lease import Lease
from pipeline.study.assignment import Assignment
from pipeline.study.hiring import Hire
from pipeline.study.workers.crew import Worker
from pipeline.study.workers.job import TestJob
from pipeline.study.workers.messages import Gone, Message, Ready, Tested

STILLBORN = 3
"""Workers that may die before they are ready, one after another."""
BEAT_PATIENCE = 5.0
KILL_SECONDS = 15.0


@dataclass(slots=True, eq=False)
class Post:
    """One worker, its slot among them, and the trial in its hands."""

    worker: Worker
    slot: int
    assignment: Assignment | None = None
    was_ready: bool = False
    given_at: float = 0.0
    heard_at: float = 0.0

    @property
    def lease(self) -> Lease:
        """Who holds a trial that this worker trains."""
        return self.worker.lease

    @property
    def number(self) -> int:
        """Number of the trial in hand."""
        assert self.assignment is not None
        return self.assignment.number

    def give(self, assignment: Assignment) -> None:
        """Let the worker train a trial."""
        self.assignment, self.given_at = assignment, time.monotonic()
        self.worker.train(assignment.job)

    def finish(self) -> Assignment:
        """Take the trial out of the worker's hands."""
        assignment, self.assignment = self.assignment, None
        assert assignment is not None
        return assignment

    def is_alive(self) -> bool:
        """Tell whether the worker has said something lately."""
        return time.monotonic() - self.heard_at < BEAT_PATIENCE

    def end_if_slower_than(self, seconds: float) -> None:
        """Interrupt a trial that takes too long, and kill a worker that does not listen."""
        assert self.assignment is not None
        took = time.monotonic() - self.given_at
        if took > seconds and not self.assignment.overdue:
            self.assignment.overdue = True
            self.worker.interrupt()
        elif took > seconds + KILL_SECONDS:
            self.worker.kill()


class Workshop:
    """All workers of this process. A context manager: none outlives it.

    Args:
        hire: Makes the worker of a slot, not started yet.
    """

    def __init__(self, hire: Hire) -> None:
        self._hire = hire
        self._posts: list[Post] = []
        self._selector = selectors.DefaultSelector()
        self._stillborn = 0

    def __enter__(self) -> "Workshop":
        return self

    def __exit__(self, *_: object) -> None:
        for post in list(self._posts):
            self.dismiss(post)
        self._selector.close()

    def staff(self, wanted: int) -> None:
        """Hire until there are as many workers as wanted; nobody is sent home for being idle."""
        while len(self._posts) < wanted:
            slot = self._free_slot()
            worker = self._hire(slot)
            worker.start()
            post = Post(worker, slot)
            self._selector.register(worker.fileno(), selectors.EVENT_READ, post)
            self._posts.append(post)

    def _free_slot(self) -> int:
        taken = {post.slot for post in self._posts}
        return next(slot for slot in count() if slot not in taken)

    def idle(self) -> list[Post]:
        """Return those that wait for a trial."""
        return [post for post in self._posts if post.was_ready and post.assignment is None]

    def busy(self) -> list[Post]:
        """Return those that train one."""
        return [post for post in self._posts if post.assignment is not None]

    def listen(self, seconds: float) -> Iterator[tuple[Post, Message]]:
        """Yield what workers say, after waiting at most so long for the first word."""
        if not self._posts:
            time.sleep(seconds)
            return
        for key, _ in self._selector.select(seconds):
            post: Post = key.data
            for message in post.worker.messages():
                post.heard_at = time.monotonic()
                if isinstance(message, Ready):
                    post.was_ready, self._stillborn = True, 0
                yield post, message

    def test(self, job: TestJob) -> Tested:
        """Let an idle worker test the weights of a trial, and wait for it.

        Raises:
            EnvironmentFaultError: Workers die before they are ready.
        """
        post = self._ready_post()
        post.worker.test(job)
        while True:
            for other, message in self.listen(1.0):
                if other is post and isinstance(message, Tested):
                    return message
                if isinstance(message, Gone):
                    self.dismiss(other)
                    if other is post:
                        return Tested(problem=f"its process died ({message.message})")

    def _ready_post(self) -> Post:
        while not self.idle():
            self.staff(1)
            for post, message in self.listen(1.0):
                if isinstance(message, Gone):
                    self.dismiss(post)
                    self.count_stillborn(message)
        return self.idle()[0]

    def dismiss(self, post: Post) -> None:
        """Send a worker home, or bury it."""
        if post in self._posts:
            self._posts.remove(post)
            self._selector.unregister(post.worker.fileno())
            post.worker.quit()

    def count_stillborn(self, gone: Gone) -> None:
        """Note that a worker died before it was ready.

        Raises:
            EnvironmentFaultError: Several did, one after another, or no other can live there.
        """
        if gone.final:
            raise EnvironmentFaultError(gone.message)
        self._stillborn += 1
        if self._stillborn >= STILLBORN:
            raise EnvironmentFaultError(
                f"{STILLBORN} workers died one after another before they were ready "
                f"({gone.message}); see whether a single run works: python -m pipeline.train"
            )

    def interrupt(self) -> None:
        """Ask all that train to stop."""
        for post in self.busy():
            post.worker.interrupt()

    def kill(self) -> None:
        """End those that do not listen."""
        for post in list(self.busy()):
            post.worker.kill()
            self.dismiss(post)
