"""An evaluation that is ready to begin: what is asked for, and the plan of its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.paths import cache_folder
from pipeline.base.redaction import redact
from pipeline.config.options import RunConfig
from pipeline.data.preparation.prepare import Prepared
from pipeline.networks.inspection import layer_table
from pipeline.running.devices import choose
from pipeline.running.plan import Plan, RunContext
from pipeline.serving.model import Model
from pipeline.tracking.fields import COMMAND_TAG, EVALUATE, PARENT_TAG
from pipeline.tracking.folders import read_state
from pipeline.tracking.ownership import is_own
from pipeline.tracking.run_record import JOURNAL
from pipeline.tracking.uri import store_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """An evaluation whose values are all checked.

    Args:
        model_path: Folder or file that the model is read from.
        split: Part of the run's own data: `test`, `validation`, `train` or `all`.
        is_own: Whether a part of the run's own data is scored.
        options: The run's options, as the command has changed them.
        config: The same options as plain values that may be stored.
        threshold: Replaces the model's threshold in a binary task; `None` = keep the model's.
        own_config: The same config with the run's own data, which may no longer exist.
    """

    model_path: Path
    split: str
    is_own: bool
    options: RunConfig
    config: Mapping[str, Any]
    threshold: float | None
    own_config: Mapping[str, Any]

    @property
    def rows_word(self) -> str:
        """Word for the scored rows: a part of the run's own data, or `other data`."""
        return self.split if self.is_own else "other data"


def evaluation_plan(
    request: EvaluationRequest, model: Model, prepared: Prepared, started_at: float
) -> Plan:
    """Return the plan of a test of the stored network."""
    options = request.options.on_one_device()
    notes = prepared.notes
    if request.rows_word != "test":  # the limits of the training do not apply to other rows
        unlimited = {"limit_test_batches": None, "fast_dev_run": False, "overfit_batches": 0.0}
        trainer = options.trainer.model_copy(update=unlimited)
        options = options.model_copy(update={"trainer": trainer})
    if not len(prepared.train) and options.loss.class_weights == "balanced":
        loss = options.loss.model_copy(update={"class_weights": None})
        options = options.model_copy(update={"loss": loss})
        notes = (
            *notes,
            "test/loss uses equal class weights, as there are no training rows",
        )
    run_id = str(model.facts.get("run_id") or "")
    is_in_store = request.model_path.is_relative_to(cache_folder())  # fetched from it just now
    for folder in (request.model_path, *request.model_path.parents[:3]):
        if (folder / JOURNAL).is_file():
            state = read_state(folder)
            uri = store_uri(options.tracking)
            run_id = state.run_id or run_id
            # The id in a foreign folder may be that of any run.
            is_in_store = uri is not None and state.uri == redact(uri) and is_own(folder)
            break
    tags = {
        COMMAND_TAG: EVALUATE,
        "evaluates": run_id or str(model.facts.get("name") or request.model_path.name),
        "evaluated": request.rows_word,
    }
    if run_id and is_in_store:
        tags[PARENT_TAG] = run_id
    return Plan(
        options=options,
        config=request.config,
        prepared=prepared,
        network=model.network,
        layers=tuple(layer_table(model.network, model.schema.input_shape)),
        devices=choose(options.trainer),
        started_at=started_at,
        notes=notes,
        context=RunContext(tags=tags),
    ).filled_in()
