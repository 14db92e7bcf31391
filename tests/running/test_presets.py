"""Every choice that `conf/` offers composes, runs and leaves a whole record."""

from itertools import cycle, zip_longest
from pathlib import Path

import pytest
from helpers.fixture_types import Made
from helpers.run_files import checkpoint, epochs, events, final_values
from helpers.sample_data import names, shipped
from helpers.server_processes import ROOT
from omegaconf import OmegaConf

CONF = ROOT / "conf"
SHORT = ("trainer.max_epochs=1", "tracking=none", "verbose=0")
FEW = ("trainer.limit_train_batches=4", *SHORT)
IRIS = ("model=mlp", "data=iris", *SHORT[1:])
MODEL_OF = {
    "table": ("model=mlp",),
    "series": ("model=rnn", "model.hidden=4"),
    "images": ("model=cnn2d", "model.channels=[4]"),
}


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def lacks(experiment: str) -> set[str]:
    """Return the keys for which an experiment needs a value, such as a path to own data."""
    file = CONF / "experiment" / f"{experiment}.yaml"
    return OmegaConf.missing_keys(OmegaConf.load(file))


EXPERIMENTS = [one for one in choices("experiment") if not lacks(one)]
QUICK = list({name.split("_")[0]: name for name in EXPERIMENTS}.values())
"""The last experiment of each data set, in the order of the alphabet."""
TEXTS = [(CONF / "experiment" / f"{one}.yaml").read_text("utf-8") for one in QUICK]


@pytest.fixture
def ran(made: Made) -> Made:
    """Trains; returns the folder of a run that is whole."""

    def call(*words: str) -> Path:
        run = made(*words)
        values = set(final_values(run))
        assert events(run)[-1]["status"] == "FINISHED"
        assert "train/loss" in epochs(run)[1]
        assert {"test/f1", "naive/f1"} <= values or {"test/rmse", "naive/rmse"} <= values
        return run

    return call


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(e, marks=[] if e in QUICK else [pytest.mark.slow]) for e in EXPERIMENTS],
)
def test_every_experiment_runs(ran: Made, experiment: str) -> None:
    # This experiment shows a divergence, which clipping prevents.
    options = ["trainer.gradient_clip_val=1.0"] if experiment == "notes_exploding" else []
    assert experiment in ran(f"experiment={experiment}", *options, *FEW).name


@pytest.mark.parametrize("preset", choices("debug"))
def test_every_debug_preset_runs(ran: Made, preset: str) -> None:
    short = ("trainer.max_epochs=2",) if preset == "overfit" else ()
    run = ran("model=mlp", f"debug={preset}", "verbose=0", *short)
    assert not Path("mlflow.db").exists()
    assert checkpoint(run, "last")["global_step"] >= 1


def test_debug_preset_works_with_an_experiment(ran: Made) -> None:
    run = ran("experiment=notes_lstm", "debug=default", "verbose=0")
    assert checkpoint(run, "last")["global_step"] == 1


@pytest.mark.parametrize(
    ("model", "callbacks"), [*zip(choices("model"), cycle(choices("callbacks")), strict=False)]
)
def test_every_model_and_callback_runs(ran: Made, model: str, callbacks: str) -> None:
    """Each model trains on its own default data."""
    assert len(choices("callbacks")) <= len(choices("model"))
    ran(f"model={model}", f"callbacks={callbacks}", *FEW)


@pytest.mark.parametrize(
    "data", [name for name in names() if not any(f"data: {name}\n" in text for text in TEXTS)]
)
def test_every_other_data_set_trains_a_model(ran: Made, data: str) -> None:
    """These are the data sets that no quick experiment uses."""
    ran(*MODEL_OF[shipped(data).schema.kind], f"data={data}", *SHORT, "data.batch_size=256")


PAIRS = zip_longest(choices("optimizer"), choices("scheduler"))


@pytest.mark.parametrize(("optimizer", "scheduler"), PAIRS)
def test_every_optimizer_and_scheduler_takes_effect(
    ran: Made, optimizer: str | None, scheduler: str | None
) -> None:
    words = (f"optimizer={optimizer or 'adam'}", f"scheduler={scheduler or 'none'}")
    values = [*epochs(ran(*IRIS, *words, "seed=3")).values()]
    assert len(values) == 20
    assert values[-1]["train/loss"] < values[0]["train/loss"] / 2
    moves_each_epoch = scheduler in ("cosine", "exponential", "onecycle")
    assert (len({epoch_values["lr"] for epoch_values in values}) == 20) == moves_each_epoch


@pytest.mark.parametrize("scheduler", choices("scheduler"))
def test_every_scheduler_works_with_one_step(ran: Made, scheduler: str) -> None:
    ran(*IRIS, f"scheduler={scheduler}", "trainer.fast_dev_run=true")
