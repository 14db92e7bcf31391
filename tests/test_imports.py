"""What no command and no process of this program may import, since it costs a tenth of a second."""

import subprocess
import sys
from pathlib import Path

import pytest

LIGHTNING = "pytorch_lightning torchmetrics torch._dynamo"
#: A command or an import, its exit code, and packages or modules that it does without; what a
#: training does without is in tests/test_train.py.
FREE_OF = {
    "pipeline.train --help": (0, "torch numpy mlflow optuna"),
    "pipeline.train --info": (0, "torch numpy mlflow optuna"),
    "pipeline.sweep modle=lstm optimizer.lrr=interval(0,1)": (2, "torch numpy mlflow optuna"),
    "pipeline.train optimizer.lr=-1": (2, f"{LIGHTNING} mlflow optuna scipy pandas matplotlib"),
    "pipeline.runs action=list": (0, "torch numpy mlflow optuna sqlalchemy"),
    "pipeline.predict model_from=nothing input=new.csv": (2, "torch mlflow pyarrow"),
    "pipeline.predict model_from=last input=new.csv output=answers.csv overwrite=true": (
        0,
        f"{LIGHTNING} mlflow optuna scipy pandas sklearn matplotlib",
    ),
    "pipeline.report run=last": (0, "torch mlflow optuna sqlalchemy pandas pyarrow sklearn"),
    "import pipeline.reporting.run_page": (0, "torch mlflow scipy pandas hydra"),
    "import pipeline.tracking.mlflow_store": (
        0,
        "torch sqlalchemy sklearn matplotlib optuna hydra",
    ),
    "import pipeline.tracking.client": (0, "torch numpy mlflow hydra"),
    "import pipeline.study.sweeping": (0, f"{LIGHTNING} mlflow scipy pandas matplotlib"),
}


@pytest.mark.parametrize("does", FREE_OF)
def test_no_unneeded_heavy_module_is_imported(does: str, trained_folder: Path) -> None:
    names = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
    (trained_folder / "new.csv").write_text(",".join(names) + "\n5,3,1,0.2\n", encoding="utf-8")
    code, unwanted = FREE_OF[does]
    words = ["-c", does] if does.startswith("import") else ["-m", *does.split()]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words],
        cwd=trained_folder,
        capture_output=True,
        text=True,
        check=False,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert (done.returncode, "pipeline" in loaded) == (code, True), done.stderr[-400:]
    assert loaded & {*unwanted.split()} == set()
