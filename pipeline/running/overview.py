"""What a run prints before its training: its model, its device and its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from pipeline.base.errors import shown
from pipeline.base.markup import show
from pipeline.base.terminal import CAUTION, console, print_lines, say, shown_verbosity
from pipeline.config.targets import TARGET
from pipeline.data.preparation.report_text import few_rows, lines, tables
from pipeline.networks.inspection import layers_text
from pipeline.running.plan import Plan


def print_overview(plan: Plan) -> None:
    """Print model, device and data of a run; with `details`, also its config and its layers."""
    if shown_verbosity(plan.options.verbose) == 0:
        return
    if plan.options.details:
        console().print(_config_table(plan.config))
        print_lines(layers_text(plan.layers).splitlines())
    trainer = plan.options.trainer
    is_limited = trainer.threads != plan.usual_threads and plan.config["trainer"]["threads"] is None
    limit = f" of {plan.usual_threads} (OMP_NUM_THREADS)" if is_limited else ""
    used, _, present = plan.devices.words.partition("; here: ")
    cores = present.rpartition(", ")[2].replace("CPU core", "core")
    noun = "thread" if trainer.threads == 1 else "threads"
    machine = f"{used}, {trainer.threads} {noun}{limit}, {cores}"
    print_header(plan, f"seed {plan.options.seed}", machine)
    print_data(plan, (*plan.start.notes, *plan.notes, *plan.prepared.notes), trains=True)


def print_header(plan: Plan, *facts: str) -> None:
    """Print the name of a run, the number of parameters and further facts."""
    words = (plan.name, f"{plan.parameters:,} parameters", *facts)
    say(console(), " · ".join(words), style="bold")


def print_data(plan: Plan, notes: Sequence[str], *, trains: bool = False) -> None:
    """Print the data in a line, what stands out in them, and notes; with `details`, tables."""
    report = plan.prepared.report
    details = plan.options.details
    printed_lines = [] if report is None else lines(report, details=details)
    if trains and report is not None and plan.options.loss.class_weights is None:
        printed_lines += [f"warning: {warning}" for warning in few_rows(report)]
    printed_lines += [f"note: {note}" for note in notes]
    for line in printed_lines:
        say(console(), line, style=CAUTION if line.startswith("warning: ") else None)
    if details and report is not None:
        for table in tables(report):
            show(console(), table)


def _config_table(config: Mapping[str, Any]) -> Table:
    """Return the configuration, a row for each group; null values are left out."""
    table = Table.grid(padding=(0, 2))
    ungrouped = {key: value for key, value in config.items() if not isinstance(value, Mapping)}
    for name, group in {"config": ungrouped, **config}.items():
        if not isinstance(group, Mapping) or not group:
            continue
        words = []
        class_name = str(group.get(TARGET, "")).rpartition(".")[2]
        if class_name:
            words.append(class_name)
        for key, value in group.items():
            if value is not None and key not in (TARGET, "format"):
                text = value if isinstance(value, str) else shown(value)
                words.append(f"{key}={text}")
        table.add_row(name, escape("  ".join(words)))
    return table
