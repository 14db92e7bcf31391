"""What is known of a run, as sections that its model card, report and description show."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.base.findings import Findings
from pipeline.base.markup import (
    MISSING,
    Block,
    Command,
    Section,
    TextTable,
    interval_text,
    score_rows,
)
from pipeline.base.terminal import counted, duration, rounded
from pipeline.config.targets import TARGET
from pipeline.data.preparation.report import DataReport
from pipeline.data.preparation.report_text import facts_of, few_rows, tables, warnings
from pipeline.metrics import default_name, direction, metric_label, ranked
from pipeline.pictures.style import short
from pipeline.running.scoring import no_interval_notes, tested_names
from pipeline.scoring.baselines import all_baselines, baselines_note, shown_baselines
from pipeline.scoring.bootstrap import no_intervals_words, units_of_test
from pipeline.scoring.scores import ClassScores, class_scores, measured_words

#: Longest name in the summary, in characters.
LONGEST = 60
FEW_TEST_ROWS = 100
FEW_CLASS_ROWS = 10
MANY_MISSING = 0.2
MACRO = "precision, recall, F1 and AUROC are macro averages over the classes"
OWN_REASON = "too slow, undefined for most bootstrap samples, or equal for all of them"
#: Tags that tell how a run was made, and what they are called.
MAKING = {"seed": "seed", "git.commit": "commit", "python": "Python"}


def run_document(
    findings: Findings,
    *,
    data: DataReport | None,
    tags: Mapping[str, str],
    facts: Mapping[str, str],
) -> list[Section]:
    """Return the sections on a run: its result, data, limits, and how it was made.

    Args:
        findings: Findings of the run.
        data: Report on its data; `None` = there is none.
        tags: Tags of the run: `command`, `seed`, `version.torch`, …
        facts: Further facts for the last section, by name.
    """
    limits = list(_limits(findings, data)) or ["none found by the data report"]
    return [
        result_section(findings),
        data_section(findings, data),
        Section("Known limits", [limits]),
        making_section(findings, tags, facts),
    ]


# ── the summary ─────────────────────────────────────────────────────────────────────────────


def summary(findings: Findings, status: str = "finished") -> str:
    """Return what the network predicts, the result beside the baselines, and the training.

    Args:
        findings: Findings of the run.
        status: How the run ended, in words, or `running`.
    """
    parameters = f"{findings.parameters:,} parameters" if findings.parameters else ""
    network = ", ".join(filter(None, [findings.model, parameters, _purpose(findings)]))
    outcome = _outcome(findings, status)
    if not findings.is_trained:
        return f"{network}, evaluated: {outcome}."
    training = "Trained"
    if "train" in findings.rows:
        training += f" on {counted(findings.rows['train'], 'row')}"
    noun = "epoch" if findings.planned == 1 else "epochs"
    training += f" for {findings.epochs_words} {noun}"
    if findings.seconds:
        training += f" in {duration(findings.seconds)}"
    if findings.kept is not None:
        training += f"; kept weights: epoch {findings.kept}"
    return f"{network}: {outcome}. {training}."


def _purpose(findings: Findings) -> str:
    """Return what is predicted; empty if it is unknown."""
    label = short(findings.label, LONGEST) if findings.label else ""
    count = len(findings.classes)
    if findings.task == "regression":
        names = ", ".join(short(name, LONGEST) for name in findings.targets[:3]) or label
        units = f" in {short(findings.units, LONGEST)}" if findings.units else ""
        steps = f", {findings.horizon} steps ahead" if findings.horizon > 1 else ""
        return f"predicts {names or 'a value'}{units}{steps}"
    if findings.task == "binary" and count:
        names = " against ".join(short(name, LONGEST) for name in reversed(findings.classes))
        return f"classifies {names}"
    if not count:
        return ""
    return f"predicts {label} ({count} classes)" if label else f"predicts {count} classes"


def _outcome(findings: Findings, status: str) -> str:
    name = main_metric(findings)
    if findings.has_diverged:
        return "diverged, its loss is NaN or infinite"
    if status == "running":
        return "still running"
    if name is None:
        return f"{status}, not tested"
    ends = findings.intervals.get(name)
    interval = interval_text(ends)
    notes = [] if interval == MISSING else [f"95 % CI {interval}"]
    if "test" in findings.rows:
        notes.append(counted(findings.rows["test"], "row"))
    precision = f" ({', '.join(notes)})" if notes else ""
    value_text = rounded(findings.metrics[f"test/{name}"], ends)
    figures = [f"test {metric_label(name)} {value_text}{precision}"]
    for kind in all_baselines():
        if f"{kind}/{name}" in findings.metrics:
            figures.append(f"{kind} {rounded(findings.metrics[f'{kind}/{name}'], ends)}")
    return ", ".join(figures)


def main_metric(findings: Findings) -> str | None:
    """Return the metric that represents the run's test: that of the monitor, else a usual one."""
    names = tested_names(findings.task, findings.metrics)
    monitored = findings.monitor.rpartition("/")[2]
    for name in (monitored, *ranked(), *names):
        if name in names:
            return name
    return None


# ── the result ──────────────────────────────────────────────────────────────────────────────


def result_section(findings: Findings) -> Section:
    """Return the test metrics beside the baselines', and the scores of each class."""
    blocks: list[Block] = [result_table(findings) or "the run was not tested"]
    scores = scores_by_class(findings)
    if scores:
        blocks.append(class_table(scores))
    return Section("Result", blocks)


def result_table(findings: Findings) -> TextTable | None:
    """Return the test metrics beside the baselines'; `None` if nothing was tested."""
    names = tested_names(findings.task, findings.metrics)
    if not names:
        return None
    baselines = shown_baselines(findings.metrics, findings.baselines)
    lines = score_rows(findings.metrics, findings.intervals, names, baselines)
    units = units_of_test(findings)
    scores = scores_by_class(findings)
    measured = measured_words(findings.task, findings.classes, findings.units, scores)
    notes = [findings.comparison] if findings.comparison else []
    if findings.baselines:
        notes.append(baselines_note(findings.baselines))
    if findings.task == "multiclass":
        notes.append(MACRO)
    if findings.intervals:
        resampled = "the test rows" if findings.test is None else units.words
        method = f"bootstrap of {resampled}"
        if units.kind == "row":
            kind = "means of errors" if findings.task == "regression" else "shares of rows"
            way = "corrected for skewness" if findings.task == "regression" else "exact"
            method += f", {way} for {kind}"
        notes.append(f"95 % CI: {method}; it does not cover the variation between training runs")
        without_interval = [line[0] for line in lines if line[2] == MISSING]
        notes += no_interval_notes(findings.task, without_interval, own_reason=OWN_REASON)
    elif findings.test is not None and not units.are_enough:
        notes.append(no_intervals_words(units.words))
    return TextTable(
        title=f"test metrics, {measured}",
        headings=["metric", "network", "95 % CI", *baselines],
        lines=lines,
        notes=notes,
    )


def class_table(scores: Sequence[ClassScores]) -> TextTable:
    """Return TP, FP, TN, FN and scores of each class on the rows of a part."""
    lines = []
    for score in scores:
        counts = [f"{count:,}" for count in (score.support, *score.counts)]
        lines.append([score.name, *counts, *score.score_texts])
    supports = [score.support for score in scores]
    notes = []
    if not all(supports):
        present = np.count_nonzero(supports)
        notes = [f"{present} of {len(scores)} classes are in these rows"]
    if not all(score.is_counted for score in scores):
        notes.append(f"{MISSING}: neither in these rows nor predicted; not part of any mean")
    return TextTable(
        title=f"scores by class, {counted(sum(supports), 'row')}",
        headings=["class", "rows", "TP", "FP", "TN", "FN", "precision", "recall", "F1"],
        lines=lines,
        notes=notes,
    )


def scores_by_class(findings: Findings) -> tuple[ClassScores, ...]:
    """Return the scores of each class; empty for a regression, and without test rows."""
    test = findings.test
    if test is None or findings.task == "regression" or not len(test.targets):
        return ()
    return class_scores(test.called(findings.threshold), test.targets, findings.classes)


# ── data, limits, making ────────────────────────────────────────────────────────────────────


def data_section(findings: Findings, data: DataReport | None) -> Section:
    """Return what is known of the data before the training."""
    facts = {} if data is None else facts_of(data)
    blocks: list[Block] = [{**facts, "hash of data and split": findings.data_hash}]
    if data is not None:
        blocks += [*tables(data), data.notes]
    return Section("Data", blocks)


def _limits(findings: Findings, data: DataReport | None) -> Iterator[str]:
    if data is None:
        yield "there is no data report"
    else:
        yield from warnings(data)
        if data.of == "train" and not dict(findings.config.get("loss") or {}).get("class_weights"):
            yield from few_rows(data)
        yield from _limits_of_data(data)
    # Mention each baseline that is at least as good as the network.
    key = default_name(findings.task)
    score = findings.metrics.get(f"test/{key}")
    for kind, name in findings.baselines.items():
        baseline = findings.metrics.get(f"{kind}/{key}")
        if score is None or baseline is None:
            continue
        gain = score - baseline if direction(key) == "max" else baseline - score
        if gain <= 0:
            yield (
                f"the network is no better than {name} on the test rows: test/{key} "
                f"{rounded(score)} against {rounded(baseline)}"
            )


def _limits_of_data(data: DataReport) -> Iterator[str]:
    for column in data.columns:
        if column.missing_share >= MANY_MISSING:
            yield f"{column.name}: {100 * column.missing_share:.0f} % of the rows had no value"
    test = data.rows.get("test", 0)
    if test < FEW_TEST_ROWS:
        yield f"only {test} test rows: see the intervals"
    if data.of == "train" and "validation" not in data.rows:
        yield "no validation rows: the weights of the last epoch were kept"
    small_classes = []
    for counts in data.classes:
        if 0 < counts.rows.get("test", 0) < FEW_CLASS_ROWS:
            small_classes.append(counts.name)
    if small_classes:
        yield f"fewer than {FEW_CLASS_ROWS} test rows of class {', '.join(small_classes)}"
    if data.span:
        yield "all test rows are from one period; results in another may differ"


def making_section(
    findings: Findings, tags: Mapping[str, str], facts: Mapping[str, str]
) -> Section:
    """Return the command of a run, its main settings and its environment."""
    options = []
    for key, value in dict(findings.config.get("model") or {}).items():
        if key != TARGET and value is not None:
            options.append(f"{key}={value}")
    versions = {}
    for tag, version in tags.items():
        if tag.startswith("version."):
            versions[tag.removeprefix("version.")] = version
    lines = {
        **facts,
        "rows": ", ".join(f"{count:,} {part}" for part, count in findings.rows.items()),
        "options of the model": ", ".join(options),
        "monitored metric": f"{findings.monitor} ({findings.better})",
        "device": findings.device,
        **{name: tags.get(key, "") for key, name in MAKING.items()},
        "code": "with uncommitted changes" if tags.get("git.dirty") == "true" else "",
        **versions,
        "MLflow run": findings.run_id,
    }
    blocks: list[Block] = [Command(tags["command"])] if "command" in tags else []
    blocks.append({name: text for name, text in lines.items() if text})
    return Section("How it was made", blocks)
