"""What a run is about to do, shown before it does it: config tree, layers, data, device."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.tree import Tree

from pipeline.networks.summary import LayerRow
from pipeline.running.plan import Plan
from pipeline.terminal import console, shown_verbosity


def print_overview(plan: Plan) -> None:
    """Print what there is to know before training: everything in a terminal, a line in a pipe."""
    verbose = shown_verbosity(plan.options.verbose)
    shown = console()
    if verbose == 1:
        shown.print(Group(config_tree(plan.config), layer_table(plan.layers)))
    if verbose:
        shown.print(summary(plan), soft_wrap=True)
        for note in (*plan.start.notes, *plan.notes, *plan.prepared.notes):
            shown.print(f"note: {note}", soft_wrap=True, markup=False)


def config_tree(config: Mapping[str, Any]) -> Tree:
    """Draw the configuration: a branch a group, one line for all of its plain values."""
    root = Tree("config")
    single = {key: value for key, value in config.items() if not isinstance(value, Mapping)}
    root.add(_values(single))
    for name, group in config.items():
        if isinstance(group, Mapping) and group:
            root.add(f"[bold]{name}[/bold] {_values(group)}")
    return root


def layer_table(layers: tuple[LayerRow, ...]) -> Table:
    """List the layers with the shape of their output for one row and their weights."""
    total = sum(layer.parameters for layer in layers)
    table = Table(title=f"{total:,} parameters", title_justify="left", title_style="bold")
    for heading, justify in (("layer", "left"), ("kind", "left"), ("output", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_column("Ci→Co, kernel", justify="right")
    table.add_column("parameters", justify="right")
    for layer in layers:
        shape = "×".join(map(str, layer.output_shape))
        table.add_row(layer.name, layer.kind, shape, _kernel(layer), f"{layer.parameters:,}")
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


def _values(values: Mapping[str, Any]) -> str:
    return "  ".join(f"[dim]{key}[/dim] {_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if value in (True, False) else str(value)
    return text.replace("[", "\\[")
