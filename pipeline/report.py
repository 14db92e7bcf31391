"""`pipeline report run=last`: write an HTML page."""

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.options import ReportOptions
from pipeline.config.overrides import quoted
from pipeline.entry import command
from pipeline.errors import ConfigError
from pipeline.streams import single_line
from pipeline.terminal import folded, waiting_for

ENDING = ".html"


def with_texts(words: Sequence[str]) -> list[str]:
    """Quote the two runs of `runs=[A,B]`, so that ids that look like numbers are read as text."""
    read = list(words)
    for number, word in enumerate(words):
        inner = word.removeprefix("runs=[").removesuffix("]")
        is_quoted = any(sign in inner for sign in "'\"[]\\") or "${" in inner
        if word.startswith("runs=[") and not is_quoted:
            names = (quoted(one) for one in inner.split(",") if one.strip())
            read[number] = f"runs=[{','.join(names)}]"
    return read


def body(options: ReportOptions) -> int:
    """Write the report that was asked for and print where it is."""
    given = [key for key in ("run", "study", "runs") if getattr(options, key) is not None]
    if len(given) != 1:
        what = f"{' and '.join(given)} are set" if given else "nothing to report"
        hint = "" if given else ", such as run=last"
        raise ConfigError(f"{what}; expected one of run=RUN, study=NAME, 'runs=[A,B]'{hint}")
    if options.runs is not None and (count := len(options.runs)) != 2:
        raise ConfigError(
            f"runs=[{','.join(options.runs)}] has {count}; expected two: 'runs=[A,B]'"
        )
    if options.output is not None and Path(options.output).suffix.lower() != ENDING:
        raise ConfigError(
            f"output={options.output!r} is not an HTML file; expected a file ending in {ENDING}"
        )
    with waiting_for("writing the report", verbose=None):
        if options.run is not None:
            from pipeline.reporting.run_page import report_run

            told = report_run(options.run, options)
        elif options.study is not None:
            from pipeline.reporting.study_page import report_study

            told = report_study(options.study, options)
        else:
            from pipeline.reporting.pair_page import report_pair

            told = report_pair(options.runs or (), options)
    *lines, place = told  # a path is copied whole
    place = single_line(place)
    if sys.stdout.isatty():
        place = place.replace("  file:", f"\n{'':8}file:")
    print(*(folded(line, sys.stdout) for line in lines), place, sep="\n")
    return 0


main = command("report", body, options=ReportOptions, validates=True, rewrite=with_texts)

if __name__ == "__main__":
    sys.exit(main())
