"""Keeps the workers busy until a study has its trials, or until it must stop."""

import time
from dataclasses import dataclass, field

from pipeline.errors import ChangedDataError, EnvironmentFaultError, PipelineError
from pipeline.signals import stop
from pipeline.study.assignment import assign
from pipeline.study.closing import TrialCloser
from pipeline.study.floor import Floor
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.rows import Progress
from pipeline.study.live import Live
from pipeline.study.plan import StudyPlan
from pipeline.study.study_run import StudyRun
from pipeline.study.trial_end import TrialEnd
from pipeline.study.workers.messages import Beat, Gone, Message, Ready, Rung
from pipeline.study.workshop import Post

TICK_SECONDS = 0.25
LOOK_SECONDS = 2.0
BEAT_SECONDS = 10.0
STOP_SECONDS = 15.0


class StudyFailedError(PipelineError):
    """Trials failed one after another, so the study was stopped.

    Args:
        problem: One line for people.
        exit_code: That of the failure they share.
    """

    def __init__(self, problem: str, exit_code: int) -> None:
        super().__init__(problem)
        self.exit_code = exit_code  # type: ignore[misc] # each failure has its own


@dataclass(slots=True)
class Clock:
    """When something is to be done again, by the monotonic clock."""

    seconds: float
    due_at: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        """Tell whether it is time, and wait anew."""
        now = time.monotonic()
        if now < self.due_at:
            return False
        self.due_at = now + self.seconds
        return True


class Driver:
    """One study on the workers of this process, beside those of any other.

    Args:
        plan: The study, opened.
        ledger: What is on record of it.
        floor: The workers, and who puts their trials on record in MLflow.
        run: Records how far the study is.
        closer: Closes trials in both stores.
        live: Shows it.
    """

    def __init__(
        self,
        plan: StudyPlan,
        ledger: Ledger,
        floor: Floor,
        *,
        run: StudyRun,
        closer: TrialCloser,
        live: Live,
    ) -> None:
        self._plan = plan
        self._ledger = ledger
        self._workshop = floor.workshop
        self._recorder = floor.recorder
        self._run = run
        self._live = live
        self._progress = ledger.progress()
        self._mended = self._progress.consecutive_failures
        self._started_at = time.monotonic()
        self._look = Clock(LOOK_SECONDS)
        self._beat = Clock(BEAT_SECONDS)
        self._closer = closer

    def run(self) -> Progress:
        """Work until the study is settled, its time is over, or nobody wants more.

        Raises:
            Interrupted: A signal asked for a stop; what was running is queued again.
            StudyFailedError: Too many failures in a row.
            EnvironmentFaultError: The disk is full, or no worker can live here.
        """
        try:
            with stop.deferred():
                while not self._is_over():
                    self._advance()
        finally:
            self._leave()
        return self._ledger.progress()

    def _advance(self) -> None:
        self._workshop.staff(self._wanted())
        self._fill()
        self._listen(TICK_SECONDS)
        if self._look.is_due():
            self._closer.close_lost()
            self._listen(0.0)  # how a worker died whose trial was just found lost
            self._run.update(self._progress, self._plan.names)
        if self._beat.is_due():
            self._ledger.beat(post.number for post in self._workshop.busy() if post.is_alive())
        self._end_slow_trials()
        self._progress = self._ledger.progress()
        self._live.show(self._progress, [post.number for post in self._workshop.busy()])

    def _is_over(self) -> bool:
        if stop.signal_number is not None:
            return True
        self._require_hope()
        if self._is_late():
            return not self._workshop.busy()
        return self._progress.settled

    def _is_late(self) -> bool:
        timeout = self._plan.options.timeout
        return timeout is not None and time.monotonic() - self._started_at > timeout

    def _wanted(self) -> int:
        """Return how many workers there is work for."""
        busy = len(self._workshop.busy())
        return min(self._plan.workers, busy + self._progress.left)

    def _fill(self) -> None:
        """Give each idle worker a trial, as long as the study has one."""
        if self._is_late():
            return
        for post in self._workshop.idle():
            taken = self._ledger.take(post.lease)
            if taken is None:
                return
            folder = self._plan.trial_folder(taken.number)
            post.give(assign(self._plan, self._ledger, taken, folder))
            self._recorder.begin(folder)

    # ── what workers say ────────────────────────────────────────────────────────────────────

    def _listen(self, seconds: float) -> None:
        for post, message in self._workshop.listen(seconds):
            self._hear(post, message)

    def _hear(self, post: Post, message: Message) -> None:
        match message:
            case Ready() | Beat():
                return
            case Rung(step=step, value=value) if post.assignment is not None:
                prune = self._ledger.report(post.assignment.taken, step=step, value=value)
                post.worker.verdict(prune=prune)
            case TrialEnd() if post.assignment is not None:
                _require_environment(self._closer.end(post.finish(), message))
            case Gone():
                self._close_died(post, message)
            case _:
                return

    def _close_died(self, post: Post, gone: Gone) -> None:
        """Go on without a worker that has died, and give its trial up."""
        was_ready, assignment = post.was_ready, post.assignment
        self._workshop.dismiss(post)
        if assignment is not None and assignment.overdue:
            self._closer.end(assignment, TrialEnd(state="failed", reason="interrupted"))
        why = f"its process died ({gone.message})"
        self._closer.close_lost([] if assignment is None else [assignment.number], why=why)
        if not was_ready:
            self._workshop.count_stillborn(gone)

    # ── what must not go on ─────────────────────────────────────────────────────────────────

    def _end_slow_trials(self) -> None:
        seconds = self._plan.options.trial_timeout
        for post in self._workshop.busy():
            if seconds is not None and post.assignment is not None:
                post.end_if_slower_than(seconds)

    def _require_hope(self) -> None:
        """Stop where one failure follows another.

        Raises:
            StudyFailedError: `sweep.max_consecutive_failures` trials failed in a row.
        """
        most = self._plan.options.max_consecutive_failures
        failure = self._closer.failure
        in_a_row = self._progress.consecutive_failures
        self._mended = min(self._mended, in_a_row)  # none of them, once a trial has not failed
        if in_a_row - self._mended < most or failure is None:
            return
        raise StudyFailedError(
            f"{most} trials failed one after another, the last one: {failure.message}; mend that, "
            "or allow more with sweep.max_consecutive_failures=",
            failure.exit_code,
        )

    def _leave(self) -> None:
        """Stop what still runs here; the study can be gone on with from anywhere."""
        self._workshop.interrupt()
        died: list[int] = []
        deadline = time.monotonic() + STOP_SECONDS
        while self._workshop.busy() and time.monotonic() < deadline:
            for post, message in self._workshop.listen(TICK_SECONDS):
                if isinstance(message, TrialEnd) and post.assignment is not None:
                    self._closer.end(post.finish(), message)
                elif isinstance(message, Gone):
                    died += [] if post.assignment is None else [post.number]
                    self._workshop.dismiss(post)
                elif isinstance(message, Rung):
                    post.worker.verdict(prune=False)
        died += [post.number for post in self._workshop.busy()]
        self._workshop.kill()
        self._closer.close_lost(died)


def _require_environment(ended: TrialEnd) -> None:
    """Stop where the next trial would end as this one did.

    Raises:
        EnvironmentFaultError: The disk is full, say.
        ChangedDataError: The data are others than those of the trials before.
    """
    if ended.exit_code == ChangedDataError.exit_code and ended.reason == "interrupted":
        raise ChangedDataError(ended.message or "the data have changed")
    if ended.exit_code == EnvironmentFaultError.exit_code and ended.reason == "error":
        raise EnvironmentFaultError(ended.message or "the environment ended a trial")
