"""Fits the network, tests the weights it keeps once, and writes down what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback

from pipeline.baselines import Baseline, linear, naive
from pipeline.callbacks.adoption import ScheduleCatchesUp
from pipeline.callbacks.checkpoint_file import read_checkpoint
from pipeline.callbacks.checkpoints import Checkpoints
from pipeline.callbacks.progress import EpochBars, EpochLines
from pipeline.callbacks.record import EpochRecord
from pipeline.config.check import check_callbacks
from pipeline.data.loader import loader
from pipeline.data.part import Part
from pipeline.metrics import ClassScores
from pipeline.modules.task import Task
from pipeline.running import artifacts
from pipeline.running.assembly import build_task, build_trainer
from pipeline.running.own_callbacks import build_callback, require_truthful
from pipeline.running.plan import Plan
from pipeline.running.recording import Record, on_record, run_name
from pipeline.running.results import Result, TestPart, baseline_metrics, scores_by_class
from pipeline.terminal import shown_verbosity
from pipeline.tracking.client import Recorder
from pipeline.tracking.logger import JournalLogger

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

EVALUATED_NUMBERS = 2**15
"""Numbers of an evaluated batch: enough to keep the cores busy, little enough for any memory."""

BASELINE_ROWS = 20_000
BASELINE_SECONDS = 20.0


def train(plan: Plan, recorder: Recorder | None, uri: str | None) -> Result:
    """Train the planned run, on record."""
    check_callbacks(plan.options)
    require_truthful(plan.options)
    with on_record(plan, recorder, uri) as record:
        session = Session(plan, record)
        session.fit()
        result = session.finish()
    return replace(result, unsent=record.unsent, seconds=perf_counter() - plan.started_at)


class Session:
    """One training with all that takes part in it."""

    def __init__(self, plan: Plan, record: Record) -> None:
        options = plan.options
        self._plan = plan
        self._record = record
        self._task: Task = build_task(options, plan.network, plan.prepared)
        self._checkpoints = Checkpoints(
            record.checkpoints,
            monitor=options.monitor if options.keep == "best" else None,
            facts={
                "config": dict(plan.config),
                "schema": plan.prepared.schema.to_dict(),
                "data": plan.prepared.content_hash,
            },
        )
        self._trainer: Trainer = build_trainer(
            options,
            plan.devices,
            callbacks=[*self._callbacks(), *self._progress()],
            logger=JournalLogger(record.journal),
            adopts=plan.start.parent is not None,
        )
        self._fit_seconds = 0.0

    def fit(self) -> None:
        """Train until the end, from the start that was planned."""
        plan, started_at = self._plan, perf_counter()
        training = self._loader(plan.prepared.train, shuffle=self._shuffles())
        validation = plan.prepared.validation
        self._trainer.fit(
            self._task,
            training,
            None if validation is None else self._loader(validation),
            ckpt_path=plan.start.checkpoint,
            weights_only=True,
        )
        self._fit_seconds = perf_counter() - started_at

    def finish(self) -> Result:
        """Test the kept weights where that is asked for, and write everything down."""
        plan, record = self._plan, self._record
        test = self._test() if plan.options.test else None
        values = {**self._best(), "time/fit": self._fit_seconds, **self._final(test)}
        record.journal.epoch(max(self._trainer.current_epoch, 1), values)
        result = Result(
            folder=record.folder,
            run_id=record.run_id,
            name=run_name(plan),
            metrics=values,
            history=record.journal.epochs(),
            classes=self._classes(test),
            schema=plan.prepared.schema,
            baselines=tuple(baseline.name for baseline in test.baselines) if test else (),
            epochs=self._trainer.current_epoch,
            seconds=perf_counter() - plan.started_at,
            unsent=0,
            where_to_look=record.where_to_look,
        )
        self._write_artifacts(result, test)
        return result

    def _callbacks(self) -> list[Callback]:
        options = self._plan.options
        own = [build_callback(target) for target in options.callbacks.values()]
        if self._plan.start.parent is not None:
            own.append(ScheduleCatchesUp())
        return [*own, EpochRecord(self._record.journal.epoch), self._checkpoints]

    def _progress(self) -> list[Callback]:
        verbose = shown_verbosity(self._plan.options.verbose)
        if verbose == 0:
            return []
        kind = EpochBars if verbose == 1 else EpochLines
        return [kind(self._plan.options.monitor or "train/loss", self._checkpoints)]

    def _loader(self, part: Part, *, shuffle: bool | None = None) -> Iterable[Any]:
        options = self._plan.options
        batch_size = options.data["batch_size"]
        if shuffle is None and not self._limits_evaluations():  # larger batches, the same outputs
            numbers = prod(self._plan.prepared.schema.input_shape)
            batch_size = max(batch_size, EVALUATED_NUMBERS // numbers)
        return loader(
            part,
            batch_size=batch_size,
            shuffle=bool(shuffle),
            seed=options.seed,
            num_workers=options.data["num_workers"],
            device=self._plan.devices.torch_device,
        )

    def _limits_evaluations(self) -> bool:
        """Tell whether evaluated batches are counted, so that they are those of the config."""
        trainer = self._plan.options.trainer
        limits = (trainer.limit_val_batches, trainer.limit_test_batches)
        return any((*limits, trainer.overfit_batches, trainer.fast_dev_run))

    def _shuffles(self) -> bool:
        # Overfitting means the same batches each epoch; Lightning sees to that for DataLoaders.
        options = self._plan.options
        return bool(options.data["shuffle"]) and not options.trainer.overfit_batches

    def _test(self) -> TestPart:
        best = self._checkpoints.best_path
        if self._plan.options.keep == "best" and best.exists():
            self._task.load_state_dict(read_checkpoint(best)["state_dict"])
        self._trainer.test(self._task, self._loader(self._plan.prepared.test), verbose=False)
        assert self._task.test_outputs is not None
        outputs, targets = self._task.test_outputs
        return TestPart(
            rows=self._plan.prepared.test.rows[: len(targets)].tolist(),
            outputs=outputs,
            targets=targets,
            baselines=self._baselines(len(targets)),
        )

    def _baselines(self, rows: int) -> tuple[Baseline, ...]:
        prepared = self._plan.prepared
        line = linear(prepared, max_rows=BASELINE_ROWS, max_seconds=BASELINE_SECONDS)
        present = [naive(prepared), *([] if line is None else [line])]
        # Where trainer.limit_test_batches cuts the test short, all are scored on the same rows.
        return tuple(Baseline(name=one.name, outputs=one.outputs[:rows]) for one in present)

    def _best(self) -> dict[str, float]:
        history, epoch = self._record.journal.epochs(), self._checkpoints.best_epoch
        if epoch is None or epoch not in history:
            return {}
        validated = {k: v for k, v in history[epoch].items() if k.startswith("val/")}
        return {"best/epoch": float(epoch), **{f"best/{k}": v for k, v in validated.items()}}

    def _final(self, test: TestPart | None) -> dict[str, float]:
        if test is None:
            return {}
        logged = self._trainer.callback_metrics.items()
        values = {key: float(value) for key, value in logged if key.startswith("test/")}
        threshold = self._plan.options.metrics.threshold
        return values | baseline_metrics(test, self._plan.prepared.schema, threshold=threshold)

    def _classes(self, test: TestPart | None) -> tuple[ClassScores, ...]:
        if test is None:
            return ()
        threshold = self._plan.options.metrics.threshold
        return scores_by_class(test, self._plan.prepared.schema, threshold=threshold)

    def _write_artifacts(self, result: Result, test: TestPart | None) -> None:
        folder = self._record.artifacts
        artifacts.write_history(folder, result.history)
        if test is not None:
            threshold = self._plan.options.metrics.threshold
            artifacts.write_predictions(folder, test, result.schema, threshold=threshold)
        if result.classes:
            artifacts.write_classes(folder, result.classes)
