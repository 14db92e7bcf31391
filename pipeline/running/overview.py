"""What a run is about to do, shown before it does it: config tree, layers, data, device."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from pipeline.config.values import TARGET
from pipeline.data.report_text import lines as report_lines
from pipeline.networks.inspection import LayerRow
from pipeline.running.plan import Plan
from pipeline.terminal import console, say, shown_verbosity


def print_overview(plan: Plan) -> None:
    """Print config, layers, data and devices of a run: all in a terminal, a line in a pipe."""
    verbose, shown = shown_verbosity(plan.options.verbose), console()
    parameters = sum(layer.parameters for layer in plan.layers)
    if verbose == 1:
        shown.print(Group(_config_tree(plan.config), _layer_table(plan.layers, total=parameters)))
    if verbose == 0:
        return
    prepared, threads = plan.prepared, plan.options.trainer.threads
    validation = 0 if prepared.validation is None else len(prepared.validation)
    say(
        shown,
        f"{plan.options.name}: {parameters:,} parameters; {len(prepared.train)} training, "
        f"{validation} validation, {len(prepared.test)} test rows; on {plan.devices.words}; "
        f"{threads} thread{'' if threads == 1 else 's'}; seed {plan.options.seed}",
    )
    print_data(plan, (*plan.start.notes, *plan.notes, *prepared.notes))


def print_data(plan: Plan, notes: Sequence[str]) -> None:
    """Print the report of a run's data, and notes."""
    shown, report = console(), plan.prepared.report
    for line in () if report is None else report_lines(report):
        say(shown, line)
    for note in notes:
        say(shown, f"note: {note}")


def _config_tree(config: Mapping[str, Any]) -> Tree:
    """Draw the configuration, one branch per group; null values are left out."""
    root = Tree("config")
    root.add(_values({k: v for k, v in config.items() if not isinstance(v, Mapping)}))
    for name, group in config.items():
        if isinstance(group, Mapping) and group:
            root.add(Text.assemble((name, "bold"), "  ", _values(group)))
    return root


def _layer_table(layers: Sequence[LayerRow], *, total: int) -> Table:
    """List the layers with the shape of their output for one row and their weights."""
    table = Table(
        title=f"{total:,} parameters",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("layer", overflow="fold")
    table.add_column("kind", overflow="fold")
    table.add_column("output", justify="right", overflow="fold")
    table.add_column("Ci→Co, kernel", justify="right")
    table.add_column("parameters", justify="right")
    for layer in layers:
        kernel = ""
        if layer.kernel is not None:
            kernel = f"{layer.channels_in}→{layer.channels_out}, {'×'.join(map(str, layer.kernel))}"
        shape = "×".join(map(str, layer.output_shape))
        table.add_row(escape(layer.name), layer.kind, shape, kernel, f"{layer.parameters:,}")
    return table


def _values(values: Mapping[str, Any]) -> Text:
    """Return the values of a group as words between which a line may be broken."""
    target = values.get(TARGET)
    words = [Text(target.rpartition(".")[2])] if isinstance(target, str) else []
    words += [
        Text.assemble((f"{key}=", "dim"), _typed(value))
        for key, value in values.items()
        if value is not None and key not in (TARGET, "format")
    ]
    return Text("  ").join(words)


def _typed(value: Any) -> str:
    """Return a value as it can be typed on the command line."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name}:{_plain(one)}' for name, one in value.items())}}}"
    return _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_plain, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
