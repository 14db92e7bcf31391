"""The command that writes the report of a study."""

from functools import partial
from pathlib import Path

from pipeline.base.errors import ConfigError
from pipeline.base.regular_files import require_plain_folder
from pipeline.config.options import ReportOptions
from pipeline.reporting.page import NAME, publish, render
from pipeline.reporting.study_page import study_page
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.rows import winner
from pipeline.study.ledger.storage import storage_url
from pipeline.study.outcome import summary as outcome
from pipeline.study.outcome.summary import StudySummary
from pipeline.study.planning import LONGEST_STEM
from pipeline.study.stored_studies import Studies, require_study
from pipeline.tracking.sync import attach_to_own
from pipeline.tracking.uri import sqlite_path


def report_study(name: str, options: ReportOptions) -> list[str]:
    """Write the report of a study, and return the lines for the terminal.

    Raises:
        ConfigError: The study or the database does not exist, or the folder is not the study's.
        EnvironmentFaultError: The database can't be read now.
    """
    file = sqlite_path(storage_url(options.storage, key="storage"))
    if file is not None and not file.is_file():
        raise ConfigError(
            f"study={name!r} is unknown: the database {str(file)!r} does not exist; expected the "
            "database of the sweep: storage=sqlite:///FILE"
        )
    folder = Path(options.folder, name)
    if folder.is_dir():
        require_plain_folder(folder, is_written=True)
    studies = Studies(options.storage)
    recorded = studies.open(name)
    require_study(folder, recorded)
    with studies.reading(name):
        summary = _summary(recorded, folder)
        confirm_name = f"{name[:LONGEST_STEM]}-confirm-{summary.winner}"
        confirmation = None
        if confirm_name in studies.names():
            confirmation = studies.open(confirm_name)
        page = study_page(recorded, summary, confirmation)
    default_path = Path(f"report-{name}.html")
    if folder.is_dir():
        default_path = folder / "artifacts" / NAME
    line = publish(
        render("study.html", page),
        Path(options.output or default_path),
        options.tracking,
        partial(attach_to_own, folder, options=options.tracking, name=NAME),
    )
    return [f"{name}: {page['summary']}", line]


def _summary(recorded: Ledger, folder: Path) -> StudySummary:
    """Return the summary of a study, or of its trials so far."""
    rows = recorded.trials()
    facts = recorded.facts
    directions = [objective.direction for objective in recorded.objectives]
    # Only the sweep knows its whole command; this one is equivalent.
    command = ""
    experiment = recorded.name.removesuffix(".yaml")
    has_yaml = (folder / "conf" / "experiment" / f"{experiment}.yaml").is_file()
    if has_yaml and winner(rows, directions):
        command = outcome.experiment_command(folder.absolute(), experiment)
    return StudySummary(
        rows=rows,
        objectives=recorded.names,
        directions=directions,
        folder=folder,
        importances=recorded.importances(),
        command=command,
        base=facts.get(outcome.BASE),
    ).with_tests(facts)
