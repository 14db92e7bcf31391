"""Lightning's callbacks by name, and a user's own, with a record that stays true."""

import csv
from pathlib import Path

import pytest
import torch
from helpers.composed_runs import composed, tensors_of
from helpers.fixture_types import Capture, Train
from helpers.run_files import checkpoint, epochs, events, only_run, predictions
from mlflow import MlflowClient
from torch import Tensor, nn
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("quick_children")

IRIS = ("model=mlp", "data=iris", "verbose=0", "trainer.max_epochs=4")
UNTRACKED = (*IRIS, "tracking=none")

OWN = """
from pytorch_lightning import Callback

class LargestWeight(Callback):
    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def on_train_epoch_end(self, trainer, pl_module):
        largest = max(float(p.abs().max()) for p in pl_module.parameters())
        pl_module.log("weight/largest", self.scale * largest)

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("weight/count", float(sum(p.numel() for p in pl_module.parameters())))
"""


def load_weights(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Let a network have the weights of a checkpoint."""
    own = {key.removeprefix("network."): v for key, v in state.items() if "network." in key}
    network.load_state_dict(own)
    network.eval()


@pytest.mark.parametrize("callbacks", ["[]", "ema", "[early_stopping,ema]"])
def test_checkpoint_weights_are_those_validated_and_tested(
    train: Train, own_folder: Path, callbacks: str
) -> None:
    decay = ["callbacks.ema.decay=0.8"] if "ema" in callbacks else []
    words = (*UNTRACKED, f"callbacks={callbacks}", *decay)
    assert train(*words) == 0
    run = only_run(own_folder / "runs")
    _, prepared, network = composed(words)
    load_weights(network, checkpoint(run, "last")["state_dict"])
    inputs, targets = tensors_of(prepared.validation)
    loss = functional.cross_entropy(network(inputs), targets)
    assert epochs(run)[4]["val/loss"] == pytest.approx(float(loss), rel=1e-5)
    if "ema" in callbacks:  # averaged weights are others than the newest
        saved = checkpoint(run, "last")
        newest, averaged = saved["current_model_state"], saved["state_dict"]
        assert newest.keys() == averaged.keys()
        assert any(not torch.equal(newest[key], averaged[key]) for key in newest)
    load_weights(network, checkpoint(run, "best")["state_dict"])
    expected = torch.softmax(network(tensors_of(prepared.test)[0]), dim=1).detach()
    rows = [[float(cell) for cell in [*line.values()][3:]] for line in predictions(run)]
    torch.testing.assert_close(torch.tensor(rows), expected, rtol=1e-5, atol=1e-6)


EVERY_STEP = """
import copy
import torch
from pytorch_lightning import Callback

class EveryStep(Callback):
    def __init__(self):
        self.weights = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.weights.append(copy.deepcopy(pl_module.state_dict()))

    def on_train_end(self, trainer, pl_module):
        torch.save(self.weights, "steps.pt")
"""


def test_moving_average_is_warmed_up(train: Train, own_folder: Path) -> None:
    """By TensorFlow's rule, so that a few steps with a decay of 0.999 are not all the first one."""
    (own_folder / "my_steps.py").write_text(EVERY_STEP, encoding="utf-8")
    watched = ("trust=[my_steps]", "+callbacks.steps._target_=my_steps.EveryStep")
    assert train(*UNTRACKED, "callbacks=ema", *watched) == 0
    steps = torch.load(own_folder / "steps.pt", weights_only=True)
    averaged = checkpoint(only_run(own_folder / "runs"), "last")["state_dict"]
    assert len(steps) >= 4
    for name in (name for name in averaged if averaged[name].is_floating_point()):
        expected = steps[0][name]
        for updates, weights in enumerate(steps[1:], start=1):
            decay = min(0.999, (1 + updates) / (10 + updates))
            expected = decay * expected + (1 - decay) * weights[name]
        torch.testing.assert_close(averaged[name], expected)


def test_early_stopping_ends_a_run_as_finished(train: Train, own_folder: Path) -> None:
    still = ("optimizer.lr=1e-30", "model.norm=none", "scheduler=none", "trainer.max_epochs=50")
    stopping = ("callbacks=early_stopping", "callbacks.early_stopping.patience=2")
    assert train(*IRIS[:-1], "tracking=none", *still, *stopping) == 0
    run = only_run(own_folder / "runs")
    assert list(epochs(run)) == [1, 2, 3]
    assert events(run)[-1]["status"] == "FINISHED"


def test_own_callback_logs_a_metric(train: Train, own_folder: Path) -> None:
    (own_folder / "my_callbacks.py").write_text(OWN, encoding="utf-8")
    conf = own_folder / "myconf" / "callbacks"
    conf.mkdir(parents=True)
    (conf / "largest.yaml").write_text(
        "largest:\n  _target_: my_callbacks.LargestWeight\n  scale: 2.0\n", encoding="utf-8"
    )
    words = ("--config-dir", "myconf", "callbacks=largest", "trust=[my_callbacks]")
    assert train(*words, *IRIS, "trainer.check_val_every_n_epoch=2") == 0
    recorded = epochs(only_run(own_folder / "runs"))
    weights = checkpoint(only_run(own_folder / "runs"), "last")["state_dict"].items()
    largest = max(
        float(value.abs().max())
        for name, value in weights
        if "running" not in name and "batches" not in name
    )
    assert recorded[4]["weight/largest"] == pytest.approx(2 * largest)
    assert [epoch for epoch, values in recorded.items() if "weight/count" in values] == [2, 4]
    client = MlflowClient(f"sqlite:///{own_folder}/mlflow.db")
    (run,) = client.search_runs(["1"])
    points = client.get_metric_history(run.info.run_id, "weight/largest")
    assert [point.step for point in points] == [1, 2, 3, 4]
    assert points[-1].value == pytest.approx(2 * largest)


LOGGING = """
from pytorch_lightning import Callback
from pytorch_lightning.loggers import CSVLogger

class AddsLogger(Callback):
    def setup(self, trainer, pl_module, stage):
        if stage == "fit":
            trainer.loggers.append(CSVLogger("table", name="", version=""))

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            values = [trainer.callback_metrics["val/f1"], trainer.logged_metrics["val/f1"]]
            with open("validated.txt", "a") as file:
                print(*map(float, values), file=file)
"""


def test_callbacks_and_loggers_get_each_epochs_values(train: Train, own_folder: Path) -> None:
    """Lightning's early stopping, a callback of the user, and a logger that it adds."""
    (own_folder / "my_logging.py").write_text(LOGGING, encoding="utf-8")
    stopping = ("monitor=val/f1", "mode=max", "patience=1", "min_delta=1.0")
    words = [f"callbacks.early_stopping.{word}" for word in stopping]
    words += ["trust=[my_logging]", "+callbacks.own._target_=my_logging.AddsLogger"]
    assert train(*UNTRACKED, "callbacks=early_stopping", *words) == 0
    recorded = epochs(only_run(own_folder / "runs"))
    assert list(recorded) == [1, 2]
    validated = (own_folder / "validated.txt").read_text(encoding="utf-8").splitlines()
    scores = [recorded[epoch]["val/f1"] for epoch in (1, 2)]
    assert validated == [f"{score} {score}" for score in scores]
    with (own_folder / "table" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in table] == [0, 1]
    for row, values in zip(table, recorded.values(), strict=True):
        assert {"train/loss", "val/loss", "val/f1", "lr"} <= values.keys()
        assert {name: float(row[name]) for name in values} == values


FAULTY = """
import torch
from pytorch_lightning import Callback
from pipeline.networks.mlp import MLP

class Faulty(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        {}["absent"]

class Narrow(MLP):
    def forward(self, inputs):
        return torch.stack([super().forward(inputs), inputs])
"""


@pytest.mark.parametrize(
    ("key", "kind", "problem"),
    [
        (
            "+callbacks.faulty._target_",
            "Faulty",
            "my_faulty.Faulty.on_train_epoch_end raised KeyError: 'absent' (my_faulty.py:8)",
        ),
        (
            "model._target_",
            "Narrow",
            "my_faulty.Narrow.forward raised RuntimeError: stack expects each tensor to be equal "
            "size, but got [1, 3] at entry 0 and [1, 4] at entry 1 (my_faulty.py:12)",
        ),
    ],
)
def test_error_of_own_code_names_its_place(
    train: Train, own_folder: Path, capsys: Capture, key: str, kind: str, problem: str
) -> None:
    """Also where the user's code called torch, which raised the error."""
    (own_folder / "my_faulty.py").write_text(FAULTY, encoding="utf-8")
    assert train(*UNTRACKED, "trust=[my_faulty]", f"{key}=my_faulty.{kind}") == 2
    advice = "Correct this code; for the traceback set traceback=true."
    assert capsys.readouterr().err == f"error: {problem}. {advice}\n"


def test_lightning_callbacks_run_by_name(train: Train) -> None:
    targets = ("LearningRateMonitor", "Timer", "ModelSummary", "DeviceStatsMonitor")
    words = [f"+callbacks.{one}._target_=pytorch_lightning.callbacks.{one}" for one in targets]
    assert train(*IRIS[:-1], "tracking=none", *words, "trainer.max_epochs=1") == 0
