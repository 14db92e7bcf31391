"""What the cache keeps: large tables that say the same as in memory, and fetched files."""

import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from given_tables import FILE, patients, read, source, text, write

from pipeline.data.source import Samples, local_file
from pipeline.data.tables import store
from pipeline.data.tables.columns import Keys
from pipeline.data.tables.store import Files, read_samples
from pipeline.errors import ConfigError, DataError, EnvironmentFaultError
from pipeline.paths import cache_folder

KEYS = {"target": "outcome", "id": "name", "categorical": ["ward"]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def keys(**changes: object) -> Keys:
    return source(**{**KEYS, **changes})[0]


def files(*names: str) -> Files:
    return Files(paths=tuple((Path(name), part) for part, name in enumerate(names)), sep=None)


def converted() -> list[Path]:
    return sorted(cache_folder().glob("*"))


def assert_same(mapped: Samples, kept: Samples) -> None:
    for name in Samples.__dataclass_fields__:
        first, second = getattr(mapped, name), getattr(kept, name)
        if isinstance(second, np.ndarray):
            assert first.dtype == second.dtype
            np.testing.assert_array_equal(first, second)
        else:
            assert first == second, name


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
def test_a_mapped_table_says_the_same_as_one_in_memory(changes: dict[str, object]) -> None:
    lines = patients()
    if "group" in changes:
        lines = [lines[0], *(line for line in lines[1:] if line[2])]
    write(text(lines[:40]))
    write(text([lines[0], *lines[40:]]), "validation.csv")
    both = files(FILE) if "time" in changes else files(FILE, "validation.csv")
    kept = read_samples(both, keys(**changes))
    for mapped in (store.stored(both, keys(**changes)) for _ in range(2)):
        assert_same(mapped, kept)
        assert isinstance(mapped.inputs, np.memmap)
        assert not mapped.inputs.flags.writeable


def test_a_changed_file_is_converted_anew_and_the_older_one_forgotten() -> None:
    lines = patients()
    write(text(lines))
    store.stored(files(FILE), keys())
    (first,) = converted()
    lines[1][4] = "99"
    path = write(text(lines))
    os.utime(path, ns=(1, 1))
    assert store.stored(files(FILE), keys()).inputs[0, 3] == 99
    (second,) = converted()
    assert second != first
    store.stored(files(FILE), keys(drop=["dose"]))  # other keys lie beside it
    assert len(converted()) == 2


def test_a_table_that_is_refused_leaves_nothing_in_the_cache() -> None:
    write("a,y\n" + "1,0\n2,1\n" * 20 + "x,1\n")
    with pytest.raises(DataError, match=rf"{FILE} line 42, column 'a': 'x' is no number"):
        store.stored(files(FILE), source(target="y")[0])
    assert converted() == []


def test_what_a_killed_conversion_left_is_removed_by_the_next() -> None:
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
    store.stored(files(FILE), keys())
    assert [one.exists() for one in (left, going_on, elsewhere)] == [False, True, True]


def test_a_cache_without_room_is_a_fault_of_the_place() -> None:
    path = write(text(patients(3000)))  # more than is read to see what the file is
    with path.open("r+b") as file:
        file.truncate(2 * shutil.disk_usage(".").free)
    with pytest.raises(EnvironmentFaultError, match=r"GiB left, and this table needs about .*"):
        store.stored(files(FILE), keys())
    assert converted() == []


def test_a_table_is_large_from_the_size_of_its_text_or_of_its_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": pa.array(np.zeros(10**6))}), "zeros.parquet")
    assert Path("zeros.parquet").stat().st_size < files("zeros.parquet").size() == 8 * 10**6
    size = write(text(patients())).stat().st_size
    for largest, is_mapped in ((size + 1, False), (size, True)):
        monkeypatch.setattr(store, "LARGE_BYTES", largest)
        assert isinstance(read(**KEYS).inputs, np.memmap) == is_mapped


@pytest.fixture
def reader() -> Callable[[], subprocess.Popen[str]]:
    code = (
        "import sys; from pathlib import Path; from pipeline.data.tables import columns, store; "
        "keys = columns.Keys(path='big.csv', target='y', test_path=None, validation_path=None, "
        "task=None, positive=None, numeric=(), categorical=(), drop=(), id=None, group=None, "
        "time=None, split=None, missing='mean', sep=None, units='', strict=False, "
        "allow_url=False); sys.stdin.readline(); "
        "print(float(store.stored(store.Files(paths=((Path('big.csv'), 0),), sep=None), keys)"
        ".inputs.sum()))"
    )

    def begun() -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True)

    return begun


@pytest.mark.slow
def test_processes_that_convert_at_once_all_get_the_whole_table(
    reader: Callable[[], subprocess.Popen[str]],
) -> None:
    rows = 40_000
    write("a,b,y\n" + "".join(f"{n},{n % 7},{n % 2}\n" for n in range(rows)), "big.csv")
    readers = [reader() for _ in range(2)]
    answers = [one.communicate("go\n", timeout=120)[0] for one in readers]
    expected = sum(n + n % 7 for n in range(rows))
    assert [float(answer) for answer in answers] == [expected] * 2
    assert len(converted()) == 1


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "far.csv").write_text(text(patients()), encoding="utf-8")
    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    thread.join()
    serving.server_close()


def fetched(path: str, *, allow_url: bool = True) -> Path:
    return local_file(path, key="data.path", allow_url=allow_url)


def test_a_path_stays_what_it_is_whatever_signs_it_has() -> None:
    for path in ("a b.csv", "C:/x.csv", "/tmp/=#%[x].csv", "表/数据.csv"):
        assert fetched(path, allow_url=False) == Path(path)


def test_a_url_is_refused_unless_it_is_allowed_and_its_password_is_not_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        read(path="https://me:secret@host/x.csv?token=secret")
    assert str(raised.value) == (
        "data.path=https://host/x.csv is a URL, and nothing is fetched unasked; save the file "
        "first, or say data.allow_url=true"
    )
    for url in ("ftp://host/x.csv", "file:///etc/passwd", "s3://bucket/x.csv"):
        with pytest.raises(ConfigError, match=r"can't be fetched; expected http:// or https://"):
            fetched(url)


def test_an_allowed_url_is_fetched_once(server: str) -> None:
    write(text(patients()))
    samples = read(path=f"{server}/far.csv", drop=["name"], allow_url=True)
    assert samples.targets.tolist() == read(drop=["name"]).targets.tolist()
    first = fetched(f"{server}/far.csv").stat().st_mtime_ns
    assert fetched(f"{server}/far.csv").stat().st_mtime_ns == first


def test_a_url_that_is_not_there_is_a_fault_of_the_place_and_leaves_nothing(server: str) -> None:
    with pytest.raises(EnvironmentFaultError, match=r"/none.csv can't be fetched: .*; try again"):
        fetched(f"{server}/none.csv")
    assert list(cache_folder().glob("*none*")) == []
