"""One training: fit, test of the kept weights, findings, pictures, model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from pipeline.callbacks.kept_weights import KeptWeights
from pipeline.callbacks.progress import EpochBars, EpochLines
from pipeline.callbacks.record import EpochRecord
from pipeline.callbacks.vitals import VitalSigns
from pipeline.config.check import check_callbacks
from pipeline.errors import DivergedError
from pipeline.running.participant import Participant
from pipeline.running.plan import Plan
from pipeline.running.process_group import process_group
from pipeline.running.recording import Record, on_record, run_name, unless_it_fails, write_history
from pipeline.running.results import Result, print_doctor
from pipeline.running.run_description import shown
from pipeline.running.run_findings import Trained, findings_of, put_down, steps_of, with_importances
from pipeline.running.saved_model import leave_card, leave_model
from pipeline.running.starting import tell_start
from pipeline.running.testing import Tested, decide, intervals_of, tested, write_intervals
from pipeline.running.trainer import require_truthful
from pipeline.serving.decision import Decision
from pipeline.terminal import shown_verbosity
from pipeline.tracking.client import Recorder
from pipeline.tracking.logger import JournalLogger

if TYPE_CHECKING:
    from pytorch_lightning import Callback

    from pipeline.bootstrap import Intervals
    from pipeline.callbacks.keeper import Keeper
    from pipeline.callbacks.vitals import VitalSigns
    from pipeline.running.participant import Participant
    from pipeline.running.peers import Peers
    from pipeline.running.plan import Plan
    from pipeline.running.recording import Record
    from pipeline.running.results import Result
    from pipeline.running.testing import Tested


def train(
    plan: Plan, recorder: Recorder | None, uri: str | None, peers: Peers | None = None
) -> Result:
    """Train the planned run, on record.

    Args:
        plan: The run.
        recorder: Fills MLflow; `None` = somebody else does, or nobody.
        uri: Where it is tracked; `None` = nowhere.
        peers: The processes that this one trains together with and has started itself.
    """
    check_callbacks(plan.options)
    require_truthful(plan.options)
    with on_record(plan, recorder, uri) as record, _together(plan, peers, record):
        session = Session(plan, record)
        session.fit()
        result = session.finish()
        record.conclude(plan.occasion, result)
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
                tell_start(plan)
            yield
    else:
        with peers.met(record):
            yield


class Session:
    """One training as the process that leads it has it: fit, tested, on record."""

    def __init__(self, plan: Plan, record: Record) -> None:
        self._plan = plan
        self._record = record
        self._epochs = EpochRecord(record.journal.epoch)
        vitals = VitalSigns()
        self._participant = Participant(
            plan,
            record.checkpoints,
            records=[vitals, self._epochs],
            prunes=None if plan.occasion.prunes is None else self._prunes,
            shows=self._progress,
            logger=JournalLogger(record.journal),
        )
        self._account = Account(plan, record, self._participant, vitals)
        self._fit_seconds = 0.0

    def fit(self) -> None:
        """Train until the end, or until it is pruned.

        Raises:
            DivergedError: The loss is no number any more; the doctor has said why.
        """
        started_at = perf_counter()
        try:
            self._participant.fit()
        except DivergedError:
            self._fit_seconds = perf_counter() - started_at
            unless_it_fails(
                lambda: self._account.of_diverged(seconds=self._fit_seconds),
                None,
                what="no account of what has diverged",
            )
            raise
        self._fit_seconds = perf_counter() - started_at

    def finish(self) -> Result:
        """Test the kept weights where that is asked for, and write everything down."""
        plan, record = self._plan, self._record
        decision = self._decide()
        test = self._test(decision) if plan.options.test and not self._participant.pruned else None
        final = {} if test is None else test.metrics
        # What ends a pruned training comes before its last epoch is counted.
        epochs = self._participant.trainer.current_epoch + int(self._participant.pruned)
        found = {"decision/threshold": decision.threshold} if decision.found else {}
        values = {**self._best(), "time/fit": self._fit_seconds, **found, **final}
        record.journal.epoch(max(epochs, 1), values)
        result = Result(
            folder=record.folder,
            run_id=record.run_id,
            name=run_name(plan),
            metrics=values,
            kept=self._kept_values(),
            history=record.journal.epochs(),
            classes=() if test is None else test.classes,
            schema=plan.prepared.schema,
            decision=decision,
            baselines=tuple(baseline.name for baseline in test.part.baselines) if test else (),
            epochs=epochs,
            parameters=sum(layer.parameters for layer in plan.layers),
            pruned=self._participant.pruned,
            seconds=perf_counter() - plan.started_at,
            unsent=0,
            where_to_look=record.where_to_look,
        )
        if result.pruned:
            return result
        return self._account.of_finished(result, test, seconds=self._fit_seconds)

    def keep_weights(self) -> None:
        """Write the weights that were kept in memory, where they are wanted."""
        file = self._plan.occasion.weights
        if (
            file is not None
            and not self._participant.pruned
            and isinstance(self._participant.keeper, KeptWeights)
        ):
            self._participant.keeper.write(file)

    def _prunes(self, epoch: int) -> bool:
        prunes = self._plan.occasion.prunes
        return prunes is not None and prunes(epoch, self._kept_values())

    def _progress(self, keeper: Keeper) -> list[Callback]:
        verbose = shown_verbosity(self._plan.options.verbose)
        if verbose == 0:
            return []
        kind = EpochBars if verbose == 1 else EpochLines
        return [kind(self._plan.options.monitor or "train/loss", keeper)]

    def _decide(self) -> Decision:
        """Take the weights that are kept, and learn from the validation rows how they answer."""
        if self._participant.pruned or (self._plan.occasion.lean and not self._plan.options.test):
            return Decision()  # nobody asks a trial that is not tested
        best = self._participant.keeper.best_weights()
        if best is not None:
            self._participant.task.load_state_dict(best)
        return decide(self._plan, self._participant.task.network)

    def _test(self, decision: Decision) -> Tested:
        return tested(self._plan, self._participant.task, self._participant.trainer, decision)

    def _best(self) -> dict[str, float]:
        history, epoch = self._record.journal.epochs(), self._participant.keeper.best_epoch
        if epoch is None or epoch not in history:
            return {}
        validated = {k: v for k, v in history[epoch].items() if k.startswith("val/")}
        return {"best/epoch": float(epoch), **{f"best/{k}": v for k, v in validated.items()}}

    def _kept_values(self) -> Mapping[str, float]:
        """Return the values of the best epoch where that one is kept, else the newest of each."""
        history, best = self._epochs.history, self._participant.keeper.best_epoch
        epochs = history.values() if best is None else [history.get(best, {})]
        return {key: value for values in epochs for key, value in values.items()}


class Account:
    """Writes down what a training came to.

    Args:
        plan: The run.
        record: Where it is on record.
        participant: What has trained.
        vitals: What has watched its layers.
    """

    def __init__(
        self, plan: Plan, record: Record, participant: Participant, vitals: VitalSigns
    ) -> None:
        self._plan = plan
        self._record = record
        self._participant = participant
        self._vitals = vitals

    def of_finished(self, result: Result, test: Tested | None, *, seconds: float) -> Result:
        """Write down what a finished run has found out, its model among it.

        Args:
            result: What the run came to.
            test: What its test came to; `None` = there was none.
            seconds: Time of training.

        Returns:
            The result with what the doctor says.
        """
        plan, record, lean = self._plan, self._record, self._plan.occasion.lean
        network = self._participant.task.network
        found = None if test is None or lean else intervals_of(plan, test)
        findings = findings_of(plan, self._trained(result, test, found, seconds))
        if not lean:
            findings = with_importances(findings, plan, network)
        result = replace(result, doctor=put_down(findings, record, lean=lean))
        if lean:
            return result
        write_history(record.artifacts, result.history)
        if test is not None and found is not None:
            test.write(record.artifacts, plan)
            write_intervals(record.artifacts, found)
        with shown(plan, record, self._participant.task, findings, result.doctor):
            leave_model(plan, record, network, result.decision, result)
            leave_card(plan, record, result, test, found)
        return result

    def of_diverged(self, *, seconds: float) -> None:
        """Write down what a diverged run has found out; the doctor says why it has no numbers.

        Args:
            seconds: Time of training.
        """
        plan, record = self._plan, self._record
        findings = findings_of(plan, self._trained(None, None, None, seconds))
        lines = put_down(findings, record, lean=plan.occasion.lean)
        if plan.occasion.lean:
            return
        write_history(record.artifacts, record.journal.epochs())
        with shown(plan, record, None, findings, lines):
            if shown_verbosity(plan.options.verbose) > 0:
                print_doctor(lines)

    def _trained(
        self, result: Result | None, test: Tested | None, found: Intervals | None, seconds: float
    ) -> Trained:
        history = self._record.journal.epochs() if result is None else result.history
        return Trained(
            run_id=self._record.run_id,
            end="diverged" if result is None else "finished",
            task=None if result is None else self._participant.task,
            kept=self._participant.keeper.best_epoch,
            epochs=len(history) if result is None else result.epochs,
            steps=steps_of(self._participant.trainer),
            seconds=seconds,
            history=history,
            metrics={} if result is None else result.metrics,
            vitals=self._vitals.vitals(),
            test=test,
            intervals=found,
            threshold=0.5 if result is None else result.decision.threshold,
        )
