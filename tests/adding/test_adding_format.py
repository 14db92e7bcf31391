"""A format of table files is added to a copy of the program as docs/architecture.md says."""

from pathlib import Path

import pytest
from adding.program_copy import ProgramCopy

JSON_LINES = '''\
"""JSON lines: an object in each line, all with the names of the first one."""

import json

import pyarrow as pa

from pipeline.data.parsing.tables.file import TableFormat


def objects(file):
    with file.path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def batches(file, columns):
    for record in objects(file):
        cells = [None if record[name] is None else str(record[name]) for name in columns]
        yield pa.RecordBatch.from_arrays(
            [pa.array([cell], pa.string()) for cell in cells], names=columns
        )


FORMAT = TableFormat(
    name="JSON lines",
    recognizes=lambda head: head.startswith(b"{"),
    names=lambda file: [*next(objects(file))],
    count=lambda file: 0,
    batches=batches,
    explain_damage=lambda file, error: [f"{file.path} is not JSON lines: {error}"],
)
'''
LINES = [f'{{"a": {row}, "b": {row * row % 7}, "y": "{"yn"[row % 3 > 1]}"}}' for row in range(60)]


@pytest.mark.slow
def test_format_is_added_by_one_file(tmp_path: Path) -> None:
    program = ProgramCopy(tmp_path / "copy")
    (program.folder / "rows.jsonl").write_text("\n".join(LINES), encoding="utf-8")
    program.add("data/parsing/tables/formats/json_lines.py", JSON_LINES)
    train = "pipeline.train model=mlp data=table tracking=none trainer.max_epochs=1"
    assert "60 rows" in program.printed(f"{train} data.path=rows.jsonl data.drop=[a]")
    answers = program.python("-m", "pipeline.predict", "model_from=last", "input=rows.jsonl")
    assert answers.stdout.count("\n") > len(LINES)
    page = program.page("configuration.md", "write_configuration.py")
    assert "CSV, " in page
    assert "JSON lines" in page
