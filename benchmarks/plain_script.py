"""A person's own script in the usual style: Lightning, DataLoader, torchmetrics and MLflow.

    python -m benchmarks.plain_script [epochs]

The MLP 64-128-64 on MNIST-1D, with the metrics, the checkpoint and the records that people ask of
such a script. Nothing in it is slow on purpose.
"""

import sys

import numpy as np
import pytorch_lightning as pl
import torch
from mnist1d.data import get_dataset_args, make_dataset
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import MLFlowLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassF1Score, MulticlassPrecision, MulticlassRecall

from benchmarks.bare import mlp


def metrics(prefix: str) -> MetricCollection:
    """Precision, recall and F1, the mean over the classes."""
    kinds = (MulticlassPrecision, MulticlassRecall, MulticlassF1Score)
    return MetricCollection([kind(num_classes=10) for kind in kinds], prefix=prefix)


class Model(pl.LightningModule):
    """The network with its loss and its metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.network = mlp()
        self.loss = nn.CrossEntropyLoss()
        self.scores = nn.ModuleDict({f"m_{s}": metrics(f"{s}/") for s in ("train", "val", "test")})

    def step(self, batch, stage):
        inputs, targets = batch
        logits = self.network(inputs)
        loss = self.loss(logits, targets)
        scores = self.scores[f"m_{stage}"]
        scores.update(logits, targets)
        self.log(f"{stage}/loss", loss, on_epoch=True, on_step=False, prog_bar=True)
        self.log_dict(scores, on_epoch=True, on_step=False, prog_bar=True)
        return loss

    def training_step(self, batch, _):
        return self.step(batch, "train")

    def validation_step(self, batch, _):
        self.step(batch, "val")

    def test_step(self, batch):
        self.step(batch, "test")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def main() -> None:
    """Train, test and record."""
    pl.seed_everything(0)
    data = make_dataset(get_dataset_args())
    whole = TensorDataset(
        torch.from_numpy(data["x"].astype(np.float32)), torch.from_numpy(data["y"]).long()
    )
    test = TensorDataset(
        torch.from_numpy(data["x_test"].astype(np.float32)), torch.from_numpy(data["y_test"]).long()
    )
    train, validation = random_split(whole, [0.8, 0.2])
    trainer = pl.Trainer(
        max_epochs=int(sys.argv[1]) if len(sys.argv) > 1 else 20,
        accelerator="cpu",
        logger=MLFlowLogger("pipeline", tracking_uri="sqlite:///mlflow.db"),
        callbacks=[ModelCheckpoint(monitor="val/MulticlassF1Score", mode="max", save_last=True)],
        gradient_clip_val=1.0,
    )
    model = Model()
    trainer.fit(model, DataLoader(train, 32, shuffle=True), DataLoader(validation, 32))
    trainer.test(model, DataLoader(test, 32), weights_only=False, ckpt_path="best")


if __name__ == "__main__":
    main()
