"""From files of arrays, series and pictures to predictions, through the command."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from own_sources import new_rows
from PIL import Image

from pipeline.serving.model import Model

Train = Callable[..., int]

RANDOM = np.random.default_rng(0)
LABELS = np.arange(120) % 2
BRIGHT = (RANDOM.integers(0, 100, (120, 8, 8)) + 150 * LABELS[:, None, None]).astype(np.uint8)
QUICK = ("trainer.max_epochs=12", "tracking=none", "verbose=0", "optimizer.lr=0.01")

pytestmark = pytest.mark.slow


def arrays() -> tuple[str, str]:
    np.savez("x.npz", X=BRIGHT.reshape(120, 64), y=LABELS)
    np.savetxt("new.csv", BRIGHT.reshape(120, 64), fmt="%d", delimiter=";")
    return "x.npz", "new.csv"


def ucr() -> tuple[str, str]:
    for part, rows in {"TRAIN": slice(90), "TEST": slice(90, 120)}.items():
        lines = np.column_stack([LABELS[rows] * 2 - 1, BRIGHT[rows].reshape(-1, 64)])
        np.savetxt(f"Wave_{part}.txt", lines, fmt="%.7e", delimiter="  ")
    np.savetxt("new.tsv", BRIGHT.reshape(120, 64), fmt="%d", delimiter="\t")
    return "Wave_TRAIN.txt", "new.tsv"


def idx() -> tuple[str, str]:
    for part, rows in {"train": slice(90), "t10k": slice(90, 120)}.items():
        pixels, labels = BRIGHT[rows], LABELS[rows].astype(np.uint8)
        head = struct.pack(">4B3I", 0, 0, 8, 3, *pixels.shape)
        Path(f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + pixels.tobytes()))
        head = struct.pack(">4BI", 0, 0, 8, 1, len(labels))
        Path(f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(head + labels.tobytes()))
    np.save("new.npy", BRIGHT)
    return ".", "new.npy"


def images() -> tuple[str, str]:
    for row, pixels in enumerate(BRIGHT):
        label = "晴れ=day, 1" if LABELS[row] else "night"
        for folder in (Path("my pictures", label), Path("new")):
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{row:03d}.png")
    return "my pictures", "new"


@pytest.mark.parametrize(
    ("make", "words", "classes"),
    [
        (arrays, ["model=mlp", "data=arrays"], ("0", "1")),
        (ucr, ["model=cnn1d", "data=ucr"], ("-1", "1")),
        (idx, ["model=cnn2d", "data=idx"], ("0", "1")),
        (images, ["model=cnn2d", "data=images"], ("night", "晴れ=day, 1")),
    ],
    ids=["arrays", "ucr", "idx", "images"],
)
def test_files_train_a_model_that_predicts_from_new_files(
    make: Callable[[], tuple[str, str]],
    words: list[str],
    classes: tuple[str, ...],
    train: Train,
    own_folder: Path,
) -> None:
    path, fresh = make()
    assert train(*QUICK, *words, f"data.path='{path}'") == 0
    (run,) = (own_folder / "runs").iterdir()
    model = Model.load(run)
    assert model.schema.classes == classes
    outputs = model.outputs(new_rows(fresh, model.schema).raw)
    assert ((outputs > 0.5).numpy() == LABELS).mean() > 0.9


def test_pictures_that_readers_decode_train_as_those_in_memory(
    train: Train, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = images()
    words = (*QUICK, "model=cnn2d", "data=images", f"data.path='{path}'")
    assert train(*words) == 0
    monkeypatch.setattr("pipeline.data.images.IN_MEMORY_BYTES", 0)
    assert train(*words, "data.memory_budget=0", "data.num_workers=2") == 0
    near, far = (Model.load(run) for run in sorted((own_folder / "runs").iterdir()))
    rows = new_rows("new", near.schema).raw
    assert (near.outputs(rows) == far.outputs(rows)).all()


@pytest.mark.parametrize(
    ("make", "words", "problem"),
    [
        (
            arrays,
            ["data=arrays"],
            "data.path has no value yet (???); give it one: data.path=VALUE.",
        ),
        (
            arrays,
            ["data=arrays", "data.path=x.np"],
            "data.path='x.np' is not there (looked in '.'). Did you mean 'x.npz'?",
        ),
        (
            arrays,
            ["data=arrays", "data.path=x.npz", "data.layout=image"],
            "data.layout='image' is not allowed; expected one of table, series, images, "
            "channels_first, channels_last or null. Did you mean 'images'?",
        ),
        (
            ucr,
            ["data=ucr", "data.path=Wave_TRAIN.txt", "data.length=0"],
            "data.length=0 is not allowed; expected a whole number > 0 or null.",
        ),
        (
            idx,
            ["data=idx", "data.path=new.npy"],
            "new.npy is not named as a file of MNIST's; expected train-images-idx3-ubyte, "
            "train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (each may "
            "end in .gz)",
        ),
        (
            images,
            ["data=images", "data.path=new", "data.image_mode=rgb"],
            "data.image_mode='rgb' is not allowed; expected one of L, RGB or null.",
        ),
    ],
)
def test_a_file_or_key_that_can_not_be_used_is_one_line_and_leaves_nothing(
    make: Callable[[], tuple[str, str]],
    words: list[str],
    problem: str,
    train: Train,
    own_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make()
    before = sorted(own_folder.rglob("*"))
    assert train("model=mlp", "tracking=none", *words) == 2
    assert capsys.readouterr().err.replace(str(own_folder), ".") == f"error: {problem}\n"
    assert sorted(own_folder.rglob("*")) == before
