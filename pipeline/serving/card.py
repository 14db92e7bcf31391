"""Model cards in Markdown: what a model is, how well it does and where its limits are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.bootstrap import Intervals
from pipeline.data.report import DataReport
from pipeline.data.report_text import lines, tables, warnings
from pipeline.data.schema import Schema
from pipeline.errors import typed_text
from pipeline.markup import (
    BASELINES,
    baseline_headings,
    bullets,
    escaped,
    fenced,
    markdown,
    markdown_table,
    score_rows,
)
from pipeline.metrics import default_name, direction
from pipeline.scores import ClassScores
from pipeline.serving.model import FEWEST, Decision
from pipeline.serving.predictions import value_names
from pipeline.terminal import rounded

FEW_TEST_ROWS = 100
FEW_CLASS_ROWS = 10
MANY_MISSING = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """Recorded facts of a run from which its model card is written.

    Args:
        name: Name of the run.
        reference: Value of `model_from=` that finds the run.
        tags: Tags of the run: `command`, `seed`, `version.torch`, …
        model: Section of the config that describes the network.
        parameters: Number of parameters of the network.
        epochs: Number of epochs trained.
        metrics: Final values by name: `test/f1`, `naive/f1`, `best/epoch`, …
        shown: Names of the task's metrics, in the order in which they are shown.
        baselines: Names of the baselines, in the order of `markup.BASELINES`.
        classes: Counts and scores of each class on the test rows.
        intervals: Confidence intervals of the test metrics; `None` = no test was run.
        decision: Rule that turns outputs into answers.
        schema: Meaning of inputs and outputs.
        data_hash: Hash of the data's content and split.
        report: Data report; `None` = there is none.
    """

    name: str
    reference: str
    tags: Mapping[str, str]
    model: Mapping[str, Any]
    parameters: int
    epochs: int
    metrics: Mapping[str, float]
    shown: Sequence[str]
    baselines: Sequence[str]
    classes: Sequence[ClassScores]
    intervals: Intervals | None
    decision: Decision
    schema: Schema
    data_hash: str
    report: DataReport | None


def card(facts: CardFacts) -> str:
    """Return the model card as Markdown."""
    limits = [*_limits(facts)] or ["none found by the data report"]
    sections = (
        (f"Model card: {escaped(facts.name)}", _what(facts)),
        ("Data", _data(facts)),
        ("Test results", _figures(facts)),
        ("By class", _by_class(facts.classes)),
        ("Decision", _decision(facts)),
        ("Known limits", bullets(map(escaped, limits))),
        ("How it was made", _making(facts)),
        ("How to use it", _use(facts)),
    )
    told = [f"{title}\n\n{text}" for title, text in sections if text]
    return "# " + "\n\n## ".join(told) + "\n"


def _what(facts: CardFacts) -> str:
    target = str(facts.model.get("_target_", "")).rpartition(".")[2] or "network"
    options = [
        f"{escaped(key)}={escaped(str(value))}"
        for key, value in facts.model.items()
        if key != "_target_" and value is not None
    ]
    kept, schema = facts.metrics.get("best/epoch"), facts.schema
    epoch = f"of epoch {kept:.0f} of {facts.epochs}" if kept else f"after {facts.epochs} epochs"
    label = f" {escaped(schema.label)}" if schema.label else ""
    if schema.task == "regression":
        units = f" in {escaped(schema.units)}" if schema.units else ""
        steps = f"{schema.horizon} step{'s' * (schema.horizon != 1)}"
        ahead = f", {steps} ahead" if schema.window is not None else ""
        answers = f"predicts{label or ' a value'}{units}{ahead}"
    else:
        names = ", ".join(map(escaped, schema.classes))
        positive = f" ({escaped(schema.positive)} is positive)" if schema.positive else ""
        answers = f"predicts the class{label and f' of{label}'}: {names}{positive}"
    return (
        f"{escaped(target)} with {facts.parameters:,} parameters, the weights {epoch}. It "
        f"{answers}. Options: {', '.join(options)}"
    )


def _data(facts: CardFacts) -> str:
    known, report = [f"hash of content and split: `{facts.data_hash}`"], facts.report
    if report is None:
        return bullets(known)
    told = bullets([*map(escaped, lines(report)), *known, *map(escaped, report.notes)])
    return "\n\n".join([told, *map(markdown, tables(report))])


def _figures(facts: CardFacts) -> str:
    if not facts.baselines and not any(key.startswith("test/") for key in facts.metrics):
        return "The model was not tested."
    found = facts.intervals or Intervals(draws=0, units="", ends={})
    named = baseline_headings(facts.metrics, facts.baselines)
    headings = ["metric", "network", "95 % CI", *map(escaped, named.values())]
    lines = score_rows(facts.metrics, found.ends, facts.shown, named)
    rows = [[escaped(name), *figures] for name, *figures in lines]
    words = f"There are no confidence intervals{f' for {found.units}' if facts.intervals else ''}."
    if found.draws:
        words = (
            f"95 % confidence intervals: bootstrap of {found.units} with {found.draws:,} draws. "
            "They cover the choice of test rows, not the variation between training runs."
        )
        if found.note:
            words += f" With {found.note}."
    return f"{markdown_table(headings, rows)}\n\n{words}"


def _by_class(classes: Sequence[ClassScores]) -> str:
    if not classes:
        return ""
    headings = ["class", "TP", "FP", "TN", "FN", "precision", "recall", "F1", "support"]
    rows = []
    for one in classes:
        counts = map(str, one.counts)
        rows.append([escaped(one.name), *counts, *one.score_texts, str(one.support)])
    return markdown_table(headings, rows)


def _decision(facts: CardFacts) -> str:
    schema, decision = facts.schema, facts.decision
    if schema.task == "binary":
        found = f": {escaped(decision.found)}" if decision.found else ""
        return (
            f"A row is predicted as {escaped(str(schema.positive))} if its probability is above "
            f"{rounded(decision.threshold)} (rule {escaped(decision.rule)}{found})."
        )
    if schema.task == "multiclass":
        return "The class with the highest probability."
    if not decision.intervals:
        what = "groups of rows" if schema.window is None else "forecasts without common steps"
        return (
            f"A value without an interval, which needs {FEWEST} independent validation rows "
            f"({what})."
        )
    names = value_names(schema)
    if len(names) != len(decision.intervals):
        steps = len(decision.intervals) // len(names)
        names = [f"{name}, step {step + 1}" for step in range(steps) for name in names]
    words = [
        f"{escaped(name)}: {rounded(below)} … {rounded(above)}"
        for name, (below, above) in zip(names, decision.intervals, strict=True)
    ]
    return (
        "A value with an interval that contains at least 90 % of new true values: the prediction "
        "plus the conformal quantiles of its error on the validation rows:\n\n"
        f"{bullets(words)}"
    )


def _limits(facts: CardFacts) -> Iterator[str]:
    report, schema = facts.report, facts.schema
    if report is None:
        yield "there is no data report"
    else:
        yield from warnings(report)
        yield from _limits_of_data(report)
        if schema.difference is not None or schema.window is not None:
            yield "all test rows are from one period; results in another may differ"
    # Mention each baseline that is at least as good as the network.
    key = default_name(schema.task)
    own = facts.metrics.get(f"test/{key}")
    for kind, name in zip(BASELINES, facts.baselines, strict=False):
        theirs = facts.metrics.get(f"{kind}/{key}")
        if own is None or theirs is None:
            continue
        gain = own - theirs if direction(f"test/{key}") == "max" else theirs - own
        if gain <= 0:
            yield (
                f"the network is no better than {name} on the test rows: test/{key} "
                f"{rounded(own)} against {rounded(theirs)}"
            )


def _limits_of_data(report: DataReport) -> Iterator[str]:
    if with_holes := [column for column in report.columns if column.missing]:
        yield (
            f"{len(with_holes)} of {len(report.columns)} columns had missing values in the "
            "training rows, which were filled"
        )
    for column in with_holes:
        share = column.missing / column.rows
        if share >= MANY_MISSING:
            yield f"{column.name}: {100 * share:.0f} % of the training rows had no value"
    test = report.rows.get("test", 0)
    if test < FEW_TEST_ROWS:
        yield f"only {test} test rows: see the intervals"
    if "validation" not in report.rows:
        yield "no validation rows: the weights of the last epoch were kept"
    few = [one.name for one in report.classes if 0 < one.rows.get("test", 0) < FEW_CLASS_ROWS]
    if few:
        yield f"fewer than {FEW_CLASS_ROWS} test rows of class {', '.join(few)}"


def _making(facts: CardFacts) -> str:
    tags = facts.tags
    words = [f"Python {escaped(tags['python'])}"] if "python" in tags else []
    words += [
        f"{escaped(key.removeprefix('version.'))} {escaped(value)}"
        for key, value in tags.items()
        if key.startswith("version.")
    ]
    told = [", ".join(words)] if words else []
    for key, heading in (("git.commit", "commit"), ("device", "device"), ("seed", "seed")):
        if key in tags:
            told.append(f"{heading}: {escaped(tags[key])}")
    if tags.get("git.dirty") == "true":
        told.append("uncommitted changes: uncommitted.diff")
    command = fenced(tags["command"], "sh") if "command" in tags else ""
    return "\n\n".join(part for part in (command, bullets(told)) if part)


def _use(facts: CardFacts) -> str:
    word, reading = typed_text("model_from", facts.reference), facts.schema.reading
    kind, evaluate = reading["kind"], f"pipeline evaluate {word}"
    of_columns = kind in ("table", "series")
    new = "new.csv" if of_columns else "NEW"
    commands = [f"pipeline predict {word} input={new} output=predictions.csv", evaluate]
    if of_columns and "sep" in reading:
        commands.append(f"{evaluate} data.path=other.csv")
    elif of_columns:  # the training data were not read from a file
        target = " data.target=COLUMN" if kind == "table" else ""
        commands.append(f"{evaluate} data={kind} data.path=other.csv{target}")
    return fenced("\n".join(commands), "sh")
