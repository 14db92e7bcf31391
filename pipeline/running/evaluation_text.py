"""An evaluation in words: what is scored, the figures beside the baselines', what has drifted."""

from pipeline.bootstrap import FEWEST_UNITS, MOST_ROWS
from pipeline.data.report_text import lines
from pipeline.running.evaluated_data import Evaluated
from pipeline.running.evaluating import Evaluation
from pipeline.running.plan import Plan
from pipeline.running.results import figures_table, macro_footnote
from pipeline.running.summary import class_table, where_lines
from pipeline.terminal import console, duration, number, say


def print_rows(plan: Plan, data: Evaluated) -> None:
    """Say what is about to be scored, and what to beware of."""
    shown, report = console(), plan.prepared.report
    parameters = sum(layer.parameters for layer in plan.layers)
    say(shown, f"{plan.options.name}: {parameters:,} parameters; {data.what}; {plan.devices.words}")
    if report is not None:
        for line in lines(report):
            say(shown, line)
    for note in plan.notes:
        say(shown, f"note: {note}")


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures beside the baselines', the classes, the drift, and where it all lies."""
    shown, tested = console(), evaluation.tested
    names = [baseline.name for baseline in tested.part.baselines]
    schema, heading = evaluation.model.schema, evaluation.stage
    shown.print(figures_table(schema, tested.metrics, names, tested.classes, heading=heading))
    if tested.classes:
        shown.print(class_table(tested.classes))
    if len(tested.classes) > 2:
        say(shown, macro_footnote(tested.metrics), style="dim")
    for line in (_certainty(evaluation), *_drift(evaluation)):
        say(shown, line)
    shown.print("\n".join(_last_lines(evaluation)), soft_wrap=True, markup=False)


def _certainty(evaluation: Evaluation) -> str:
    """Say how far the figure that tells most could be elsewhere."""
    found = evaluation.intervals
    key = "rmse" if evaluation.model.schema.task == "regression" else "f1"
    ends = found.ends.get(key)
    if ends is None:
        needs = f"at least {FEWEST_UNITS} groups or blocks, and at most {MOST_ROWS:,} rows"
        why = "it is the same in every draw" if found.draws else f"expected {needs}"
        return f"certain no interval of {key} from {found.units}: {why}"
    own = evaluation.tested.metrics[f"test/{key}"]
    return (
        f"certain {key} {number(own)}, 95 % interval {number(ends[0])} to {number(ends[1])} from "
        f"{found.units}"
    )


def _drift(evaluation: Evaluation) -> list[str]:
    if evaluation.drift is None:
        return ["drift   not known: the model has no report on its training data"]
    if not evaluation.drift:
        return ["drift   none: every column is distributed as in the training part"]
    heading = "drift   unlike the training part:"
    return [heading, *(f"        {line}" for line in evaluation.drift)]


def _last_lines(evaluation: Evaluation) -> list[str]:
    model = evaluation.model
    return [
        f"model   {model.file.parent} (epoch {model.facts['epoch']})",
        f"took    {duration(evaluation.seconds)}",
        f"run     {evaluation.folder}",
        *where_lines(evaluation.where_to_look, unsent=evaluation.unsent),
    ]
