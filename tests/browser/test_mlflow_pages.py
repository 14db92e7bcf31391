"""What a person sees of runs and studies in MLflow's own pages, in a real browser."""

import csv
from pathlib import Path

import pytest
from mlflow_pages import Pages
from real_browser import browser, mlflow_ui
from records import final_values
from trained_runs import CLASSES, Trained, call

pytestmark = pytest.mark.slow

CURVE = "//*[contains(@class, 'scatterlayer')]//*[contains(@class, 'js-line')]"
NOTE = "//*[@data-testid='note-editor-preview-content']"


def unfold_note(pages: Pages) -> None:
    pages.click("//button[@aria-label='Expand description']")


def test_a_person_finds_a_run_by_its_name_and_reads_what_it_came_to(
    pages: Pages, trained: Trained
) -> None:
    pages.open(trained.table("iris_search"))
    pages.until("the study", lambda: "iris_search" in pages.runs())
    assert pages.runs() == ["iris_search", "nasty", "digits_cnn"]  # the trials are folded
    pages.shoot("runs")
    pages.search("attributes.run_name LIKE '%cnn%'")
    pages.until("the run alone", lambda: pages.runs() == ["digits_cnn"])
    pages.click(f"{pages.row('digits_cnn')}//a")
    f1 = f"{final_values(trained.run('digits_cnn'))['test/f1']:.4f}"
    pages.says("digits_cnn", "Description", f"test f1 {f1}")
    pages.shoot("run")


def test_the_note_of_a_run_has_its_figures_and_shows_its_pictures(
    pages: Pages, trained: Trained
) -> None:
    pages.open(trained.page("digits_cnn"))
    unfold_note(pages)
    values = final_values(trained.run("digits_cnn"))
    cells = pages.until("the table", lambda: [one.text for one in pages.all(f"{NOTE}//td")])
    for row, metric in enumerate(("accuracy", "precision", "recall", "f1", "auroc")):
        line = cells[5 * row : 5 * row + 5]
        assert line[0].strip() == metric
        assert line[1].strip() == f"{values[f'test/{metric}']:.4f}"
        assert line[3].strip() == f"{values[f'naive/{metric}']:.4f}"
        assert line[4].strip() == f"{values[f'linear/{metric}']:.4f}"
    widths = pages.until("the pictures", lambda: loaded(pages))
    assert len(widths) >= 3
    assert min(widths) > 300
    assert "python -m pipeline.train model=cnn2d data=digits" in pages.one(NOTE).text
    pages.shoot("run_note")
    pages.scroll_to(f"{NOTE}//img")
    pages.shoot("run_note_pictures")


def loaded(pages: Pages) -> list[int]:
    """The widths of the note's pictures, nothing before all have come."""
    widths = pages.pictures(f"{NOTE}//img")
    return widths if widths and all(widths) else []


def test_a_link_of_the_note_opens_the_picture_among_the_artifacts(
    pages: Pages, trained: Trained
) -> None:
    pages.open(trained.page("digits_cnn"))
    unfold_note(pages)
    link = pages.one(f"{NOTE}//a[contains(@href, 'curves/metrics.png')]")
    pages.open(str(link.get_attribute("href")).partition("#")[2])
    pages.says("pictures/curves/metrics.png")
    picture = "//img[@alt='pictures/curves/metrics.png']"
    assert pages.until("the picture", lambda: max(pages.pictures(picture), default=0)) > 300
    pages.says("classes", "curves", "card.md", "data_report.md")
    pages.shoot("artifacts")


def test_parameters_and_metrics_are_listed_the_telling_ones_first(
    pages: Pages, trained: Trained
) -> None:
    pages.open(trained.page("digits_cnn"))
    pages.says("Parameters (", "Metrics (", "Registered models", "digits")
    values = final_values(trained.run("digits_cnn"))
    pages.says("model._target_", "pipeline.networks.convolution.CNN2d")
    for name in ("train/loss", "val/f1", "test/f1", "naive/f1"):
        pages.type_into("Search metrics", name)
        pages.says(str(values[name])[:8])
    tags = pages.text().partition("Tags")[2].partition("Registered models")[0]
    assert "doctor" in tags
    assert "lease" not in tags
    pages.scroll_to("//*[contains(text(), 'Parameters (')]")
    pages.shoot("run_parameters")


def test_the_charts_show_the_curves_of_a_run(pages: Pages, trained: Trained) -> None:
    pages.open(trained.page("digits_cnn", "/model-metrics"))
    pages.says("(best/epoch)")
    pages.type_into("Search metric charts", "^(train|val)/loss")
    pages.until("these alone", lambda: "(best/epoch)" not in pages.text())
    pages.until("two curves", lambda: len(pages.all(CURVE)) >= 2)
    pages.shoot("run_charts")


def test_a_study_unfolds_sorts_by_its_objective_and_compares_three_trials(
    pages: Pages, trained: Trained
) -> None:
    pages.open(trained.table("iris_search"))
    pages.click(f"{pages.row('iris_search')}//button")
    trials = [f"iris_search-{n}" for n in range(5)]
    pages.until("the trials", lambda: set(trials) <= set(pages.runs()))
    pages.shoot("study_unfolded")
    pages.search("attributes.run_name LIKE 'iris_search-%'")
    pages.sort("best/val/f1")
    with (trained.run("iris_search") / "artifacts" / "trials.csv").open() as file:
        values = {row["trial"]: float(row["val/f1"]) for row in csv.DictReader(file)}
    best_first = sorted(values.values(), reverse=True)
    pages.until("the order", lambda: [values.get(n) for n in numbers(pages.runs())] == best_first)
    pages.shoot("study_sorted")
    for trial in pages.runs()[:3]:
        pages.click(f"{pages.row(trial)}//input[contains(@aria-label, 'row selection')]")
    pages.click("//button[contains(., 'Compare')]")
    pages.says("Comparing 3 Runs", "Parallel Coordinates Plot", "optimizer.lr")
    pages.until("lines", lambda: pages.all("//*[contains(@class, 'parcoords')]"))
    pages.shoot("compared")


def numbers(trials: list[str]) -> list[str]:
    return [name.rpartition("-")[2] for name in trials]


def test_the_note_of_a_study_names_its_best_trial_and_the_winners_command(
    pages: Pages, trained: Trained
) -> None:
    pages.open(trained.page("iris_search"))
    pages.says("5 trials: 5 complete", "the winner is trial", "python -m pipeline.train model=mlp")
    unfold_note(pages)
    assert min(pages.until("the pictures", lambda: loaded(pages))) > 300
    pages.shoot("study")


def test_the_registered_model_shows_its_signature(pages: Pages, trained: Trained) -> None:
    pages.open(trained.page("digits_cnn"))
    place = str(pages.one("//a[contains(@href, '/models/digits')]").get_attribute("href"))
    pages.open(place.partition("#")[2])  # a click opens it in a new tab
    pages.says("Version 1", "champion", "digits_cnn", "digits version 1 is registered")
    for part in ("Inputs", "Outputs"):
        title = f"//*[starts-with(normalize-space(text()), '{part} (')]"
        pages.click(f"{title}/ancestor::*[@role='row']//*[contains(@class, 'anticon')]")
    pages.says("prediction")
    pages.shoot("registered_model")


def test_names_that_would_break_a_page_are_shown_as_they_stand(
    pages: Pages, trained: Trained
) -> None:
    pages.open(trained.page("nasty"))
    for name in CLASSES:
        pages.says(name)
    unfold_note(pages)
    pages.until("the pictures", lambda: loaded(pages))
    assert not pages.alerted()
    pages.shoot("nasty_names")


def test_a_server_that_hands_files_on_shows_the_pictures_too(tmp_path: Path) -> None:
    options = ("--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", "kept")
    with mlflow_ui(tmp_path, *options, command="server") as address:
        words = ("tracking=server", f"tracking.uri={address}", "name=far", "pictures=true")
        call(tmp_path, "train", "model=mlp", "data=iris", "trainer.max_epochs=2", *words)
        assert list(tmp_path.glob("kept/**/pictures/curves/loss.png"))
        with browser(tmp_path / "profile") as driver:
            pages = Pages(driver, address, [])
            pages.open(Trained(tmp_path).page("far"))
            unfold_note(pages)
            assert min(pages.until("the pictures", lambda: loaded(pages))) > 300
