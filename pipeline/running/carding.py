"""The card of a model, from what its run has on record."""

from collections.abc import Mapping

from pipeline.bootstrap import Intervals
from pipeline.paths import replace_text
from pipeline.running.plan import Plan
from pipeline.running.recording import Record
from pipeline.running.results import Result, metric_names
from pipeline.running.testing import Tested
from pipeline.serving.card import CardFacts, card
from pipeline.serving.decision import Decision
from pipeline.serving.files import CARD, FOLDER


def leave_card(
    plan: Plan, record: Record, result: Result, test: Tested | None, found: Intervals | None
) -> None:
    """Write the card beside the model and among the artifacts.

    Args:
        plan: The run.
        record: Where it is on record.
        result: What it came to.
        test: What its test came to; `None` = there was none.
        found: The intervals of the test's figures.
    """
    begins = [event for event in record.journal.events() if event["event"] == "begin"]
    text = card_text(
        plan,
        test,
        found,
        name=result.name,
        reference=result.run_id or record.folder.name,
        tags=begins[-1]["tags"],
        epochs=result.epochs,
        metrics=result.metrics,
        decision=result.decision,
    )
    for place in (record.artifacts, record.folder / FOLDER):
        replace_text(place / CARD, text)


def card_text(
    plan: Plan,
    test: Tested | None,
    found: Intervals | None,
    *,
    name: str,
    reference: str,
    tags: Mapping[str, str],
    epochs: int,
    metrics: Mapping[str, float],
    decision: Decision,
) -> str:
    """Return the card of weights that were trained as planned.

    Args:
        plan: The run that has trained them.
        test: What a test of them came to; `None` = there was none.
        found: The intervals of its figures.
        name: Of the run, or of the study that they have won.
        reference: What `model_from=` finds them by.
        tags: With which the run's record began.
        epochs: Epochs trained.
        metrics: Final values by name.
        decision: What turns their outputs into answers.
    """
    schema = plan.prepared.schema
    return card(
        CardFacts(
            name=name,
            reference=reference,
            tags=tags,
            model=plan.config["model"],
            parameters=sum(layer.parameters for layer in plan.layers),
            epochs=epochs,
            metrics=metrics,
            shown=metric_names(schema, metrics),
            baselines=() if test is None else tuple(one.name for one in test.part.baselines),
            classes=() if test is None else test.classes,
            intervals=found,
            decision=decision,
            schema=schema,
            data_hash=plan.prepared.content_hash,
            report=plan.prepared.report,
        )
    )
