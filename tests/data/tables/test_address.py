import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from given_tables import patients, read, text, write

from pipeline.data.tables.store import local_file
from pipeline.errors import ConfigError, EnvironmentFaultError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
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


@pytest.mark.parametrize("url", ["ftp://host/x.csv", "file:///etc/passwd", "s3://bucket/x.csv"])
def test_a_url_of_another_kind_is_refused_even_if_allowed(url: str) -> None:
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
    from pipeline.paths import cache_folder

    assert list(cache_folder().glob("*none*")) == []
