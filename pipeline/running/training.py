"""One training on record, or one range test of its learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers.logger import Logger

from pipeline.base.ends import TrialEnd
from pipeline.base.errors import DivergedError
from pipeline.base.findings import Findings, LrCurve
from pipeline.base.paths import replace_text
from pipeline.base.processes.child import Child, collecting_as_usual
from pipeline.base.terminal import duration, print_lines, shown_verbosity
from pipeline.callbacks.checkpoints import KeptWeights, generator_states, restore_generators
from pipeline.callbacks.epoch_end import EpochEnd, EpochRecord
from pipeline.callbacks.progress import EpochBars, EpochLines
from pipeline.callbacks.vital_signs import VitalSigns
from pipeline.config.check import check_callbacks
from pipeline.config.options import LrRangeOptions
from pipeline.running.beginning import write_history
from pipeline.running.kept_weights import TrainedWeights, decide, scored_test, with_intervals
from pipeline.running.lr_curve import read_curve, training_command, verdict, write_curve
from pipeline.running.peers import Peers, process_group, shared_start
from pipeline.running.plan import Plan
from pipeline.running.recording import Record, recorded_run, unless_it_fails
from pipeline.running.results import Result, print_doctor, where_lines
from pipeline.running.run_findings import drawing_pictures, findings_of, write_diagnosis
from pipeline.running.trainer import (
    Participant,
    build_keeper,
    build_task,
    build_trainer,
    refuse_callbacks,
    training_batches,
)
from pipeline.serving.files import CARD, FOLDER
from pipeline.serving.model import Decision
from pipeline.tracking.client import Recorder
from pipeline.tracking.fields import COMMAND_TAG, FIND_LR
from pipeline.tracking.journal import Journal

Concludes = Callable[[Result], TrialEnd]
Shows = Callable[[Result, str], None]


def train(
    plan: Plan,
    recorder: Recorder | None,
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
        peers: Other processes of the training that this process has started; `None` = no processes.
        artist: The process that draws the run's pictures; `None` = nothing is drawn.
        concludes: Returns the end to record; the run fails if it raises. `None` = it is complete.
        shows: Takes the result once the run has finished on record, and a description of the
            remaining work; `None` = nothing is shown.
    """
    check_callbacks(plan.options, plan.context.folder or plan.start.folder)
    refuse_callbacks(plan.options)
    with (
        recorded_run(plan, recorder, begins_later=plan.start.saved is not None) as record,
        process_group(plan.rank, plan.devices, None)
        if peers is None
        else peers.training_together(record),
    ):
        if peers is None and plan.rank.world > 1 and not plan.context.lean:
            shared_start(plan)  # trials always start afresh
        # Without an artist there is a child that is never started.
        session = Session(plan, record, artist or Child(()), shows)
        session.fit()
        result = session.finish()
        if concludes is not None:
            record.ended = concludes(result)
        file = plan.context.weights
        keeper = session.keeper
        if file is not None and not result.pruned and isinstance(keeper, KeptWeights):
            keeper.write(file)
    return replace(result, seconds=perf_counter() - plan.started_at)


class Session:
    """One training in its leading process: fitted, tested and recorded."""

    def __init__(self, plan: Plan, record: Record, artist: Child, shows: Shows | None) -> None:
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
        logger = JournalLogger(record.journal, lambda: self._training.trainer.current_epoch)
        self._epochs = EpochRecord(logger, plan.context.reached)
        epoch_end = EpochEnd(
            self.keeper,
            record=self._epochs,
            prunes=None if plan.context.prunes is None else self._is_pruned,
            progress=self._progress(),
            begins=self._begin,
        )
        self._training = Participant(
            plan, record.folder, epoch_end, vitals=VitalSigns(), logger=logger
        )

    def fit(self) -> None:
        """Train until the end or a pruning; diagnose a divergence and raise it again."""
        try:
            self._training.fit()
            self._record.begin()  # a run that had trained all of its epochs starts no training
        except DivergedError as error:
            self._record.begin()
            result = self._result(metrics={"time/fit": self._seconds()})
            error.result = unless_it_fails(
                lambda: self._write(result, diverged=True),
                "the result of the diverged run was not written",
            )
            raise

    def finish(self) -> Result:
        """Test the kept weights if the config asks for it, and record everything."""
        plan = self._plan
        training = self._training
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
        return result if training.pruned else self._write(result, diverged=False)

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

    def _progress(self) -> EpochLines | None:
        verbose = shown_verbosity(self._plan.options.verbose)
        if verbose == 0:
            return None
        kind = EpochBars if verbose == 1 else EpochLines
        return kind(self._plan.options.monitor or "train/loss", self.keeper)

    def _begin(self) -> None:
        """Put the beginning of a resumed run on record, unless that was done."""
        started_at = perf_counter()
        self._record.begin()
        self._training.idle_seconds = perf_counter() - started_at

    def _is_pruned(self, epoch: int) -> bool:
        prunes = self._plan.context.prunes
        assert prunes is not None
        return prunes(epoch, self._kept_values())

    def _seconds(self) -> float:
        """Return the time of the training, that of the epochs before it was resumed included."""
        return self._earlier_seconds + self._training.seconds

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
            pruned=self._training.pruned,
            fit_seconds=self._training.seconds,
            seconds=perf_counter() - self._plan.started_at,
        )
        return replace(result, **fields)

    def _write(self, result: Result, *, diverged: bool) -> Result:
        """Write the findings of a run, and the model unless it diverged; add the diagnosis."""
        plan = self._plan
        record = self._record
        lean = plan.context.lean
        if result.test is not None and not lean:
            result = replace(result, test=with_intervals(plan, result.test))
        findings = findings_of(plan, self._training, result, diverged=diverged)
        result = replace(result, doctor=write_diagnosis(findings, record, lean=lean))
        if lean:
            return result
        write_history(record.artifacts, result.history)
        if result.test is not None:
            result.test.write(record.artifacts, plan.prepared.schema)
        network = None
        if not diverged:
            network = self._training.task.network
            self._write_model(result, findings)
        with drawing_pictures(
            plan, record, network, findings, result.doctor, artist=self._artist
        ) as is_drawn:
            if diverged:
                if shown_verbosity(plan.options.verbose) > 0:
                    print_doctor(result.doctor)
                return result
            # From here on a stop or a kill leaves a finished run, whose record can be completed.
            record.finish()
            if self._shows is not None:
                tasks = []
                if is_drawn:
                    tasks.append("drawing pictures")
                if record.run_id is not None:
                    tasks.append("sending to MLflow")
                self._shows(result, ", ".join(tasks))
        return result

    def _write_model(self, result: Result, findings: Findings) -> None:
        plan = self._plan
        record = self._record
        begin = record.journal.read().begin
        assert begin is not None, "a run that has trained has begun on record"
        weights = TrainedWeights(
            plan=plan,
            task=self._training.task,
            decision=result.decision,
            epoch=int(result.metrics.get("best/epoch", result.epochs)),
            epochs=result.epochs,
            kept=result.kept,
            history=result.history,
            tags=begin.tags,
        )
        test = None if result.test is None else result.test.rows  # all of them
        record.journal.model(weights.write(record.folder, replace(findings, test=test)))
        text = (record.folder / FOLDER / CARD).read_text(encoding="utf-8")
        replace_text(record.artifacts / CARD, text)


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


# ── the range test ──────────────────────────────────────────────────────────────────────────

#: Values of Trainer options that could otherwise end a range test early or validate during it.
UNLIMITED = {
    "max_epochs": -1,
    "min_epochs": None,
    "min_steps": None,
    "max_time": None,
    "num_sanity_val_steps": 0,
    "val_check_interval": None,
    "check_val_every_n_epoch": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeTest:
    """Result of a range test of the learning rate.

    Args:
        record: Folder, journal and MLflow id of the run.
        curve: Losses over the rates, and the suggested rate.
        verdict: The suggestion in one line, the override first.
        picture: File with the plot of the curve.
        command: Command line that trains with the suggested rate; `None` = there is no suggestion
            or no command line.
        seconds: Time from the start of the command's work to its end.
    """

    record: Record
    curve: LrCurve
    verdict: str
    picture: Path
    command: str | None
    seconds: float

    def print(self) -> None:
        """Print the suggestion with its meaning, and where the files are."""
        lines = [self.verdict, f"picture {self.picture}"]
        if self.command is not None:
            lines.append(f"train   {self.command}")
        lines += [
            f"took    {duration(self.seconds)}; nothing was trained",
            f"run     {self.record.folder}",
            *where_lines(self.record),
        ]
        print_lines(lines)


def range_test(plan: Plan, recorder: Recorder | None) -> RangeTest:
    """Take steps of the planned run at rising learning rates, on record; no weights are kept."""
    check_callbacks(plan.options)
    # `last` skips runs with this tag: they have no weights.
    context = replace(plan.context, tags={**plan.context.tags, COMMAND_TAG: FIND_LR})
    with recorded_run(replace(plan, context=context), recorder) as record:
        rates, losses = try_rates(plan)
        curve = read_curve(rates, losses)
        picture = write_curve(record.artifacts, curve, rates, losses)
        suggestion = curve.suggestion
        record.journal.tag(FIND_LR, "none" if suggestion is None else f"{suggestion:g}")
    return RangeTest(
        record=record,
        curve=curve,
        verdict=verdict(curve, plan.options.lr_range),
        picture=picture,
        command=training_command(plan.command, suggestion),
        seconds=perf_counter() - plan.started_at,
    )


@collecting_as_usual()
def try_rates(plan: Plan) -> tuple[list[float], list[float]]:
    """Return the rate of each step, and the loss of its batch before the step.

    Weights and generators are restored afterwards. The run's schedule and callbacks are not used;
    clipping, precision, accumulation and batches are those of its training.
    """
    lr_range = plan.options.lr_range
    generators = generator_states()
    limits = {**UNLIMITED, "max_steps": lr_range.steps}
    trainer_options = plan.options.trainer.model_copy(update=limits)
    options = plan.options.model_copy(update={"scheduler": None, "trainer": trainer_options})
    steps = _RateSteps(lr_range)
    trainer = build_trainer(replace(plan, options=options), callbacks=[steps])
    weights = {key: value.clone() for key, value in plan.network.state_dict().items()}
    with suppress(DivergedError):  # the last loss of the curve is not finite
        trainer.fit(build_task(options, plan.network, plan.prepared), training_batches(plan))
    plan.network.load_state_dict(weights)
    restore_generators(generators)
    return steps.rates, steps.losses


class _RateSteps(Checkpoint):
    """Sets the rate of each step and keeps its loss; a Checkpoint, so that Lightning adds none."""

    def __init__(self, lr_range: LrRangeOptions) -> None:
        lowest = lr_range.lowest
        steps = lr_range.steps
        ratio = lr_range.highest / lowest
        self._planned_rates = [lowest]
        for step in range(2, steps + 1):
            self._planned_rates.append(lowest * ratio ** (step / steps))
        self.rates: list[float] = []
        self.losses: list[float] = []
        #: Losses of the batches since the last step.
        self._batch_losses: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Set the rate."""
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self._planned_rates[trainer.global_step]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Keep the loss; if several batches make one step, keep their mean."""
        del pl_module
        assert isinstance(outputs, Mapping)
        self._batch_losses.append(float(outputs["loss"]))
        if trainer.global_step > len(self.rates):
            self.rates.append(self._planned_rates[len(self.rates)])
            self.losses.append(sum(self._batch_losses) / len(self._batch_losses))
            self._batch_losses.clear()
            trainer.should_stop = not isfinite(self.losses[-1])
