"""The card of a model: what it is, what it can do, and what to beware of. Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.bootstrap import Intervals
from pipeline.data.report import DataReport
from pipeline.data.report_text import PARTS, classes_table, lines, warnings
from pipeline.data.schema import Schema
from pipeline.markup import bullets, escaped, fenced, markdown_table
from pipeline.metrics import ClassScores, direction
from pipeline.serving.model import FEWEST, Decision
from pipeline.serving.predictions import value_names
from pipeline.terminal import number

FEW_TEST_ROWS = 100
FEW_CLASS_ROWS = 10
MANY_MISSING = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What a run has on record, and nothing else.

    Args:
        name: Of the run.
        reference: What `model_from=` finds it by.
        tags: Of the run: `command`, `seed`, `version.torch`, …
        model: The section of the config that describes the network.
        parameters: Weights of the network.
        epochs: Epochs trained.
        metrics: Final values by name: `test/f1`, `naive/f1`, `best/epoch`, …
        shown: Names of the metrics of the task, the first ones first.
        baselines: Names of the naive and the linear baseline.
        classes: Counts and scores of each class on the test rows.
        intervals: Of the test figures; `None` = nothing was tested.
        decision: What turns outputs into answers.
        schema: The meaning of inputs and outputs.
        data_hash: Of the data.
        report: On the data; `None` = there is none.
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
    """Write the card of a model."""
    sections = (
        (f"Model card: {escaped(facts.name)}", _what(facts)),
        ("Data", _data(facts)),
        ("Figures on the test rows", _figures(facts)),
        ("By class", _by_class(facts.classes)),
        ("Decision", _decision(facts)),
        ("Known limits", bullets(map(escaped, _limits(facts)))),
        ("How it was made", _making(facts)),
        ("How to use it", _use(facts)),
    )
    told = [(title, text) for title, text in sections if text]
    marks = ["#", *["##"] * len(told)]
    return (
        "\n\n".join(f"{m} {title}\n\n{text}" for m, (title, text) in zip(marks, told, strict=False))
        + "\n"
    )


def _what(facts: CardFacts) -> str:
    target = str(facts.model.get("_target_", "")).rpartition(".")[2] or "network"
    options = [
        f"{escaped(key)}={escaped(str(value))}"
        for key, value in facts.model.items()
        if key != "_target_" and value is not None
    ]
    kept = facts.metrics.get("best/epoch")
    epoch = f"of epoch {kept:.0f} of {facts.epochs}" if kept else f"after {facts.epochs} epochs"
    return (
        f"{escaped(target)} with {facts.parameters:,} parameters, the weights {epoch}, which "
        f"{_answers(facts.schema)}. {', '.join(options)}"
    )


def _answers(schema: Schema) -> str:
    label = f" {escaped(schema.label)}" if schema.label else ""
    if schema.task == "regression":
        units = f" in {escaped(schema.units)}" if schema.units else ""
        steps = f"{schema.horizon} step{'s' * (schema.horizon != 1)}"
        ahead = f", {steps} ahead" if schema.window is not None else ""
        return f"predicts{label or ' a value'}{units}{ahead}"
    names = ", ".join(escaped(name) for name in schema.classes)
    positive = f" ({escaped(schema.positive)} is positive)" if schema.positive else ""
    return f"tells the classes{label and f' of{label}'} apart: {names}{positive}"


def _data(facts: CardFacts) -> str:
    known = [f"hash of content and split: `{facts.data_hash}`"]
    if facts.report is None:
        return bullets(known)
    parts = ", ".join(f"{rows} {PARTS.get(p, p)}" for p, rows in facts.report.rows.items())
    told = [*(escaped(line) for line in lines(facts.report)), f"rows: {parts}", *known]
    notes = [escaped(note) for note in facts.report.notes]
    classes = classes_table(facts.report) if facts.report.classes else ""
    return "\n\n".join(part for part in (bullets([*told, *notes]), classes) if part)


def _figures(facts: CardFacts) -> str:
    if not facts.baselines and not any(key.startswith("test/") for key in facts.metrics):
        return "The test rows were left alone."
    kinds = dict(zip(("naive", "linear"), facts.baselines, strict=False))
    found = facts.intervals or Intervals(draws=0, units="", ends={})

    def value(key: str) -> str:
        return number(facts.metrics[key]) if key in facts.metrics else "–"

    def interval(key: str) -> str:
        return " … ".join(map(number, found.ends[key])) if key in found.ends else "–"

    headings = ["metric", "network", "95 % interval"]
    headings += [f"{kind}: {escaped(name)}" for kind, name in kinds.items()]
    rows = [
        [escaped(key), value(f"test/{key}"), interval(key)]
        + [value(f"{kind}/{key}") for kind in kinds]
        for key in facts.shown
    ]
    told = f": the test has {found.units}" if facts.intervals else ""
    words = f"Intervals are not known{told}."
    if found.draws:
        words = (
            f"Intervals: {found.units} drawn again {found.draws:,} times. They tell what other "
            "test rows would change, not what another training would."
        )
    return f"{markdown_table(headings, rows)}\n\n{words}"


def _by_class(classes: Sequence[ClassScores]) -> str:
    if not classes:
        return ""
    headings = ["class", "TP", "FP", "TN", "FN", "precision", "recall", "F1", "support"]
    rows = [
        [escaped(one.name), *map(str, one.counts)]
        + [number(share) for share in (one.precision, one.recall, one.f1)]
        + [str(one.support)]
        for one in classes
    ]
    return markdown_table(headings, rows)


def _decision(facts: CardFacts) -> str:
    schema, decision = facts.schema, facts.decision
    if schema.task == "binary":
        found = f": {escaped(decision.found)}" if decision.found else ""
        return (
            f"A row is called {escaped(str(schema.positive))} where its probability is above "
            f"{number(decision.threshold)} (rule {escaped(decision.rule)}{found})."
        )
    if schema.task == "multiclass":
        return "The class with the highest probability."
    if not decision.intervals:
        what = "groups of rows" if schema.window is None else "forecasts that share no step"
        return (
            f"A value alone; no interval is known, which takes {FEWEST} validation rows that are "
            f"independent: {what}, where there are any."
        )
    names = value_names(schema)
    if len(names) != len(decision.intervals):
        steps = len(decision.intervals) // len(names)
        names = [f"{name}, step {step + 1}" for step in range(steps) for name in names]
    words = [
        f"{escaped(name)}: {number(below)} … {number(above)}"
        for name, (below, above) in zip(names, decision.intervals, strict=True)
    ]
    return (
        "Truth minus prediction on the validation rows, cut so that at least nine of ten new ones "
        "lie between (conformal quantiles); an answer's interval is its value and these:\n\n"
        f"{bullets(words)}"
    )


def _limits(facts: CardFacts) -> list[str]:
    report, schema = facts.report, facts.schema
    found = ["no report on the data is known"]
    if report is not None:
        found = [*warnings(report), *_missing(report), *_small(report)]
        if schema.difference is not None or schema.window is not None:
            found.append("the test lies in one stretch of time: another time may be another world")
    found += _no_better(facts)
    return found or ["none was found by the data report; that is no promise"]


def _missing(report: DataReport) -> Iterator[str]:
    with_holes = [column for column in report.columns if column.missing]
    if with_holes:
        yield (
            f"{len(with_holes)} of {len(report.columns)} columns had missing values in the "
            "training part, which were filled in"
        )
    for column in with_holes:
        share = column.missing / column.rows
        if share >= MANY_MISSING:
            yield f"{column.name}: {share:.0%} of the training rows had no value"


def _small(report: DataReport) -> Iterator[str]:
    test = report.rows.get("test", 0)
    if test < FEW_TEST_ROWS:
        yield f"{test} test rows are few: see the intervals"
    if "validation" not in report.rows:
        yield "no row validated: the last weights were kept, whatever they were worth"
    few = [one.name for one in report.classes if 0 < one.rows.get("test", 0) < FEW_CLASS_ROWS]
    if few:
        yield f"fewer than {FEW_CLASS_ROWS} test rows are of class {', '.join(few)}"


def _no_better(facts: CardFacts) -> Iterator[str]:
    """Say where a network is no better than what a constant or a line says."""
    key = "rmse" if facts.schema.task == "regression" else "f1"
    own = facts.metrics.get(f"test/{key}")
    for kind, name in zip(("naive", "linear"), facts.baselines, strict=False):
        theirs = facts.metrics.get(f"{kind}/{key}")
        if own is None or theirs is None:
            continue
        gain = own - theirs if direction(f"test/{key}") == "max" else theirs - own
        if gain <= 0:
            yield (
                f"the network is no better than {name} on the test rows: test/{key} "
                f"{number(own)} against {number(theirs)}"
            )


def _making(facts: CardFacts) -> str:
    versions = {
        key.removeprefix("version."): value
        for key, value in facts.tags.items()
        if key.startswith("version.")
    }
    words = [f"{escaped(name)} {escaped(value)}" for name, value in versions.items()]
    if "python" in facts.tags:
        words.insert(0, f"Python {escaped(facts.tags['python'])}")
    told = [", ".join(words)] if words else []
    for key, heading in (("git.commit", "commit"), ("device", "device"), ("seed", "seed")):
        if key in facts.tags:
            told.append(f"{heading}: {escaped(facts.tags[key])}")
    if facts.tags.get("git.dirty") == "true":
        told.append("with changes that were not committed: uncommitted.diff")
    command = fenced(facts.tags["command"], "sh") if "command" in facts.tags else ""
    return "\n\n".join(part for part in (command, bullets(told)) if part)


def _use(facts: CardFacts) -> str:
    word, reading = f"model_from={facts.reference}", facts.schema.reading
    kind = reading["kind"]
    new = "new.csv" if kind in ("table", "series") else "NEW"
    commands = [
        f"python -m pipeline.predict {word} input={new} output=predictions.csv",
        f"python -m pipeline.evaluate {word}",
    ]
    if kind in ("table", "series"):
        words = "data.path=other.csv"
        if "sep" not in reading:  # it was no file
            target = " data.target=COLUMN" if kind == "table" else ""
            words = f"data={kind} {words}{target}"
        commands.append(f"python -m pipeline.evaluate {word} {words}")
    return fenced("\n".join(commands), "sh")
