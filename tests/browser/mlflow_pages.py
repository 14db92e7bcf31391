"""Runs and studies that are really trained, and MLflow's pages of them in a real browser."""

from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.tracking.fields import TRAINING_PAGES
from pipeline.tracking.folders import read_state
from pipeline.tracking.uri import where_to_look

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

SECONDS = 60
"""A page is waited for no longer than that."""
OF_RUNS = "ag-pinned-left-cols-container"
"""Class of the part of the table of runs that holds their names."""
CLOSED = {
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
}
"""What MLflow remembers of somebody who has closed its assistant."""
ENTER, ESCAPE, CONTROL = "\ue007", "\ue00c", "\ue009"
"""Keys, as WebDriver calls them."""
FORGET = """
Object.keys(localStorage).filter(key => key.startsWith("MLflowLocalStorage"))
  .forEach(key => localStorage.removeItem(key))
"""
"""Lets MLflow's pages forget how somebody has sorted and searched."""

_Found = TypeVar("_Found")


def call(folder: Path, command: str, *words: str) -> None:
    """Call a command of the program in a folder."""
    with chdir(folder):
        assert import_module(f"pipeline.{command}").main([*words, "verbose=0"]) == 0


@dataclass(frozen=True, slots=True)
class Trained:
    """Runs on record: `folder` holds `runs/`."""

    folder: Path

    def run(self, name: str) -> Path:
        """Return the folder of a run or study."""
        (found,) = (one for one in (self.folder / "runs").iterdir() if name in one.name)
        return Path(found)

    def page(self, name: str, tab: str = "") -> str:
        """Return the place of a run's page."""
        state = read_state(self.run(name))
        return f"/experiments/{state.experiment_id}/runs/{state.run_id}{tab}?{TRAINING_PAGES}"

    def table(self, name: str) -> str:
        """Return the place of the table of all runs of a run's experiment, as commands print it."""
        state = read_state(self.run(name))
        return where_to_look(state.uri, state.experiment_id)[-1].partition("#")[2]


class Pages:
    """MLflow's pages, as a person sees and uses them.

    Args:
        driver: The browser.
        address: Where the pages are.
        shots: Folder for pictures of pages.
    """

    def __init__(self, driver: "Chrome", address: str, shots: Path) -> None:
        self.driver = driver
        self.address = address
        self._shots = shots
        driver.get(address)
        for key, value in CLOSED.items():
            driver.execute_script("localStorage.setItem(arguments[0], arguments[1])", key, value)

    def open(self, place: str) -> None:
        """Open a page by what stands behind the `#` of its address, as if for the first time."""
        self.driver.execute_script(FORGET)
        self.driver.get("about:blank")  # a changed `#` alone would keep what was typed
        self.driver.get(f"{self.address}/#{place}")

    def shoot(self, name: str) -> Path:
        """Keep a picture of what is seen, and return its file."""
        file = self._shots / f"{name}.png"
        self.driver.save_screenshot(str(file))
        return file

    def until(self, what: str, found: Callable[[], _Found | None]) -> _Found:
        """Wait until `found` returns something true, and return it; `what` is for the message."""
        from selenium.common import exceptions
        from selenium.webdriver.support.ui import WebDriverWait

        again = (
            exceptions.ElementNotInteractableException,
            exceptions.NoSuchElementException,
            exceptions.StaleElementReferenceException,
        )
        wait = WebDriverWait(self.driver, SECONDS, poll_frequency=0.1, ignored_exceptions=again)
        try:
            return wait.until(lambda _: found() or False)
        except exceptions.TimeoutException as error:
            shown = f"{self.text()}\n{self.shoot('missing')}"
            raise AssertionError(f"{what} did not appear in\n{shown}") from error

    def one(self, xpath: str) -> "WebElement":
        """Return the first thing at a place of the page, once it is there and can be seen."""

        def shown() -> "WebElement | None":
            found = self.driver.find_element("xpath", xpath)
            return found if found.is_displayed() else None

        return self.until(xpath, shown)

    def all(self, xpath: str) -> "list[WebElement]":
        """Return all things at a place of the page that are there by now."""
        return self.driver.find_elements("xpath", xpath)

    def click(self, xpath: str) -> None:
        """Click at the first thing at a place."""

        def is_clicked() -> bool:
            self.driver.find_element("xpath", xpath).click()
            return True

        self.until(xpath, is_clicked)

    def text(self) -> str:
        """Return all text that the page shows."""
        return str(self.driver.execute_script("return document.body.innerText"))

    def says(self, *words: str) -> None:
        """Wait until the page shows these words."""

        def are_shown() -> bool:
            text = self.text()
            return all(word in text for word in words)

        self.until(str(words), are_shown)

    def search(self, condition: str) -> None:
        """Replace what stands in the search field of the table of runs."""
        found = self.one("//*[@data-testid='search-box']")
        found.send_keys(CONTROL, "a")
        found.send_keys(condition + ENTER)

    def sort(self, column: str) -> None:
        """Sort the table of runs by a column, the largest first; that shows the column too."""
        self.click("//*[@data-testid='sort-select-dropdown']")
        self.click(f"//*[@data-testid='sort-select-{column}']")
        self.driver.switch_to.active_element.send_keys(ESCAPE)

    def runs(self) -> list[str]:
        """Return the names in the table of runs, from the top."""
        script = (
            f"return [...document.querySelectorAll('.{OF_RUNS} .ag-row')]"
            ".sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index'))"
            ".map(row => row.querySelector('a').innerText)"
        )
        return [str(name) for name in self.driver.execute_script(script)]

    def row(self, run: str) -> str:
        """Return the place of a run's name in the table of runs."""
        name = f"[.//a[normalize-space()='{run}']]"
        return f"//*[contains(@class, '{OF_RUNS}')]//*[@role='row']{name}"

    def pictures(self, xpath: str) -> list[int]:
        """Wait for pictures at a place, and return the own width of each."""
        script = "return arguments[0].complete ? arguments[0].naturalWidth : 0"

        def loaded() -> list[int]:
            widths = [int(self.driver.execute_script(script, one)) for one in self.all(xpath)]
            return widths if widths and all(widths) else []

        return self.until(f"the pictures {xpath}", loaded)
