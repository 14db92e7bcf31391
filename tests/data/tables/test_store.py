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
from typing import BinaryIO

import numpy as np
import pytest
from given_tables import FILE, patients, read, source, text, write

from pipeline.data.source import Samples, local_file
from pipeline.data.tables import store
from pipeline.errors import ConfigError, DataError, EnvironmentFaultError
from pipeline.paths import cache_folder

KEYS = {"target": "outcome", "id": "name", "categorical": ["ward"]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def files(*names: str) -> list[tuple[Path, int]]:
    return [(Path(name), part) for part, name in enumerate(names)]


def stored(**changes: object) -> Samples:
    return store.stored(files(FILE), source(**{**KEYS, **changes})[0])


def converted() -> list[Path]:
    return sorted(cache_folder().glob("*"))


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
    keys = source(**{**KEYS, **changes})[0]
    kept = store.read_samples(both, keys)
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


def test_a_changed_file_is_converted_anew_and_the_older_one_forgotten() -> None:
    lines = patients()
    write(text(lines))
    stored()
    (first,) = converted()
    lines[1][4] = "99"
    path = write(text(lines))
    os.utime(path, ns=(1, 1))
    assert stored().inputs[0, 3] == 99
    (second,) = converted()
    assert second != first
    stored(drop=["dose"])  # other keys lie beside it
    assert len(converted()) == 2


def test_what_is_refused_or_has_no_room_leaves_nothing_in_the_cache() -> None:
    write("a,y\n" + "1,0\n2,1\n" * 20 + "x,1\n")
    with pytest.raises(DataError, match=rf"{FILE} line 42, column 'a': 'x' is not a number"):
        store.stored(files(FILE), source(target="y")[0])
    assert converted() == []
    path = write(text(patients(3000)))  # more than is read to see what the file is
    with path.open("r+b") as file:
        file.truncate(2 * shutil.disk_usage(".").free)
    with pytest.raises(EnvironmentFaultError, match=r"GiB left, and this table needs about .*"):
        stored()
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
    stored()
    assert [one.exists() for one in (left, going_on, elsewhere)] == [False, True, True]


def test_a_table_is_large_by_its_text_or_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
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
from given_tables import FILE, source
from pipeline.data.tables import store
print("ready", flush=True)
sys.stdin.readline()
print(float(store.stored([(Path(FILE), 0)], source(target="y")[0]).inputs.sum()))
"""


@pytest.mark.slow
def test_processes_that_convert_at_once_all_get_the_whole_table() -> None:
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
def test_a_conversion_of_a_file_of_any_name_says_why_one_waits_unless_nothing_shall_be_said(
    train: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "far.csv").write_text(text(patients()), encoding="utf-8")

    class Server(SimpleHTTPRequestHandler):
        """One whose connection breaks before the end of `cut.csv`."""

        def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:
            content = source.read()
            outputfile.write(content[:-100] if self.path == "/cut.csv" else content)

    (folder / "cut.csv").write_text(text(patients()), encoding="utf-8")
    handler = partial(Server, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.01,)).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def fetched(path: str, *, allow_url: bool = True) -> Path:
    return local_file(path, key="data.path", allow_url=allow_url)


def test_a_path_stays_what_it_is_whatever_signs_it_has() -> None:
    for path in ("a b.csv", "C:/x.csv", "/tmp/=#%[x].csv", "表/数据.csv"):
        assert fetched(path, allow_url=False) == Path(path)


def test_a_url_is_refused_unless_it_is_allowed_and_its_password_is_not_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        read(path="https://me:secret@host/x.csv?token=secret")
    assert str(raised.value) == (
        "data.path=https://host/x.csv is a URL; download the file first, or set data.allow_url=true"
    )
    for url in ("ftp://host/x.csv", "file:///etc/passwd", "s3://bucket/x.csv"):
        with pytest.raises(ConfigError, match=r"can't be fetched; expected http:// or https://"):
            fetched(url)


def test_an_allowed_url_is_fetched_once_and_what_is_not_there_leaves_nothing(server: str) -> None:
    write(text(patients()))
    samples = read(path=f"{server}/far.csv", drop=["name"], allow_url=True)
    assert samples.targets.tolist() == read(drop=["name"]).targets.tolist()
    first = fetched(f"{server}/far.csv").stat().st_mtime_ns
    assert fetched(f"{server}/far.csv").stat().st_mtime_ns == first
    with pytest.raises(EnvironmentFaultError, match=r"/none.csv can't be fetched: .*; try again"):
        fetched(f"{server}/none.csv")
    with pytest.raises(EnvironmentFaultError, match=r"ended after [\d,]+ of [\d,]+ bytes; try a"):
        fetched(f"{server}/cut.csv")
    assert [*cache_folder().glob("*none*"), *cache_folder().glob("*cut*")] == []
