"""The card of a finished run's model, from what the run has on record."""

from pipeline.bootstrap import Intervals
from pipeline.paths import replace_text
from pipeline.running.certainty import intervals_of, write_intervals
from pipeline.running.plan import Plan
from pipeline.running.recording import Record
from pipeline.running.results import Result, metric_names
from pipeline.running.testing import Tested
from pipeline.serving.card import CardFacts, card
from pipeline.serving.model import FOLDER
from pipeline.serving.saving import CARD


def leave_card(plan: Plan, record: Record, result: Result, test: Tested | None) -> None:
    """Write the test's intervals, and the card beside the model and among the artifacts."""
    found = None if test is None else intervals_of(plan, test)
    if found is not None:
        write_intervals(record.artifacts, found)
    text = card(_facts(plan, record, result, found))
    for place in (record.artifacts, record.folder / FOLDER):
        replace_text(place / CARD, text)


def _facts(plan: Plan, record: Record, result: Result, found: Intervals | None) -> CardFacts:
    begins = [event for event in record.journal.events() if event["event"] == "begin"]
    return CardFacts(
        name=result.name,
        reference=result.run_id or record.folder.name,
        tags=begins[-1]["tags"],
        model=plan.config["model"],
        parameters=result.parameters,
        epochs=result.epochs,
        metrics=result.metrics,
        shown=metric_names(result.schema, result.metrics),
        baselines=result.baselines,
        classes=result.classes,
        intervals=found,
        decision=result.decision,
        schema=result.schema,
        data_hash=plan.prepared.content_hash,
        report=plan.prepared.report,
    )
