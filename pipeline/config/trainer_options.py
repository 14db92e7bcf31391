"""Options of Lightning's Trainer, under its own names, and its words that are refused."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.typed import Limit, NaturalInt, Options, PositiveFloat, PositiveInt, Text


class TrainerOptions(Options):
    """Arguments of Lightning's Trainer, under its own names, and three of ours."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: PositiveInt | Annotated[list[NaturalInt], Field(min_length=1)] | Literal["auto"]
    """How many devices on each machine, or which ones; `auto` is one."""
    num_nodes: PositiveInt
    """Machines that train together."""
    strategy: Text
    """How several devices share the work; `auto` = as DDP."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]
    threads: PositiveInt | None
    """Threads of one process on the CPU; null = chosen by the size of the network."""
    compile: bool
    """Compile the network with torch.compile."""
    matmul_precision: Literal["highest", "high", "medium"]
    """Precision of float32 matrix products on a GPU."""
    max_epochs: PositiveInt
    min_epochs: PositiveInt | None
    max_steps: Annotated[int, Field(ge=-1)]
    """Optimizer steps after which training ends; -1 = no limit."""
    min_steps: PositiveInt | None
    max_time: Annotated[str, Field(pattern=r"^\d+:\d\d:\d\d:\d\d$")] | None
    """Longest time for training as days:hours:minutes:seconds; null = no limit."""
    gradient_clip_val: PositiveFloat | None
    """Largest norm (or value) of the gradients; null leaves them alone."""
    gradient_clip_algorithm: Literal["norm", "value"]
    accumulate_grad_batches: PositiveInt
    limit_train_batches: Limit | None
    limit_val_batches: Limit | None
    limit_test_batches: Limit | None
    limit_predict_batches: Limit | None
    overfit_batches: Limit
    fast_dev_run: bool | NaturalInt
    val_check_interval: (
        PositiveInt | Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None
    )
    check_val_every_n_epoch: PositiveInt | None
    num_sanity_val_steps: Annotated[int, Field(ge=-1)]
    log_every_n_steps: PositiveInt
    deterministic: bool | Literal["warn"]
    benchmark: bool | None
    inference_mode: bool
    profiler: Literal["simple", "advanced", "pytorch"] | None
    detect_anomaly: bool
    sync_batchnorm: bool
    reload_dataloaders_every_n_epochs: NaturalInt
    model_registry: Text | None


REFUSED = {
    "trainer.logger": "the run records itself; choose with tracking=local|server|none",
    "trainer.callbacks": "callbacks have a group of their own; callbacks=NAME",
    "trainer.plugins": "the program brings its own; precision has a key of its own",
    "trainer.barebones": "it switches off what a run is for; tracking=none is the nearest",
    "trainer.default_root_dir": "the run has a folder of its own; choose with output=FOLDER",
    "trainer.enable_checkpointing": "a run always keeps its weights; keep=best|last says which",
    "trainer.enable_progress_bar": "choose with verbose=0|1|2",
    "trainer.enable_model_summary": "choose with verbose=0|1|2",
    "trainer.enable_autolog_hparams": "the run records its own config",
    "trainer.use_distributed_sampler": "devices share the rows by the program's own means",
}
"""Lightning's own words that are ours to decide, each with what takes its place."""
