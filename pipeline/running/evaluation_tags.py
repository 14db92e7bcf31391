"""What ties an evaluation to the run whose model it scores."""

from pathlib import Path

from pipeline.paths import cache_folder
from pipeline.redaction import redact
from pipeline.running.evaluation_config import Asked
from pipeline.serving.model import Model
from pipeline.tracking.books import PARENT_TAG
from pipeline.tracking.find import COMMAND_TAG
from pipeline.tracking.journal import JOURNAL
from pipeline.tracking.state import read_state


def evaluation_tags(asked: Asked, model: Model, uri: str | None) -> dict[str, str]:
    """Say which run the model is of; the evaluation is its child where both lie in one store."""
    run_id, is_here = _run_of(asked.place, model, uri)
    evaluated = asked.split if asked.is_own else "other data"
    tags = {
        COMMAND_TAG: "evaluate",
        "evaluates": run_id or str(model.facts.get("name") or asked.place.name),
        "evaluated": evaluated,
    }
    return {**tags, PARENT_TAG: run_id} if run_id and is_here else tags


def _run_of(place: Path, model: Model, uri: str | None) -> tuple[str, bool]:
    """Return MLflow's id of the model's run, and whether this store has it."""
    known = str(model.facts.get("run_id") or "")
    for folder in (place, *place.parents[:3]):
        if (folder / JOURNAL).is_file():
            state = read_state(folder)
            return state.run_id or known, bool(uri) and state.uri == redact(uri or "")
    return known, place.is_relative_to(cache_folder())  # fetched from the store just now
