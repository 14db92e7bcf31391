"""What the cache keeps: large tables that say the same as in memory; paths that are none."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.tables.given_tables import FILE, patients, read, source, text, write
from helpers.case_tables import refusals
from helpers.fixture_types import Capture, Patch, Train
from helpers.refused_calls import refusal
from helpers.sample_data import array_of

from pipeline.base.errors import EnvironmentFaultError
from pipeline.base.paths import cache_folder
from pipeline.data.parsing.tables import row_store as store
from pipeline.data.parsing.tables.conversion import read_samples
from pipeline.data.source import Samples, local_file

KEYS: dict[str, Any] = {"target": "outcome", "id": "name", "categorical": ["ward"]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def files(*names: str) -> list[tuple[Path, int]]:
    return [(Path(name), part) for part, name in enumerate(names)]


def stored(**changes: Any) -> Samples:
    return store.stored(files(FILE), source(**{**KEYS, **changes})[0])


def converted() -> list[Path]:
    return sorted(cache_folder().glob("*"))


def test_cached_texts_beyond_memory_are_read_again(monkeypatch: Patch) -> None:
    """Texts of a Parquet file may be longer than the file and its numbers."""
    write(text(patients()))
    keys = source(**KEYS)[0]
    expected = read_samples(files(FILE), keys)
    monkeypatch.setattr("pipeline.data.parsing.tables.rows.MOST_KEPT", 100)
    samples = read_samples(files(FILE), keys)
    np.testing.assert_array_equal(samples.inputs, expected.inputs)
    np.testing.assert_array_equal(samples.targets, expected.targets)
    assert samples.notes == expected.notes


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"missing": "drop"},
        {"group": "town", "missing": "drop"},
        {"time": "dose"},
        {"target": "dose", "units": "mg"},
    ],
)
def test_mapped_table_equals_table_in_memory(changes: dict[str, Any]) -> None:
    lines = patients()
    if "group" in changes:
        lines = [lines[0], *(line for line in lines[1:] if line[2])]
    write(text(lines[:40]))
    write(text([lines[0], *lines[40:]]), "validation.csv")
    both = files(FILE) if "time" in changes else files(FILE, "validation.csv")
    keys = source(**{**KEYS, **changes})[0]
    kept = read_samples(both, keys)
    for mapped in (store.stored(both, keys) for _ in range(2)):
        for name in Samples.__dataclass_fields__:
            first, second = getattr(mapped, name), getattr(kept, name)
            if isinstance(second, np.ndarray):
                assert first.dtype == second.dtype
                np.testing.assert_array_equal(first, second)
            else:
                assert first == second, name
        assert isinstance(mapped.inputs, np.memmap)
        assert not mapped.inputs.flags.writeable


def test_changed_file_replaces_its_conversion() -> None:
    lines = patients()
    write(text(lines))
    stored()
    (first,) = converted()
    lines[1][4] = "99"
    path = write(text(lines))
    os.utime(path, ns=(1, 1))
    assert array_of(stored())[0, 3] == 99
    (second,) = converted()
    assert second != first
    stored(drop=["dose"])  # other keys lie beside it
    assert len(converted()) == 2


def test_refused_conversion_leaves_cache_empty() -> None:
    """Neither a bad cell nor a lack of disk space leaves a part in the cache."""
    write("a,y\n" + "1,0\n2,1\n" * 20 + "x,1\n")
    problem = refusal(store.stored, files(FILE), source(target="y")[0])
    assert problem.startswith(f"{FILE} line 42, column 'a': 'x' is not a number")
    assert converted() == []
    path = write(text(patients(3000)))  # more than is read to see what the file is
    with path.open("r+b") as file:
        file.truncate(2 * shutil.disk_usage(".").free)
    with pytest.raises(EnvironmentFaultError, match=r"GiB left, and this table needs about .*"):
        stored()
    assert converted() == []


def test_leftovers_of_killed_conversion_are_removed() -> None:
    """Conversions of live processes and of other machines stay."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = f".table-a-b-c@{platform.node().replace('.', '-')}"
    left, going_on, elsewhere = (
        cache_folder() / f"{place}.{pid}.tmp"
        for place, pid in ((here, ended.pid), (here, os.getpid()), (".table-a@far", ended.pid))
    )
    for folder in (left, going_on, elsewhere):
        folder.mkdir(parents=True)
    write(text(patients()))
    stored()
    assert [one.exists() for one in (left, going_on, elsewhere)] == [False, True, True]


def test_table_is_large_by_text_or_numbers(monkeypatch: Patch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": pa.array(np.zeros(10**6))}), "zeros.parquet")
    large = store.size_of(files("zeros.parquet"), source()[0])
    assert Path("zeros.parquet").stat().st_size < large == 8 * 10**6
    size = write(text(patients())).stat().st_size
    for largest, is_mapped in ((size + 1, False), (size, True)):
        monkeypatch.setattr(store, "LARGE_BYTES", largest)
        assert isinstance(read(**KEYS).inputs, np.memmap) == is_mapped


READS = """
import sys; sys.path[:0] = sys.argv[1:]
from pathlib import Path
from typing import Any
from data.tables.given_tables import FILE, source
from pipeline.data.parsing.tables import row_store as store
from pipeline.data.parsing.tables.conversion import read_samples
print("ready", flush=True)
sys.stdin.readline()
print(float(store.stored([(Path(FILE), 0)], source(target="y")[0]).inputs.sum()))
"""


@pytest.mark.slow
def test_concurrent_conversions_give_the_whole_table() -> None:
    rows, pipe = 40_000, subprocess.PIPE
    write("a,b,y\n" + "".join(f"{2 * n},{n % 7},{n % 2}\n" for n in range(rows)))
    words = [sys.executable, "-c", READS, *sys.path]
    readers = [subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    for reader in readers:
        assert reader.stdin is not None
        reader.stdin.write("go\n")
        reader.stdin.flush()
    answers = [reader.communicate(timeout=120)[0].splitlines()[-1] for reader in readers]
    assert [float(answer) for answer in answers] == [sum(2 * n + n % 7 for n in range(rows))] * 2
    assert len(converted()) == 1


@pytest.mark.slow
def test_conversion_is_announced_if_verbose(
    train: Train, monkeypatch: Patch, capsys: Capture
) -> None:
    """`verbose=0` prints nothing, and neither does a table that is already converted."""
    name = "表 a=b,c#d%e[f] (1).csv"
    write(text(patients(200)), name)
    monkeypatch.setattr(store, "LARGE_BYTES", 1)
    table = ("model=mlp", "data=table", f"data.path='{name}'", "data.target=outcome")
    words = (*table, "data.id=name", "data.positive=ill", "trainer.max_epochs=1", "tracking=none")
    told = []
    for verbose, seed in ((0, 0), (2, 0), (2, 1)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(Path(f"cache_{verbose}").resolve()))
        assert train(*words, f"verbose={verbose}", f"seed={seed}") == 0
        told.append(capsys.readouterr().err.splitlines())
    silent, (converting, converted), again = told
    assert silent == again == []
    assert converting.startswith(f"converting {name} (0 MiB) once; later runs map it from")
    assert converted.startswith("converted 200 rows in ")


def test_local_path_keeps_special_characters() -> None:
    for path in ("a b.csv", "C:/x.csv", "/tmp/=#%[x].csv", "表/数据.csv"):
        assert local_file(path, key="data.path") == Path(path)


URLS = """
https://host/a/x.csv
- 'https://host/a/x.csv' is a URL; download it first: curl -O https://host/a/x.csv, then set
  data.path=x.csv

https://me:secret@host/x.csv?token=secret
- 'https://host/x.csv' is a URL; download it first: curl -O URL, then set data.path=x.csv

s3://bucket/x.csv
- 's3://bucket/x.csv' is a URL; copy it to this machine first, then set data.path=x.csv

http://[host
- 'http://[host' is a URL; download it first: curl -O 'http://[host', then set data.path='[host'
"""


@pytest.mark.parametrize(("url", "problem"), refusals(URLS))
def test_url_is_refused_with_a_fix(url: str, problem: str) -> None:
    assert refusal(read, path=url) == f"data.path={problem}"
