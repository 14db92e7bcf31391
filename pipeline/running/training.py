"""One training on record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

from pytorch_lightning.loggers.logger import Logger

from pipeline.base.ends import TrialEnd
from pipeline.base.errors import DivergedError
from pipeline.base.processes.child import Child
from pipeline.callbacks.epoch_end import EpochEnd, EpochRecord
from pipeline.callbacks.progress import progress_of
from pipeline.running.decision import decide
from pipeline.running.final_test import scored_test
from pipeline.running.participant import Participant, build_keeper, refuse_callbacks
from pipeline.running.peers import Peers, process_group, shared_start
from pipeline.running.plan import Plan
from pipeline.running.recording import RunJournal, recorded_run, unless_it_fails
from pipeline.running.results import Result
from pipeline.running.run_output import Shows, write_diverged, write_finished
from pipeline.serving.model import Decision
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.journal import Journal

Concludes = Callable[[Result], TrialEnd]


def train(
    plan: Plan,
    recorder: RecorderClient | None,
    peers: Peers | None = None,
    *,
    artist: Child | None = None,
    concludes: Concludes | None = None,
    shows: Shows | None = None,
) -> Result:
    """Train the planned run, on record.

    Args:
        plan: The run.
        recorder: Sends the record to MLflow; `None` = another process does, or nothing is tracked.
        peers: Other processes of the training that this process has started, and that prepare it;
            `None` = no processes.
        artist: The process that draws the run's pictures; `None` = nothing is drawn.
        concludes: Returns the end to record; the run fails if it raises. `None` = it is complete.
        shows: Takes the result once the run has finished on record, and a description of the
            remaining work; `None` = nothing is shown.
    """
    refuse_callbacks(plan.options, plan.context.folder or plan.start.folder)
    with (
        recorded_run(plan, recorder, begins_later=plan.start.saved is not None) as record,
        process_group(plan.rank, plan.devices, None)
        if peers is None
        else peers.training_together(plan, record),
    ):
        if peers is None and plan.rank.world > 1:
            shared_start(plan)
        # Without an artist there is a child that is never started.
        session = Session(plan, record, artist or Child(()), shows)
        session.fit()
        result = session.finish()
        if concludes is not None:
            record.ended = concludes(result)
        if plan.context.weights is not None and not result.pruned:
            session.training.write_weights(plan.context.weights)
    return replace(result, seconds=perf_counter() - plan.started_at)


class Session:
    """One training in its leading process: fitted, tested and recorded."""

    def __init__(self, plan: Plan, record: RunJournal, artist: Child, shows: Shows | None) -> None:
        self._plan = plan
        self._record = record
        self._artist = artist
        self._shows = shows
        self._earlier_seconds = 0.0
        if plan.start.folder is not None and plan.start.saved is not None:  # the run is resumed
            for epoch, values in record.journal.read().epochs.items():
                if epoch <= plan.start.saved.facts["epoch"]:
                    sum_so_far = self._earlier_seconds + values.get("time/epoch", 0.0)
                    self._earlier_seconds = values.get("time/fit", sum_so_far)
        self.keeper = build_keeper(plan, record.folder)
        record.saves = self.keeper.write_waiting
        logger = JournalLogger(record.journal, lambda: self.training.trainer.current_epoch)
        self._epochs = EpochRecord(logger, plan.context.reached)
        epoch_end = EpochEnd(
            self.keeper,
            record=self._epochs,
            prunes=None if plan.context.prunes is None else self._is_pruned,
            progress=progress_of(
                plan.options.monitor or "train/loss", self.keeper, verbose=plan.options.verbose
            ),
            begins=self._begin,
        )
        self.training = Participant(
            plan, record.folder, epoch_end, measures_layers=True, logger=logger
        )

    def fit(self) -> None:
        """Train until the end or a pruning; diagnose a divergence and raise it again."""
        try:
            self.training.fit()
            self._record.begin()  # a run that had trained all of its epochs starts no training
        except DivergedError as error:
            self._record.begin()
            result = self._result(metrics={"time/fit": self._seconds()})
            error.result = unless_it_fails(
                lambda: write_diverged(self.training, self._record, result, artist=self._artist),
                "the result of the diverged run was not written",
            )
            raise

    def finish(self) -> Result:
        """Test the kept weights if the config asks for it, and record everything."""
        plan = self._plan
        training = self.training
        decision = Decision()
        test = None
        if not training.pruned and (plan.options.test or not plan.context.lean):
            best_weights = self.keeper.best_weights()
            if best_weights is not None:
                training.task.load_state_dict(best_weights)
            decision = decide(plan, training.task.network)
            if plan.options.test:
                test = scored_test(plan, training.task, decision, training.trainer)
        # A pruned training ends before Lightning counts its last epoch.
        epochs = training.trainer.current_epoch + int(training.pruned)
        metrics = self._best_metrics()
        metrics["time/fit"] = self._seconds()
        if decision.found:
            metrics["decision/threshold"] = decision.threshold
        if test is not None:
            metrics |= test.metrics
        self._record.journal.epoch(max(epochs, 1), metrics)
        result = self._result(decision=decision, test=test, metrics=metrics, epochs=epochs)
        if training.pruned:
            return result
        return write_finished(
            training, self._record, result, artist=self._artist, shows=self._shows
        )

    def _best_metrics(self) -> dict[str, float]:
        """Return the number of the best epoch and its validation values, if there is one."""
        epoch = self.keeper.best.epoch
        history = self._record.journal.read().epochs
        if epoch is None or epoch not in history:
            return {}
        metrics = {"best/epoch": float(epoch)}
        for key, value in history[epoch].items():
            if key.startswith("val/"):
                metrics[f"best/{key}"] = value
        return metrics

    def _begin(self) -> None:
        """Put the beginning of a resumed run on record, unless that was done."""
        started_at = perf_counter()
        self._record.begin()
        self.training.idle_seconds = perf_counter() - started_at

    def _is_pruned(self, epoch: int) -> bool:
        prunes = self._plan.context.prunes
        assert prunes is not None
        return prunes(epoch, self._kept_values())

    def _seconds(self) -> float:
        """Return the time of the training, that of the epochs before it was resumed included."""
        return self._earlier_seconds + self.training.seconds

    def _kept_values(self) -> Mapping[str, float]:
        """Return the values of the best epoch, or the newest of each metric if the last is kept."""
        history = self._epochs.history
        best_epoch = self.keeper.best.epoch
        if best_epoch is not None:
            return dict(history.get(best_epoch, {}))
        newest: dict[str, float] = {}
        for values in history.values():
            newest.update(values)
        return newest

    def _result(self, **fields: Any) -> Result:
        history = self._record.journal.read().epochs
        result = Result(
            record=self._record,
            kept=self._kept_values(),
            history=history,
            schema=self._plan.prepared.schema,
            epochs=max(history, default=0),
            parameters=self._plan.parameters,
            pruned=self.training.pruned,
            fit_seconds=self.training.seconds,
            seconds=perf_counter() - self._plan.started_at,
        )
        return replace(result, **fields)


class JournalLogger(Logger):
    """Writes the values of each epoch, and everything else that is logged, into the run's journal.

    Epochs are counted from 1 in the journal, and from 0 by Lightning.

    Args:
        journal: The journal. Of a resumed run, it may have epochs that are yet to be repeated.
        finished: Returns the number of epochs that have ended.
    """

    def __init__(self, journal: Journal, finished: Callable[[], int]) -> None:
        super().__init__()
        self._journal = journal
        self._finished = finished

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self._journal.folder.name

    @property
    def version(self) -> str:
        """An empty text: each run has its own folder."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self._journal.folder)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record the values of one epoch; `step`, which counts batches, is not recorded."""
        del step
        values = {key: value for key, value in metrics.items() if key != "epoch"}
        is_test = all(key.startswith("test/") for key in values)
        if "epoch" not in metrics:  # a callback of Lightning's own, such as LearningRateMonitor
            epoch = self._finished() + 1
        elif is_test:  # of the last epoch
            epoch = max(int(metrics["epoch"]), 1)
        else:
            epoch = int(metrics["epoch"]) + 1
        self._journal.epoch(epoch, values)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: the whole configuration is recorded at the start."""
