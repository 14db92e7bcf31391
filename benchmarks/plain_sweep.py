"""A person's own sweep in the usual style: Optuna around the plain script's training.

    python -m benchmarks.plain_sweep [trials] [epochs]

The MLP 64-128-64 on MNIST-1D with Lightning, DataLoader, torchmetrics and MLflow, a child run a
trial, the study in sqlite, threads as they come. Nothing in it is slow on purpose.
"""

import sys

import mlflow
import numpy as np
import optuna
import pytorch_lightning as pl
import torch
from mnist1d.data import get_dataset_args, make_dataset
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import MLFlowLogger
from torch.utils.data import DataLoader, TensorDataset, random_split

from benchmarks.plain_script import Model


class Tuned(Model):
    """The plain script's module with a learning rate of its own."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def main() -> None:
    """Run the study."""
    trials, epochs = (int(word) for word in (sys.argv[1:] + ["10", "20"][len(sys.argv) - 1 :]))
    data = make_dataset(get_dataset_args())
    whole = TensorDataset(
        torch.from_numpy(data["x"].astype(np.float32)), torch.from_numpy(data["y"]).long()
    )
    train, validation = random_split(whole, [0.8, 0.2])
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    mlflow.set_experiment("pipeline")

    def objective(trial: optuna.Trial) -> float:
        pl.seed_everything(0)
        logger = MLFlowLogger("pipeline", tracking_uri="sqlite:///mlflow.db")
        logger.log_hyperparams(trial.params)
        model = Tuned(trial.suggest_float("lr", 1e-3, 1e-1, log=True))
        keeper = ModelCheckpoint(monitor="val/MulticlassF1Score", mode="max", save_last=True)
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=logger,
            callbacks=[keeper],
            gradient_clip_val=1.0,
        )
        trainer.fit(model, DataLoader(train, 32, shuffle=True), DataLoader(validation, 32))
        return float(keeper.best_model_score)

    study = optuna.create_study(
        study_name="plain", storage="sqlite:///optuna.db", direction="maximize"
    )
    study.optimize(objective, n_trials=trials)
    print(study.best_value)


if __name__ == "__main__":
    main()
