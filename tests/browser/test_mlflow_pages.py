"""What a person sees of runs and studies in MLflow's own pages, in a real browser."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.mlflow_pages import Pages, Trained, call
from helpers.chromium import SIZE, browser, mlflow_ui
from helpers.run_files import final_values

pytestmark = pytest.mark.slow

CURVE = "//*[contains(@class, 'scatterlayer')]//*[contains(@class, 'js-line')]"
NOTE = "//*[@data-testid='note-editor-preview-content']"
SCRIPT = "<img src=x onerror=\"document.title='hacked'\">"
CLASSES = (f"{SCRIPT}|`a`", "*b* [c](d) $5 @e :smile: 文字")
"""Names that would do harm or break a table where they are not escaped."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A CNN, a study, and a table whose classes have nasty names."""
    folder = tmp_path_factory.mktemp("browser")
    with (folder / "nasty.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(number, number % 7, CLASSES[number % 2]) for number in range(80)]
        csv.writer(file).writerows([("a", "b", "kind"), *rows])
    call(folder, "train", "model=cnn2d", "data=digits", "trainer.max_epochs=4", "pictures=true",
         "name=digits_cnn", "register=digits")  # fmt: skip
    call(folder, "train", "model=mlp", "data=table", "data.path=nasty.csv", "data.target=kind",
         "trainer.max_epochs=2", "pictures=true", "name=nasty")  # fmt: skip
    call(folder, "sweep", "model=mlp", "data=iris", "sweep.name=iris_search", "sweep.n_trials=5",
         "sweep.workers=1", "sweep.pruner=none", "trainer.max_epochs=3",
         "optimizer.lr=tag(log, interval(1e-3, 1e-1))",
         "model.hidden=choice([16],[32,16])")  # fmt: skip
    return Trained(folder)


@pytest.fixture(scope="module")
def pages(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """MLflow's pages of what was trained, in a browser, of a server that takes files as well."""
    profile, shots = (tmp_path_factory.mktemp(name) for name in ("profile", "shots"))
    options = ("--artifacts-destination", "kept")
    with mlflow_ui(trained.folder, *options) as address, browser(profile) as driver:
        yield Pages(driver, address, shots)


def unfold_note(pages: Pages) -> None:
    pages.click("//button[@aria-label='Expand description']")


def test_run_is_found_by_name_with_its_result(pages: Pages, trained: Trained) -> None:
    pages.open(trained.table("iris_search"))
    pages.until("the study", lambda: "iris_search" in pages.runs())
    assert pages.runs() == ["iris_search", "nasty", "digits_cnn"]  # the trials are folded
    pages.search("attributes.run_name LIKE '%cnn%'")
    pages.until("the run alone", lambda: pages.runs() == ["digits_cnn"])
    pages.click(f"{pages.row('digits_cnn')}//a")
    f1 = f"{final_values(trained.run('digits_cnn'))['test/f1']:.3f}"
    pages.says("digits_cnn", "Description", f"test F1 {f1}")


def test_run_note_shows_scores_and_pictures(pages: Pages, trained: Trained) -> None:
    pages.open(trained.page("digits_cnn"))
    unfold_note(pages)
    values = final_values(trained.run("digits_cnn"))
    cells = pages.until("the table", lambda: [one.text for one in pages.all(f"{NOTE}//td")])
    for row, metric in enumerate(("accuracy", "precision", "recall", "f1", "auroc")):
        name, *shown = (cells[5 * row + column].strip() for column in (0, 1, 3, 4))
        figures = [values[f"{kind}/{metric}"] for kind in ("test", "naive", "linear")]
        assert name == metric
        assert [*map(float, shown)] == pytest.approx(figures, abs=6e-4)
    widths = pages.pictures(f"{NOTE}//img")
    assert len(widths) >= 3
    assert min(widths) > 300
    assert "pipeline train model=cnn2d data=digits" in pages.one(NOTE).text
    # Its links open the pictures among the artifacts.
    link = pages.one(f"{NOTE}//a[contains(@href, 'curves/metrics.png')]")
    pages.open(str(link.get_attribute("href")).partition("#")[2])
    pages.says("pictures/curves/metrics.png", "classes", "curves", "card.md", "report.html")
    assert pages.pictures("//img[@alt='pictures/curves/metrics.png']")[0] > 300


def test_printed_link_shows_scores_settings_and_verdicts(pages: Pages, trained: Trained) -> None:
    pages.driver.set_window_size(1600, SIZE[1])
    pages.open(trained.table("digits_cnn"))
    pages.says("You're viewing a shared view", "digits (", "nasty (", "healthy")
    cells = sorted(pages.all("//*[@role='columnheader']"), key=lambda one: one.location["x"])
    heads = dict.fromkeys(one.text.strip() for one in cells)
    wanted = ["best/val/f1", "val/f1", "test/f1", "linear/f1", "optimizer.lr", "doctor", "Dataset"]
    assert [one for one in heads if one in wanted] == wanted
    pages.driver.set_window_size(*SIZE)


def test_charts_show_curves_and_fold_single_values(pages: Pages, trained: Trained) -> None:
    pages.open(f"{trained.table('digits_cnn')}&compareRunsMode=CHART")
    pages.until("two curves", lambda: len(pages.all(CURVE)) >= 2)
    pages.says("val\n(6)", "train\n(1)", "best/val\n(6)")
    text = pages.text()
    assert text.index("\nval\n(6)") < text.index("train\n(1)") < text.index("best/val\n(6)")
    assert "best/val/f1" not in text


def test_study_unfolds_sorts_and_compares_trials(pages: Pages, trained: Trained) -> None:
    pages.open(trained.table("iris_search"))
    pages.click(f"{pages.row('iris_search')}//button")
    trials = {f"iris_search-{n}" for n in range(5)}
    pages.until("the trials", lambda: trials <= set(pages.runs()))
    pages.search("attributes.run_name LIKE 'iris_search-%'")
    pages.sort("best/val/f1")
    with (trained.run("iris_search") / "artifacts" / "trials.csv").open() as file:
        values = {
            f"iris_search-{row['trial']}": float(row["val/f1"]) for row in csv.DictReader(file)
        }
    best_first = sorted(values.values(), reverse=True)
    pages.until("the order", lambda: [values.get(one) for one in pages.runs()] == best_first)
    for trial in pages.runs()[:3]:
        pages.click(f"{pages.row(trial)}//input[contains(@aria-label, 'row selection')]")
    pages.click("//button[contains(., 'Compare')]")
    pages.says("Comparing 3 Runs", "Parallel Coordinates Plot", "optimizer.lr")
    pages.until("lines", lambda: pages.all("//*[contains(@class, 'parcoords')]"))


def test_study_note_names_best_trial_and_command(pages: Pages, trained: Trained) -> None:
    pages.open(trained.page("iris_search"))
    pages.says("5 trials: 5 complete", "best trial ", "pipeline train model=mlp")
    unfold_note(pages)
    assert min(pages.pictures(f"{NOTE}//img")) > 300


def test_hostile_names_are_shown_literally(pages: Pages, trained: Trained) -> None:
    pages.open(trained.page("nasty"))
    pages.says(*CLASSES)
    unfold_note(pages)
    pages.pictures(f"{NOTE}//img")
    assert "hacked" not in str(pages.driver.execute_script("return document.title"))


def test_server_with_artifact_proxy_shows_pictures(
    pages: Pages, trained: Trained, tmp_path: Path
) -> None:
    words = ("tracking=server", f"tracking.uri={pages.address}", "tracking.experiment=far")
    call(tmp_path, "train", "model=mlp", "data=iris", "trainer.max_epochs=2", "pictures=true",
         "name=far", *words)  # fmt: skip
    assert list(trained.folder.glob("kept/**/pictures/curves/loss.png"))
    pages.open(Trained(tmp_path).page("far"))
    unfold_note(pages)
    assert min(pages.pictures(f"{NOTE}//img")) > 300
