"""A format of table files is added to a copy of the program as docs/architecture.md says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
JSON_LINES = '''\
"""JSON lines: an object in each line, all with the names of the first one."""

import json

import pyarrow as pa

from pipeline.data.tables.file import TableFormat


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


def test_format_is_added_by_one_file(tmp_path: Path) -> None:
    for name in ("pipeline", "conf", "sweeps"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "write_configuration.py", tmp_path / "docs")
    (tmp_path / "rows.jsonl").write_text("\n".join(LINES), encoding="utf-8")
    train = "pipeline.train model=mlp data=table tracking=none trainer.max_epochs=1"

    def command(words: str) -> str:
        ended = subprocess.run(
            [sys.executable, *words.split()],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        return ended.stdout + ended.stderr

    added = tmp_path / "pipeline" / "data" / "tables" / "formats" / "json_lines.py"
    added.write_text(JSON_LINES, encoding="utf-8")
    assert "60 rows" in command(f"-m {train} data.path=rows.jsonl data.drop=[a]")
    answers = command("-m pipeline.predict model_from=last input=rows.jsonl")
    assert answers.count("\n") > len(LINES)
    command("docs/write_configuration.py")
    page = tmp_path / "docs" / "configuration.md"
    assert "CSV, " in page.read_text(encoding="utf-8")
    assert "JSON lines" in page.read_text(encoding="utf-8")
    added.unlink()
    command("docs/write_configuration.py")
    assert page.read_text("utf-8") == (ROOT / "docs" / "configuration.md").read_text("utf-8")
