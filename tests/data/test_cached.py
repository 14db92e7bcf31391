import hashlib
import io
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.cached import cached

CONTENT = {"inputs": np.arange(6.0).reshape(2, 3), "names": np.array(["a", "b"])}


class Maker:
    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.made += 1
        return CONTENT


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def cached_file(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "pipeline").iterdir()
    return file


def assert_is_content(arrays: dict[str, np.ndarray]) -> None:
    assert arrays.keys() == CONTENT.keys()
    for name, array in CONTENT.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_arrays_are_made_once_and_read_from_then_on() -> None:
    make = Maker()
    for _ in range(3):
        assert_is_content(cached("x", make, made_by="numpy"))
    assert make.made == 1


def test_plain_numpy_reads_the_cached_file(tmp_path: Path) -> None:
    cached("x", Maker(), made_by="numpy")
    with np.load(cached_file(tmp_path), allow_pickle=False) as arrays:
        assert_is_content(dict(arrays))


def test_a_flipped_byte_anywhere_makes_the_arrays_anew(tmp_path: Path) -> None:
    cached("x", Maker(), made_by="numpy")
    file = cached_file(tmp_path)
    whole = file.read_bytes()
    for position in [*range(0, len(whole), 37), len(whole) - 1]:
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        make = Maker()
        assert_is_content(cached("x", make, made_by="numpy"))
        assert make.made == 1
        assert file.read_bytes() == whole


@pytest.mark.parametrize("kept", [0, 1, 31, 32, 33, 200])
def test_a_cut_file_makes_the_arrays_anew(tmp_path: Path, kept: int) -> None:
    cached("x", Maker(), made_by="numpy")
    file = cached_file(tmp_path)
    file.write_bytes(file.read_bytes()[:kept])
    make = Maker()
    assert_is_content(cached("x", make, made_by="numpy"))
    assert make.made == 1


class Trap:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.write_text, (self.path, "sprung"))


def test_a_pickle_in_the_cache_is_never_loaded(tmp_path: Path) -> None:
    cached("x", Maker(), made_by="numpy")
    buffer = io.BytesIO()
    np.savez(buffer, inputs=np.array([Trap(tmp_path / "sprung")], dtype=object))
    archive = buffer.getvalue()
    cached_file(tmp_path).write_bytes(archive + hashlib.sha256(archive).digest())
    assert_is_content(cached("x", Maker(), made_by="numpy"))
    assert not (tmp_path / "sprung").exists()


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    make = Maker()
    for _ in range(2):
        assert_is_content(cached("x", make, made_by="numpy"))
    assert make.made == 2


def _sum_of_cached(_: int) -> float:
    arrays = cached("large", lambda: {"x": np.arange(200_000.0)}, made_by="numpy")
    return float(arrays["x"].sum())


def test_processes_that_fill_an_empty_cache_at_once_all_get_the_content(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(6) as pool:
        sums = pool.map(_sum_of_cached, range(24), chunksize=1)
    assert set(sums) == {float(sum(range(200_000)))}
    assert [file.suffix for file in (tmp_path / "pipeline").iterdir()] == [".npz"]
