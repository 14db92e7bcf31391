"""One training: fit, test of the kept weights, findings, pictures, model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter

from pytorch_lightning import Callback

from pipeline.callbacks.checkpoints import KeptWeights
from pipeline.callbacks.epoch_end import EpochRecord, VitalSigns
from pipeline.callbacks.progress import EpochBars, EpochLines
from pipeline.config.check import check_callbacks
from pipeline.errors import DivergedError
from pipeline.paths import replace_text
from pipeline.running.participant import Participant
from pipeline.running.peers import Peers, process_group, send_start
from pipeline.running.plan import Plan
from pipeline.running.recording import Record, on_record, unless_it_fails, write_history
from pipeline.running.results import Result, print_doctor
from pipeline.running.run_description import described
from pipeline.running.run_findings import findings_of, write_diagnosis
from pipeline.running.saved_model import TrainedWeights
from pipeline.running.testing import ScoredTest, decide, tested, with_intervals
from pipeline.running.trainer import require_truthful
from pipeline.serving.files import CARD
from pipeline.serving.model import Decision
from pipeline.terminal import shown_verbosity
from pipeline.tracking.client import Recorder
from pipeline.tracking.logger import JournalLogger


def train(plan: Plan, recorder: Recorder | None, peers: Peers | None = None) -> Result:
    """Train the planned run, on record.

    Args:
        plan: The run.
        recorder: Fills MLflow; `None` = another process does, or none.
        peers: The other processes of the training that this one has started.
    """
    check_callbacks(plan.options)
    require_truthful(plan.options)
    with on_record(plan, recorder) as record, _together(plan, peers, record):
        session = Session(plan, record)
        session.fit()
        result = session.finish()
        record.reason = "pruned" if result.pruned else None
        last_tags = {} if plan.occasion.concludes is None else plan.occasion.concludes(result)
        for key, value in last_tags.items():
            record.journal.tag(key, value)
        session.keep_weights()
    return replace(
        result,
        unsent=record.unsent,
        registered=record.registered,
        seconds=perf_counter() - plan.started_at,
    )


@contextmanager
def _together(plan: Plan, peers: Peers | None, record: Record) -> Iterator[None]:
    """Meet the other processes of this training, if there are any."""
    if peers is None:
        with process_group(plan.rank, plan.devices, None):
            if plan.rank.world > 1 and not plan.occasion.lean:  # trials always start afresh
                send_start(plan)
            yield
    else:
        with peers.met(record):
            yield


class Session(Participant):
    """One training in its leading process: fit, tested, on record.

    Args:
        plan: The run.
        record: Takes the results.
    """

    def __init__(self, plan: Plan, record: Record) -> None:
        self._record = record
        self._epochs = EpochRecord(record.journal.epoch)
        self._vitals = VitalSigns()
        self._fit_seconds = 0.0
        prunes = plan.occasion.prunes
        super().__init__(
            plan,
            record.checkpoints,
            records=[self._vitals, self._epochs],
            prunes=prunes and (lambda epoch: prunes(epoch, self._kept_values())),
            logger=JournalLogger(record.journal),
        )

    def fit(self) -> None:
        """Train until the end, or until it is pruned.

        Raises:
            DivergedError: The loss is not a number any more; the diagnosis is on record.
        """
        started_at = perf_counter()
        try:
            super().fit()
        except DivergedError:
            self._fit_seconds = perf_counter() - started_at
            unless_it_fails(
                lambda: self._write(self._result(Decision(), None, {}), None, diverged=True),
                None,
                what="no account of what has diverged",
            )
            raise
        self._fit_seconds = perf_counter() - started_at

    def finish(self) -> Result:
        """Test the kept weights where that is asked for, and record everything."""
        decision, pruned, test = self._decide(), self.pruned, None
        if self._plan.options.test and not pruned:
            test = tested(self._plan, self.task, self.trainer, decision)
        # A pruned training ends before Lightning counts its last epoch.
        epochs = self.trainer.current_epoch + int(pruned)
        best, history = self.keeper.best_epoch, self._record.journal.epochs()
        values: dict[str, float] = {}
        if best is not None and best in history:
            validated = {k: v for k, v in history[best].items() if k.startswith("val/")}
            values = {"best/epoch": float(best), **{f"best/{k}": v for k, v in validated.items()}}
        values = {
            **values,
            "time/fit": self._fit_seconds,
            **({"decision/threshold": decision.threshold} if decision.found else {}),
            **({} if test is None else test.metrics),
        }
        self._record.journal.epoch(max(epochs, 1), values)
        result = replace(self._result(decision, test, values), epochs=epochs)
        return result if pruned else self._write(result, test, diverged=False)

    def keep_weights(self) -> None:
        """Write the weights that were kept in memory, where they are wanted."""
        file = self._plan.occasion.weights
        if file is not None and not self.pruned and isinstance(self.keeper, KeptWeights):
            self.keeper.write(file)

    def _progress(self) -> Sequence[Callback]:
        verbose = shown_verbosity(self._plan.options.verbose)
        if verbose == 0:
            return ()
        kind = EpochBars if verbose == 1 else EpochLines
        return (kind(self._plan.options.monitor or "train/loss", self.keeper),)

    def _decide(self) -> Decision:
        """Load the kept weights, and find their decision on the validation rows."""
        if self.pruned or (self._plan.occasion.lean and not self._plan.options.test):
            return Decision()  # a trial that is not tested needs none
        best = self.keeper.best_weights()
        if best is not None:
            self.task.load_state_dict(best)
        return decide(self._plan, self.task.network)

    def _kept_values(self) -> Mapping[str, float]:
        """Return the values of the best epoch where that one is kept, else the newest of each."""
        history, best = self._epochs.history, self.keeper.best_epoch
        epochs = history.values() if best is None else [history.get(best, {})]
        return {key: value for values in epochs for key, value in values.items()}

    def _result(
        self, decision: Decision, test: ScoredTest | None, values: Mapping[str, float]
    ) -> Result:
        plan, record = self._plan, self._record
        history = record.journal.epochs()
        return Result(
            folder=record.folder,
            run_id=record.run_id,
            name=plan.name,
            metrics=values,
            kept=self._kept_values(),
            history=history,
            classes=() if test is None else test.classes,
            schema=plan.prepared.schema,
            decision=decision,
            baselines=() if test is None else test.baselines,
            epochs=len(history),
            parameters=sum(layer.parameters for layer in plan.layers),
            pruned=self.pruned,
            seconds=perf_counter() - plan.started_at,
            unsent=0,
            where_to_look=record.where_to_look,
        )

    def _write(self, result: Result, test: ScoredTest | None, *, diverged: bool) -> Result:
        """Write the findings of a run, and its model unless it diverged; add the diagnosis."""
        plan, record, lean = self._plan, self._record, self._plan.occasion.lean
        network = self.task.network
        if test is not None and not lean:
            test = with_intervals(plan, test)
        findings = findings_of(
            plan,
            self,
            result,
            seconds=self._fit_seconds,
            test=test,
            vitals=self._vitals.vitals(),
            diverged=diverged,
        )
        result = replace(result, doctor=write_diagnosis(findings, record, lean=lean))
        if lean:
            return result
        write_history(record.artifacts, result.history)
        if test is not None:
            test.write(record.artifacts, plan.prepared.schema)
        with described(plan, record, None if diverged else network, findings, result.doctor):
            if not diverged:
                self._write_model(result, test)
            elif shown_verbosity(plan.options.verbose) > 0:
                print_doctor(result.doctor)
        return result

    def _write_model(self, result: Result, test: ScoredTest | None) -> None:
        record = self._record
        begins = [event for event in record.journal.events() if event["event"] == "begin"]
        weights = TrainedWeights(
            plan=self._plan,
            task=self.task,
            decision=result.decision,
            epoch=int(result.metrics.get("best/epoch", result.epochs)),
            epochs=result.epochs,
            kept=result.kept,
            history=result.history,
            tags=begins[-1]["tags"],
        )
        name, run_id, metrics = result.name, result.run_id, result.metrics
        figure = weights.write_model(record.folder, name=name, run_id=run_id, metrics=metrics)
        record.journal.model(figure)
        text = weights.write_card(
            record.folder, name=name, run_id=run_id, metrics=metrics, test=test
        )
        replace_text(record.artifacts / CARD, text)
