"""Fits the network, tests the weights it keeps once, and writes down what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from pytorch_lightning import Callback

from pipeline.callbacks.adoption import ScheduleCatchesUp
from pipeline.callbacks.checkpoints import Checkpoints
from pipeline.callbacks.keeper import Keeper
from pipeline.callbacks.kept_weights import KeptWeights
from pipeline.callbacks.progress import EpochBars, EpochLines
from pipeline.callbacks.record import EpochRecord
from pipeline.callbacks.rungs import PrunedError, Rungs
from pipeline.config.check import check_callbacks
from pipeline.modules.task import Task
from pipeline.running.artifacts import write_history
from pipeline.running.assembly import build_task, build_trainer
from pipeline.running.batches import evaluated_batches, training_batches
from pipeline.running.carding import leave_card
from pipeline.running.deciding import decide
from pipeline.running.leaving import leave_model
from pipeline.running.own_callbacks import build_callback, require_truthful
from pipeline.running.plan import Plan
from pipeline.running.recording import Record, on_record, run_name
from pipeline.running.results import Result
from pipeline.running.scoring import direction_of
from pipeline.running.testing import Tested, tested
from pipeline.serving.decision import Decision
from pipeline.terminal import shown_verbosity
from pipeline.tracking.client import Recorder
from pipeline.tracking.logger import JournalLogger

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


def train(plan: Plan, recorder: Recorder | None, uri: str | None) -> Result:
    """Train the planned run, on record."""
    check_callbacks(plan.options)
    require_truthful(plan.options)
    with on_record(plan, recorder, uri) as record:
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


class Session:
    """One training with all that takes part in it."""

    def __init__(self, plan: Plan, record: Record) -> None:
        self._plan = plan
        self._record = record
        self._task: Task = build_task(plan.options, plan.network, plan.prepared)
        self._keeper = _keeper(plan, record)
        self._epochs = EpochRecord(record.journal.epoch)
        self._trainer: Trainer = build_trainer(
            plan.options,
            plan.devices,
            callbacks=[*self._callbacks(), *self._progress()],
            logger=JournalLogger(record.journal),
            writer=self._keeper.writer,
        )
        self._fit_seconds = 0.0
        self._pruned = False

    def fit(self) -> None:
        """Train until the end, or until it is pruned, from the start that was planned."""
        plan, started_at = self._plan, perf_counter()
        validation = plan.prepared.validation
        try:
            self._trainer.fit(
                self._task,
                training_batches(plan),
                None if validation is None else evaluated_batches(plan, validation),
                ckpt_path=plan.start.checkpoint,
                weights_only=True,
            )
        except PrunedError:
            self._pruned = True
        self._fit_seconds = perf_counter() - started_at

    def finish(self) -> Result:
        """Test the kept weights where that is asked for, and write everything down."""
        plan, record = self._plan, self._record
        decision = self._decide()
        test = self._test(decision) if plan.options.test and not self._pruned else None
        final = {} if test is None else test.metrics
        # What ends a pruned training comes before its last epoch is counted.
        epochs = self._trainer.current_epoch + int(self._pruned)
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
            pruned=self._pruned,
            seconds=perf_counter() - plan.started_at,
            unsent=0,
            where_to_look=record.where_to_look,
        )
        self._write(result, test)
        if not plan.occasion.lean:
            leave_model(plan, record, self._task.network, decision, result)
            leave_card(plan, record, result, test)
        return result

    def keep_weights(self) -> None:
        """Write the weights that were kept in memory, where they are wanted."""
        file = self._plan.occasion.weights
        if file is not None and not self._pruned and isinstance(self._keeper, KeptWeights):
            self._keeper.write(file)

    def _callbacks(self) -> list[Callback]:
        own = [build_callback(target) for target in self._plan.options.callbacks.values()]
        if self._plan.start.parent is not None:
            own.append(ScheduleCatchesUp())
        prunes = self._plan.occasion.prunes
        rungs = [Rungs(lambda epoch: prunes(epoch, self._kept_values()))] if prunes else []
        return [*own, self._epochs, self._keeper, *rungs]

    def _progress(self) -> list[Callback]:
        verbose = shown_verbosity(self._plan.options.verbose)
        if verbose == 0:
            return []
        kind = EpochBars if verbose == 1 else EpochLines
        return [kind(self._plan.options.monitor or "train/loss", self._keeper)]

    def _decide(self) -> Decision:
        """Take the weights that are kept, and learn from the validation rows how they answer."""
        if self._pruned or (self._plan.occasion.lean and not self._plan.options.test):
            return Decision()  # nobody asks a trial that is not tested
        best = self._keeper.best_weights()
        if best is not None:
            self._task.load_state_dict(best)
        return decide(self._plan, self._task.network)

    def _test(self, decision: Decision) -> Tested:
        return tested(self._plan, self._task, self._trainer, decision)

    def _best(self) -> dict[str, float]:
        history, epoch = self._record.journal.epochs(), self._keeper.best_epoch
        if epoch is None or epoch not in history:
            return {}
        validated = {k: v for k, v in history[epoch].items() if k.startswith("val/")}
        return {"best/epoch": float(epoch), **{f"best/{k}": v for k, v in validated.items()}}

    def _kept_values(self) -> Mapping[str, float]:
        """Return the values of the best epoch where that one is kept, else the newest of each."""
        history, best = self._epochs.history, self._keeper.best_epoch
        epochs = history.values() if best is None else [history.get(best, {})]
        return {key: value for values in epochs for key, value in values.items()}

    def _write(self, result: Result, test: Tested | None) -> None:
        if self._plan.occasion.lean:
            return
        write_history(self._record.artifacts, result.history)
        if test is not None:
            test.write(self._record.artifacts, self._plan)


def _keeper(plan: Plan, record: Record) -> Keeper:
    monitor = plan.options.monitor if plan.options.keep == "best" else None
    facts = {
        "config": dict(plan.config),
        "schema": plan.prepared.schema.to_dict(),
        "data": plan.prepared.content_hash,
    }
    better = direction_of(plan.options.monitor or "train/loss", plan.options.metrics)
    if plan.occasion.lean:
        return KeptWeights(monitor=monitor, facts=facts, better=better)
    adopts = plan.start.parent is not None
    return Checkpoints(
        record.checkpoints, monitor=monitor, facts=facts, better=better, adopts=adopts
    )
