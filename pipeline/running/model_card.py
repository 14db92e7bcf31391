"""The card of a model: what is known of the run that made it, how it decides, and how to use it."""

from collections.abc import Mapping

from pipeline.base.errors import typed_text
from pipeline.base.findings import Findings
from pipeline.base.markup import Block, Command, Section
from pipeline.base.terminal import rounded
from pipeline.data.preparation.report import DataReport
from pipeline.data.preparation.schema import Schema
from pipeline.running.run_document import run_document, summary
from pipeline.serving.model import FEWEST, Decision
from pipeline.serving.predictions import value_names


def model_card(
    findings: Findings,
    *,
    schema: Schema,
    decision: Decision,
    data: DataReport | None,
    tags: Mapping[str, str],
    reference: str,
) -> Section:
    """Return the card of the model that a run leaves.

    Args:
        findings: Findings of the run, with all test rows.
        schema: Meaning of inputs and outputs.
        decision: Rule that turns outputs into answers.
        data: Report on the data; `None` = there is none.
        tags: Tags of the run: `command`, `seed`, `version.torch`, …
        reference: Value of `model_from=` that finds the model.
    """
    blocks = [
        summary(findings),
        Section("How it decides", _decision(schema, decision)),
        *run_document(findings, data=data, tags=tags, facts={}),
        Section("How to use it", [_commands(schema, reference)]),
    ]
    return Section(f"Model card: {findings.name}", blocks)


def _decision(schema: Schema, decision: Decision) -> list[Block]:
    if schema.task == "binary":
        rule = f" ({decision.found})" if decision.found else ""
        return [
            f"A row is predicted as {schema.positive} if its probability is above "
            f"{rounded(decision.threshold)}{rule}"
        ]
    if schema.task == "multiclass":
        return ["the class with the highest probability"]
    if not decision.intervals:
        needed = "groups of rows" if schema.window is None else "forecasts without common steps"
        return [
            f"a value without an interval, which needs {FEWEST} independent validation rows "
            f"({needed})"
        ]
    names = value_names(schema)
    if len(names) != len(decision.intervals):
        targets = names
        names = []
        for step in range(len(decision.intervals) // len(targets)):
            names += [f"{target}, step {step + 1}" for target in targets]
    bounds = {}
    for name, (below, above) in zip(names, decision.intervals, strict=True):
        bounds[name] = f"{rounded(below)} … {rounded(above)}"
    return [
        "a value with an interval that contains at least 90 % of new true values: the prediction "
        "plus the conformal quantiles of its error on the validation rows:",
        bounds,
    ]


def _commands(schema: Schema, reference: str) -> Command:
    word = typed_text("model_from", reference)
    kind = schema.reading["kind"]
    evaluate = f"pipeline evaluate {word}"
    of_columns = kind in ("table", "series")
    new = "new.csv" if of_columns else "NEW"
    commands = [f"pipeline predict {word} input={new} output=predictions.csv", evaluate]
    if of_columns and "sep" in schema.reading:
        commands.append(f"{evaluate} data.path=other.csv")
    elif of_columns:  # the training data were not read from a file
        target = " data.target=COLUMN" if kind == "table" else ""
        commands.append(f"{evaluate} data={kind} data.path=other.csv{target}")
    return Command("\n".join(commands))
