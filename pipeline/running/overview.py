"""What a run is about to do, shown before it does it: config tree, layers, data, device."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from pipeline.config.targets import TARGET
from pipeline.data.report_text import lines
from pipeline.networks.inspection import LayerRow
from pipeline.running.plan import Plan
from pipeline.terminal import console, say, shown_verbosity


def print_overview(plan: Plan) -> None:
    """Print what there is to know before training: everything in a terminal, a line in a pipe."""
    verbose = shown_verbosity(plan.options.verbose)
    shown = console()
    if verbose == 1:
        shown.print(Group(config_tree(plan.config), layer_table(plan.layers)))
    if verbose:
        say(shown, summary(plan))
        report = plan.prepared.report
        for line in () if report is None else lines(report):
            say(shown, line)
        for note in (*plan.start.notes, *plan.notes, *plan.prepared.notes):
            say(shown, f"note: {note}")


def config_tree(config: Mapping[str, Any]) -> Tree:
    """Draw the configuration, a branch a group, as it can be typed; what is null is left out."""
    root = Tree("config")
    root.add(_values({key: v for key, v in config.items() if not isinstance(v, Mapping)}))
    for name, group in config.items():
        if isinstance(group, Mapping) and group:
            root.add(Text.assemble((name, "bold"), "  ", _values(group)))
    return root


def layer_table(layers: tuple[LayerRow, ...]) -> Table:
    """List the layers with the shape of their output for one row and their weights."""
    total = sum(layer.parameters for layer in layers)
    table = Table(
        title=f"{total:,} parameters",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading, justify in (("layer", "left"), ("kind", "left"), ("output", "right")):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    table.add_column("Ci→Co, kernel", justify="right")
    table.add_column("parameters", justify="right")
    for layer in layers:
        name, shape = escape(layer.name), "×".join(map(str, layer.output_shape))
        table.add_row(name, layer.kind, shape, _kernel(layer), f"{layer.parameters:,}")
    return table


def summary(plan: Plan) -> str:
    """Say in one line what is trained on what, and where."""
    prepared = plan.prepared
    validation = 0 if prepared.validation is None else len(prepared.validation)
    rows = f"{len(prepared.train)} training, {validation} validation, {len(prepared.test)} test"
    parameters = sum(layer.parameters for layer in plan.layers)
    threads = plan.options.trainer.threads
    return (
        f"{plan.options.name}: {parameters:,} parameters; {rows} rows; on {plan.devices.words}; "
        f"{threads} thread{'' if threads == 1 else 's'}; seed {plan.options.seed}"
    )


def _kernel(layer: LayerRow) -> str:
    if layer.kernel is None:
        return ""
    return f"{layer.channels_in}→{layer.channels_out}, {'×'.join(map(str, layer.kernel))}"


def _values(values: Mapping[str, Any]) -> Text:
    """Write the values of a group as words that lines are broken between."""
    words = [
        _word(key, value)
        for key, value in values.items()
        if value is not None and key not in (TARGET, "format")
    ]
    target = values.get(TARGET)
    named = [Text(target.rpartition(".")[2])] if isinstance(target, str) else []
    return Text("  ").join([*named, *words])


def _word(key: str, value: Any) -> Text:
    if isinstance(value, Mapping):
        inner = ",".join(f"{name}:{_plain(one)}" for name, one in value.items())
        return Text.assemble((f"{key}=", "dim"), f"{{{inner}}}")
    return Text.assemble((f"{key}=", "dim"), _plain(value))


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_plain, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
