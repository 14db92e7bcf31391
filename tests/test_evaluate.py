"""`pipeline evaluate`: models just trained, scored again on their own and other data."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.fixture_types import Capture
from helpers.run_files import artifact, events, final_values, predictions
from mlflow import MlflowClient
from serving import new_data
from serving.asked_models import TRAINED, child
from serving.new_data import write_rows
from sklearn import metrics as sklearn_metrics

from pipeline.evaluate import main
from pipeline.report import main as report
from pipeline.train import main as train

pytestmark = pytest.mark.slow

SCORED = ("test/", "naive/", "linear/", "trees/")


class Evaluate:
    """Calls the command, with its output in the current folder."""

    def __init__(self, given: Path, capsys: Capture) -> None:
        self.runs, self._capsys = given / "runs", capsys

    def model(self, kind: str) -> Path:
        (found,) = self.runs.glob(f"*-{kind}-??????")
        return found

    def __call__(self, *words: str) -> int:
        self._capsys.readouterr()
        code = main(list(words))
        self.out, self.err = self._capsys.readouterr()
        return code

    def run(self, kind: str, *words: str) -> Path:
        """The folder of an evaluation that worked."""
        before = set(Path("runs").glob("*"))
        assert self(f"model_from={self.model(kind)}", "tracking=none", *words) == 0, self.err
        (made,) = set(Path("runs").glob("*")) - before
        return made

    def problems(self, kind: str, *words: str) -> list[str]:
        """The lines of a refusal, which leaves nothing behind."""
        before = sorted(Path.cwd().rglob("*"))
        assert self(f"model_from={self.model(kind)}", "tracking=none", *words) == 2, self.out
        assert sorted(Path.cwd().rglob("*")) == before
        lines = self.err.splitlines()
        assert all(line.startswith("error: ") for line in lines)
        return [line.removeprefix("error: ") for line in lines]


@pytest.fixture
def evaluate(given: Path, own_folder: Path, capsys: Capture) -> Evaluate:
    for place in given.iterdir():  # the runs name their data by relative paths
        if place.name != "runs":
            (own_folder / place.name).symlink_to(place)
    return Evaluate(given, capsys)


def scored(run: Path) -> dict[str, float]:
    return {key: value for key, value in final_values(run).items() if key.startswith(SCORED)}


@pytest.mark.parametrize("kind", list(TRAINED))
def test_evaluating_test_rows_repeats_metrics_bit_exactly(evaluate: Evaluate, kind: str) -> None:
    run = evaluate.run(kind, "verbose=0")
    theirs = scored(evaluate.model(kind))
    assert len(theirs) > 8
    assert scored(run) == theirs
    for name in ("test_predictions.csv", "intervals.json"):
        own, other = (place / "artifacts" / name for place in (run, evaluate.model(kind)))
        assert own.read_bytes() == other.read_bytes()
    drift = artifact(run, "drift.json")
    assert [line.partition(":")[0] for line in drift] == ["sales"] * (kind == "series")  # it grows
    assert evaluate.out == evaluate.err == ""


def test_evaluation_of_other_parts_is_a_separate_run(evaluate: Evaluate) -> None:
    """It is not recorded as a training."""
    # The model has a threshold by a rule, and training one of 0.5.
    at_half = "metrics.threshold=0.5"
    run = evaluate.run("table", "split=validation", at_half, "verbose=0")
    found, kept = final_values(run), final_values(evaluate.model("table"))
    for name in ("f1", "accuracy", "recall", "auroc"):
        assert found[f"val/{name}"] == pytest.approx(kept[f"best/val/{name}"], abs=1e-6)
    assert not any(key.startswith("test/") for key in found)
    begin = events(run)[0]
    assert begin["name"] == "table-evaluated"
    assert begin["tags"]["pipeline.command"] == "evaluate"
    assert begin["tags"]["evaluated"] == "validation"
    assert begin["params"]["model.hidden"] == "[64, 128, 64]"
    assert events(run)[-1]["status"] == "FINISHED"
    files = {file.name for file in (run / "artifacts").iterdir()}
    assert {"classes.csv", "data_report.json", "config.yaml"} <= files
    run = evaluate.run("table", "split=all", "verbose=0")
    assert [int(row["row"]) for row in predictions(run)] == list(range(240))


def test_evaluations_of_same_rows_are_compared(evaluate: Evaluate, capsys: Capture) -> None:
    """The report mentions no training."""
    write_rows(Path("other.csv"), new_data.TABLE, new_data.patients(90, seed=5))
    asked = ("data.path=other.csv", "verbose=0")
    runs = [evaluate.run("table", *asked, f"metrics.threshold={at}") for at in (0.3, 0.7)]
    f1 = [final_values(run)["test/f1"] for run in runs]
    assert f1[0] != f1[1]
    capsys.readouterr()
    assert report([f"runs=[{','.join(map(str, runs))}]", "tracking=none"]) == 0
    _, result, rows, _, cost, _ = capsys.readouterr().out.splitlines()
    shown = sorted(f"{value:.2f}" for value in f1)
    assert "F1" in result
    assert sorted(re.findall(r"(\d\.\d\d)(?: against| \(difference .*, 95 % CI )", result)) == shown
    right = [[row["target"] == row["predicted"] for row in predictions(run)] for run in runs]
    only = [sum(a and not b for a, b in zip(*pair, strict=True)) for pair in (right, right[::-1])]
    assert rows.startswith(
        f"rows    90 test rows: {only[1]} correct only in B, {only[0]} only in A"
    )
    assert re.fullmatch(r"cost    ([\d,]+) parameters against \1", cost)
    assert report([f"run={runs[1]}", "tracking=none"]) == 0
    told, place = capsys.readouterr().out.splitlines()
    model = r"table-evaluated: MLP, [\d,]+ parameters, classifies =ill against well"
    assert re.match(rf"{model}, evaluated: test F1 {f1[1]:.2f}", told)
    page = Path(place.split()[1]).read_text(encoding="utf-8")
    assert "No diagnosis: an evaluation trains nothing." in page
    assert "epoch" not in page.partition("How it was made")[0].rpartition("<main")[2]


def test_new_rows_are_encoded_as_in_training(evaluate: Evaluate) -> None:
    """The columns may have another order, and no row affects another."""
    header = ["outcome", "comment", "bmi", "city", "age", "patient"]
    rows = [[row[4], "x", row[3], row[2], row[1], row[0]] for row in new_data.patients(90, seed=5)]
    write_rows(Path("other.csv"), header, rows)
    run = evaluate.run("table", "data.path=other.csv")
    assert "90 rows of other.csv" in evaluate.out
    assert "ignored columns (not used in training): comment" in evaluate.out
    told = predictions(run)
    assert [row["target"].removeprefix("'") for row in told] == [row[0] for row in rows]
    f1 = sklearn_metrics.f1_score(
        [row["target"] for row in told], [row["predicted"] for row in told], pos_label="'=ill"
    )
    assert final_values(run)["test/f1"] == pytest.approx(f1, abs=1e-6)
    assert {"naive/f1", "linear/f1"} <= set(final_values(run))
    # One row by itself gets the same answer: nothing was fitted on the other ones.
    write_rows(Path("one.csv"), header, rows[:1])
    alone = predictions(evaluate.run("table", "data.path=one.csv", "verbose=0"))
    for key, value in told[0].items():
        if key.startswith("probability"):
            assert float(alone[0][key]) == pytest.approx(float(value), abs=1e-6)


def test_drifted_columns_and_absent_classes_are_reported(evaluate: Evaluate) -> None:
    rows = new_data.patients(150, seed=7)
    for number, row in enumerate(rows):
        row[1] = float(str(row[1])) + 25
        row[2] = "Oslo" if number < 6 else row[2]
    write_rows(Path("other.csv"), new_data.TABLE, rows)
    run = evaluate.run("table", "data.path=other.csv")
    age, city = artifact(run, "drift.json")
    assert age.startswith("age: mean 7")
    assert city == "city: 6 of 150 rows have a new category"
    for line in (age, city):
        assert line in evaluate.out
    write_rows(Path("well.csv"), new_data.TABLE, [row for row in rows if row[4] == "well"])
    evaluate.run("table", "data.path=well.csv")
    assert "warning: no evaluated rows of class =ill\n" in evaluate.out


def test_repeated_training_rows_are_counted(evaluate: Evaluate) -> None:
    lines = Path("table.csv").read_text(encoding="utf-8").splitlines()
    Path("again.csv").write_text("\n".join(lines[:61]) + "\n", encoding="utf-8")
    run = evaluate.run("table", "data.path=again.csv")
    count = artifact(run, "data_report.json")["repeated"]
    assert 20 < count < 60
    words = "evaluated rows have the inputs of a training row, so their results are optimistic"
    assert f"warning: {count} of 60 {words}\n" in evaluate.out
    write_rows(Path("one.csv"), new_data.TABLE, new_data.patients(1, seed=5))
    evaluate.run("table", "data.path=one.csv")
    assert "duplicate" not in evaluate.out


HEADER = " ".join(new_data.TABLE)


@pytest.mark.parametrize(
    ("header", "outcome", "words"),
    [
        (HEADER.replace("city", "town"), "ill", "lacks the column 'city'"),
        (HEADER.replace("outcome", "result"), "ill", "lacks the column 'outcome'"),
        (HEADER, "dead", "other.csv line 9, column 'outcome': 'dead' is not a class; expected "),
    ],
)
def test_unreadable_table_is_refused_with_its_place(
    evaluate: Evaluate, header: str, outcome: str, words: str
) -> None:
    rows = new_data.patients(20, seed=1)
    rows[7][4] = outcome
    write_rows(Path("other.csv"), header.split(), rows)
    (line,) = evaluate.problems("table", "data.path=other.csv")
    assert words in line


def test_other_data_are_read_like_the_training_data(evaluate: Evaluate) -> None:
    rows = [[month, float(str(value)) + 3] for month, value in new_data.months(60)]
    write_rows(Path("other.csv"), ("month", "sales"), rows)
    run = evaluate.run("series", "data.path=other.csv", "verbose=0")
    told = predictions(run)
    assert len(told) == 60 - 12 - 3 + 1  # the windows of the model
    assert float(told[0]["target 1"]) == pytest.approx(rows[12][1], abs=1e-3)
    assert final_values(run)["naive/rmse"] > 0
    new_data.write_pictures(Path("others"), 30, seed=3)
    assert len(predictions(evaluate.run("images", "data.path=others", "verbose=0"))) == 30
    inputs, classes = new_data.waves(45, seed=9)
    np.savez("others.npz", x=inputs, y=classes)
    run = evaluate.run("arrays", "data.path=others.npz", "verbose=0")
    assert len(predictions(run)) == 45
    assert final_values(run)["test/accuracy"] > 0.3


def test_data_changed_since_training_are_reported(evaluate: Evaluate) -> None:
    lines = Path("values.csv").read_text(encoding="utf-8").splitlines()
    Path("values.csv").unlink()
    lines[5] = "0.5,0.5,99.0"
    Path("values.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    evaluate.run("values")
    (note,) = [line for line in evaluate.out.splitlines() if "hash" in line]
    assert note.startswith("note: the run's data have changed since training: ")


def test_missing_training_rows_leave_out_baselines(evaluate: Evaluate) -> None:
    """A note says so."""
    Path("table.csv").unlink()
    write_rows(Path("other.csv"), new_data.TABLE, new_data.patients(40, seed=3))
    run = evaluate.run("table", "data.path=other.csv")
    assert not any(key.startswith(("naive/", "linear/", "trees/")) for key in final_values(run))
    assert "note: no baselines: the training rows of the model can't be read: " in evaluate.out
    (line,) = evaluate.problems("table")
    assert "table.csv" in line


def test_own_threshold_replaces_the_stored_one(evaluate: Evaluate) -> None:
    values = [
        final_values(evaluate.run("table", f"metrics.threshold={threshold}", "verbose=0"))
        for threshold in (0.01, 0.99)
    ]
    assert values[0]["test/recall"] > values[1]["test/recall"]
    assert values[0]["test/auroc"] == values[1]["test/auroc"]


def test_wrong_names_are_reported_before_wrong_values(evaluate: Evaluate) -> None:
    names = evaluate.problems("table", "data.pth=x", "trainer.thread=1", "splt=all")
    assert len(names) == 3
    assert names[0] == "data.pth is unknown. Did you mean 'data.path=x'?"
    values = evaluate.problems(
        "table", "split=tests", "data.scale=minmax", "metrics.threshold=recall_at_0.9", "verbose=7"
    )
    assert [line.partition("=")[0] for line in values] == [
        "split",
        "data.scale",
        "metrics.threshold",
        "verbose",
    ]
    assert "the model was trained with 'none'" in values[1] or "'standard'" in values[1]
    (reference,) = evaluate.problems("table", "verbose=${nope}")
    assert reference == "verbose=${nope} can't be resolved: there is no key 'nope'."


def test_unknown_model_is_refused(evaluate: Evaluate) -> None:
    """A model in a folder of any name is found."""
    for reference in ("12e45678", "nobody"):
        assert evaluate(f"model_from={reference}", f"output={evaluate.runs}") == 2
        assert evaluate.err.startswith(f"error: run '{reference}' is unknown below output=")
    assert evaluate("split=all") == 2
    assert evaluate.err.startswith("error: model_from=RUN is required: a run's ")
    assert not Path("runs").exists()
    place = Path("模型 a=b,c [d] #e %f 'g'")
    shutil.copytree(evaluate.model("values"), place)
    shutil.copytree(evaluate.model("values") / "model", "alone")
    for folder in (place, "alone"):
        code = evaluate(f"model_from={folder}", "tracking=none", "verbose=0")
        assert (code, evaluate.err) == (0, "")


def test_evaluation_is_child_run_of_its_model(own_folder: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, own_folder / "mlflow.db")
    words = ["model=mlp", "data=breast_cancer", "trainer.max_epochs=2", "register=tumours"]
    assert train([*words, "verbose=0"]) == 0
    client = MlflowClient(f"sqlite:///{own_folder}/mlflow.db")
    (experiment,) = [one for one in client.search_experiments() if one.name == "pipeline"]
    (model,) = client.search_runs([experiment.experiment_id])
    code = (
        "import sys; from pipeline.evaluate import main; code = main(sys.argv[1:]); "
        "sys.exit(code or 'mlflow' in sys.modules)"  # the recorder's process has it
    )
    assert child(code, f"model_from={model.info.run_id[:8]}", "verbose=0").returncode == 0
    # The last training is found behind the evaluation of it.
    assert main(["model_from=last", "verbose=0"]) == 0
    assert main(["model_from=models:/tumours@champion", "verbose=0"]) == 0
    runs = client.search_runs([experiment.experiment_id])
    made = [run for run in runs if run.info.run_id != model.info.run_id]
    assert [run.info.run_name for run in made] == ["mlp-breast_cancer-max_epochs2-evaluated"] * 3
    for run in made:
        assert run.data.tags["mlflow.parentRunId"] == model.info.run_id
        assert run.data.tags["evaluates"] == model.info.run_id
        assert run.data.tags["pipeline.command"] == "evaluate"
        assert run.info.status == "FINISHED"
        for key, value in model.data.metrics.items():
            if key.startswith(SCORED):
                assert run.data.metrics[key] == value, key
    names = {item.path for item in client.list_artifacts(made[0].info.run_id)}
    assert {"test_predictions.csv", "classes.csv", "data_report.json", "drift.json"} <= names
