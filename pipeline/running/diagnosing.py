"""What the doctor says of a run: as a tag, as files, as lines for the terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipeline.doctor.diagnosis import diagnose
from pipeline.paths import replace_text
from pipeline.running.optional import unless_it_fails

if TYPE_CHECKING:
    from pipeline.findings.records import Findings
    from pipeline.running.recording import Record

TAG = "doctor"


def put_down(findings: Findings, record: Record, *, lean: bool) -> tuple[str, ...]:
    """Diagnose a run, put that on record, and return the lines to show.

    Args:
        findings: Of the run.
        record: Takes the tag, and the files `doctor.md` and `doctor.json`.
        lean: The tag alone.
    """
    diagnosis = unless_it_fails(lambda: diagnose(findings), None, what="no diagnosis")
    if diagnosis is None:
        return ()
    record.journal.tag(TAG, diagnosis.names)
    if lean:
        return ()
    replace_text(record.artifacts / "doctor.md", diagnosis.markdown())
    text = json.dumps(diagnosis.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)
    replace_text(record.artifacts / "doctor.json", text + "\n")
    return tuple(diagnosis.lines())
