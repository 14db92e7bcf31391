"""The study's own run in MLflow, kept by whichever process leads at the moment."""

from pipeline.study.ledger.progress import Progress
from pipeline.study.plan import StudyPlan
from pipeline.study.recording.scribe import Scribe
from pipeline.study.recording.study_run import Leadership, StudyRun, study_params
from pipeline.tracking.figure import Figure
from pipeline.tracking.journal import Status


class Leading:
    """Leads a study if nobody else does, and records how far it is.

    Args:
        plan: The study, opened.
        scribe: Brings the record into MLflow.
    """

    def __init__(self, plan: StudyPlan, scribe: Scribe) -> None:
        self._plan = plan
        self._scribe = scribe
        self._leadership = Leadership(plan.folder)
        self._run: StudyRun | None = None
        self._told: int | None = None

    @property
    def leads(self) -> bool:
        """Whether this process leads now; it does if nobody else does."""
        if self._run is None and self._leadership.try_acquire():
            self._run = self._begun()
        return self._run is not None

    def tend(self, progress: Progress) -> None:
        """Record how far the study is, if this process leads."""
        if not self.leads or self._run is None:
            return
        self._run.counts(progress.counts)
        best = progress.best_row
        if best is not None and best.number != self._told:
            values = dict(zip(self._plan.names, best.values, strict=True))
            self._run.best(values, best.number, best.overrides)
            self._told = best.number

    def left(self, figure: Figure) -> None:
        """Record that the study's folder holds a model by now, if this process leads."""
        if self._run is not None:
            self._run.left(figure)

    def describe(self, note: str) -> None:
        """Record the description of the study, in Markdown, if this process leads."""
        if self._run is not None:
            self._run.describe(note)

    def end(self, status: Status, reason: str | None = None) -> None:
        """End the run, if this process leads, and let another process lead."""
        if self._run is not None:
            self._run.end(status, reason)
        self._run = None
        self._leadership.release()

    def _begun(self) -> StudyRun:
        plan = self._plan
        run = StudyRun(plan.folder, self._scribe, name=plan.name, uid=plan.uid)
        run.begin(
            uri=plan.uri,
            experiment=plan.run.tracking.experiment,
            params=study_params(plan.options, plan.base),
            register=plan.run.register,
            trust=plan.run.trust,
        )
        return run
