"""Writes the parts of the pages that come from records: `python docs/write_records.py`.

Such a part stands between two comments of the page, which name it.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.doctor.diagnosis import load_rules
from pipeline.metrics import all_metrics
from pipeline.scoring.baselines import all_baselines

DOCS = Path(__file__).parent


def verdict_sections() -> str:
    """Return a section for each verdict of the doctor, the worst first."""
    return "\n".join(f"### {rule.name}\n{rule.page}" for rule in load_rules().values())


def verdict_table() -> str:
    """Return the table of the glossary with a row for each verdict."""
    rows = ["| verdict | meaning | 中文 |", "|---|---|---|"]
    for rule in load_rules().values():
        rows.append(f"| {rule.name.replace('_', ' ')} | {rule.glossary} | {rule.chinese} |")
    return "\n".join(rows) + "\n"


def metric_table() -> str:
    """Return the table of the glossary with a row for each metric."""
    rows = ["| metric | in keys | in a run | meaning | 中文 |", "|---|---|---|---|---|"]
    for metric in all_metrics().values():
        scored = "always" if metric.is_main else f"`monitor=val/{metric.name}`"
        cells = (metric.label, f"`{metric.name}`", scored, metric.glossary, metric.chinese)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def baseline_table() -> str:
    """Return the table of the glossary with a row for each baseline."""
    rows = ["| baseline | meaning | 中文 |", "|---|---|---|"]
    for kind in all_baselines().values():
        rows.append(f"| {kind.name} | {kind.glossary} | {kind.chinese} |")
    return "\n".join(rows) + "\n"


#: What returns each part, by its page and its name.
PARTS: Mapping[tuple[str, str], Callable[[], str]] = {
    ("how-to/doctor.md", "verdicts"): verdict_sections,
    ("glossary.md", "verdicts"): verdict_table,
    ("glossary.md", "metrics"): metric_table,
    ("glossary.md", "baselines"): baseline_table,
}


def with_part(page: str, name: str, text: str) -> str:
    """Return a page with a new text between the comments that name a part."""
    part = re.compile(rf"(<!-- {name}: [^>]* -->\n).*(?=<!-- end of {name} -->\n)", re.DOTALL)
    if not part.search(page):
        raise ValueError(f"the page has no part named {name}")
    return part.sub(lambda match: f"{match[1]}\n{text}\n", page)


if __name__ == "__main__":
    for (page, name), text_of in PARTS.items():
        path = DOCS / page
        content = path.read_text(encoding="utf-8")
        path.write_text(with_part(content, name, text_of()), encoding="utf-8")
