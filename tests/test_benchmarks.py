"""The benchmarks' index page, and the figures on how plainly the code is written."""

import re
from pathlib import Path

from benchmarks.code_metrics import arrows_between, counts_of, imports_between

SOURCE = '''"""A docstring has no tokens, x = 1."""

import os  # nor has a comment


def largest(rows, found):
    """Return a text; a, b = 1, 2 stands in a docstring."""
    first, last = rows[0], rows[-1]
    low, high = min(rows), max(rows)
    one = [row for row in rows if row > low]
    return "," * (not one) + str(first + last + high)
'''

FOLDER = Path(__file__).parent.parent / "benchmarks"


def test_index_lists_each_benchmark_once() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", text, flags=re.M)
    listed += re.findall(r"`(\w+)`", text.split("## Parts of others")[1])
    files = [path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__"]
    assert sorted(listed) == sorted(files)


def test_counts_are_those_of_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "small.py"
    path.write_text(SOURCE, encoding="utf-8")
    counts = counts_of(path)
    assert (counts.packed, counts.comprehensions, counts.multiplied) == (2, 1, 1)
    assert (counts.imports, counts.lines, counts.names) == (1, 6, 8)
    assert counts.vague == ["found", "one"]


def test_arrows_count_a_package_once_a_module(tmp_path: Path) -> None:
    sources = {
        "pipeline/base/errors.py": "",
        "pipeline/data/rows.py": "from pipeline.base.errors import DataError",
        "pipeline/data/table.py": "from pipeline.data import rows\nimport pipeline.base.errors",
        "pipeline/study/trial.py": "from pipeline.data import rows, table",
    }
    for name, source in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source, encoding="utf-8")
    imports = imports_between([tmp_path / name for name in sources], tmp_path)
    assert imports["pipeline.data.table"] == {"pipeline.data.rows", "pipeline.base.errors"}
    assert arrows_between(imports) == 3
