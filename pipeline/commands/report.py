"""`pipeline report run=last`: write an HTML page."""

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import ConfigError
from pipeline.base.streams import single_line
from pipeline.base.terminal import folded, waiting_for
from pipeline.commands.entry import command
from pipeline.config.options import ReportOptions
from pipeline.config.overrides import quoted

ENDING = ".html"


def with_texts(words: Sequence[str]) -> list[str]:
    """Quote the two runs of `runs=[A,B]`, so that ids that look like numbers are read as text."""
    quoted_words = []
    for word in words:
        inner = word.removeprefix("runs=[").removesuffix("]")
        is_quoted = any(sign in inner for sign in "'\"[]\\") or "${" in inner
        if word.startswith("runs=[") and not is_quoted:
            names = [quoted(name) for name in inner.split(",") if name.strip()]
            quoted_words.append(f"runs=[{','.join(names)}]")
        else:
            quoted_words.append(word)
    return quoted_words


def body(options: ReportOptions) -> int:
    """Write the report that was asked for and print where it is."""
    subjects = [key for key in ("run", "study", "runs") if getattr(options, key) is not None]
    expected = "expected one of run=RUN, study=NAME, 'runs=[A,B]'"
    if not subjects:
        raise ConfigError(f"nothing to report; {expected}, such as run=last")
    if len(subjects) > 1:
        raise ConfigError(f"{' and '.join(subjects)} are set; {expected}")
    if options.runs is not None and len(options.runs) != 2:
        runs = ",".join(options.runs)
        raise ConfigError(f"runs=[{runs}] has {len(options.runs)}; expected two: 'runs=[A,B]'")
    if options.output is not None and Path(options.output).suffix.lower() != ENDING:
        raise ConfigError(
            f"output={options.output!r} is not an HTML file; expected a file ending in {ENDING}"
        )
    with waiting_for("writing the report", verbose=None):
        if options.run is not None:
            from pipeline.reporting.run_page import report_run

            report = report_run(options.run, options)
        elif options.study is not None:
            from pipeline.reporting.study_report import report_study

            report = report_study(options.study, options)
        else:
            from pipeline.reporting.pair_page import report_pair

            report = report_pair(options.runs or (), options)
    *lines, place = report  # a path is not folded, so that it can be copied
    place = single_line(place)
    if sys.stdout.isatty():
        place = place.replace("  file:", f"\n{'':8}file:")
    print(*(folded(line, sys.stdout) for line in lines), place, sep="\n")
    return 0


main = command("report", body, options=ReportOptions, validates=True, rewrite=with_texts)
