"""How a run appears in MLflow: names, texts and limits."""

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.metrics import default_names, ranked
from pipeline.scoring.baselines import all_baselines

COMMAND_TAG = "pipeline.command"
#: Value of `COMMAND_TAG` for a study.
SWEEP = "sweep"
#: Value of `COMMAND_TAG` for an evaluation.
EVALUATE = "evaluate"
#: Value of `COMMAND_TAG` for a range test of the learning rate.
FIND_LR = "find_lr"
STUDY_TAG = "pipeline.study"
TRIAL_TAG = "pipeline.trial"
#: Holds the unique key by which a run is found again.
FOLDER_TAG = "pipeline.folder"
END_TAG = "end_reason"
#: Folds a run under another one in MLflow's pages.
PARENT_TAG = "mlflow.parentRunId"
#: Tags by which a run belongs to another run, to a study or to a folder.
IDENTITY_TAGS = (FOLDER_TAG, PARENT_TAG, STUDY_TAG, TRIAL_TAG)
#: Holds the SHA-256 of a logged model's weights, or the logged model's id in a registered version.
MODEL_TAG = "pipeline.model"

MAX_KEY = 250
MAX_PARAM = 6000
MAX_TAG = 8000
#: Prefixes of parameters that distinguish runs; MLflow's pages list parameters as they were logged.
PARAM_PREFIXES = ("model.", "data.", "optimizer.", "scheduler.", "trainer.")

#: MLflow shows this tag as the description of a run.
NOTE_TAG = "mlflow.note.content"

#: Ends the address of a page; without it MLflow shows its pages for language models.
TRAINING_PAGES = "workflowType=machine_learning"

#: Prefixes of values that belong to a run rather than to an epoch, besides those of baselines.
_RUN_VALUES = ("test/", "best/", "decision/", "time/fit", "model/")
#: Key of the view that the links of this program open, among the saved views of an experiment.
VIEW = "pipeline"
#: Columns of the view after those of metrics.
COLUMNS = ("params.`optimizer.lr`", "tags.`doctor`", "attributes.`Dataset`")
#: Sections of charts in the view, the curves first; those of tests and the last ones are folded.
CURVES = ("val", "train", "grad", "time", "Model metrics")
_FOLDED_LAST = ("best", "best/val", "System metrics")

_REFUSED = re.compile(r"[^/\w.\- :]")


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowTrial:
    """The MLflow run of one trial.

    `status` is RUNNING, FINISHED, FAILED or KILLED. `end_reason` is `None` if the trial did not end
    early. `metrics` has the latest values of the metrics that were asked for.
    """

    trial: int
    run_id: str
    status: str
    end_reason: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def final_prefixes() -> tuple[str, ...]:
    """Return the prefixes of values that belong to a run rather than to an epoch."""
    return (*_RUN_VALUES, *(f"{name}/" for name in all_baselines()))


def field_name(name: str) -> str:
    """Return a name that MLflow accepts; a long one is cut and ends in a hash of the whole name."""
    accepted = posixpath.normpath(_REFUSED.sub("_", name)).lstrip("./") or "_"
    if len(accepted) <= MAX_KEY:
        return accepted
    return f"{accepted[: MAX_KEY - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def param_text(value: object) -> str:
    """Return a parameter as the text that Hydra would read back, cut at MLflow's limit."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return cut(str(value), MAX_PARAM)


def param_texts(params: Mapping[str, object]) -> dict[str, str]:
    """Return parameters by name as MLflow stores them, those that distinguish runs first."""
    return {field_name(key): param_text(params[key]) for key in sorted(params, key=_param_rank)}


def _param_rank(key: str) -> int:
    """Return the position of a parameter's group; a smaller one comes first."""
    for position, prefix in enumerate(PARAM_PREFIXES):
        if key.startswith(prefix):
            return position
    return len(PARAM_PREFIXES)


def tag_texts(tags: Mapping[str, object]) -> dict[str, str]:
    """Return tags with the names and texts that MLflow stores."""
    return {field_name(key): cut(str(value), MAX_TAG) for key, value in tags.items()}


def columns() -> list[str]:
    """Return the columns of the view; MLflow's pages leave out those that no run has."""
    defaults = default_names()
    keys = []
    for name in defaults:
        keys += [f"{stage}/{name}" for stage in ("best/val", "val", "test", "linear", "trees")]
    keys += [f"test/{name}" for name in ranked() if name not in defaults]
    return [*(f"metrics.`{key}`" for key in keys), *COLUMNS]


def view_tag() -> dict[str, str]:
    """Return the tag by which MLflow's page of an experiment offers the view with our columns."""
    sections = []
    for name in (*CURVES, "test", *all_baselines(), *_FOLDED_LAST):
        sections.append(
            {"uuid": name, "name": name, "display": name in CURVES, "isReordered": True}
        )
    names = columns()
    state = {
        "selectedColumns": names,
        "columnOrder": names,
        "columnWidths": {**dict.fromkeys(names, 90), "tags.`doctor`": 140, names[-1]: 270},
        "compareRunCharts": [],
        "compareRunSections": sections,
        "isAccordionReordered": True,
    }
    content = {"name": "Scores", "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
    return {f"mlflow.sharedViewState.{VIEW}": json.dumps(content)}


def data_set(params: Mapping[str, Any], *, digest: str, rows: Mapping[str, int]) -> dict[str, str]:
    """Return the fields of the MLflow data set of a run.

    Args:
        params: The flattened configuration of the run.
        digest: Hash of its data.
        rows: Number of rows of each part of the data.
    """
    target = str(params.get("data._target_", ""))
    path = params.get("data.path")
    source = {"uri": path} if path else {"tags": {"mlflow.source.name": target}}
    return {
        "name": Path(str(path)).stem if path else target.split(".")[-2:][0],
        "digest": digest[:12],
        "source_type": "local" if path else "code",
        "source": json.dumps(source),
        "profile": json.dumps({"num_rows": sum(rows.values()), **rows}),
    }


def cut(text: str, longest: int) -> str:
    """Return `text`; if it is too long, its beginning and a mark with its whole length."""
    if len(text) <= longest:
        return text
    mark = f" … (cut: {len(text)} characters)"
    return text[: longest - len(mark)] + mark
