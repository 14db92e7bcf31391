"""MLflow's pages in a real browser, driven as a person would drive them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

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


class Pages:
    """MLflow's pages, as a person sees and uses them.

    Args:
        driver: The browser.
        address: Where the pages are.
        shots: Folders that take a picture of each page that is looked at.
    """

    def __init__(self, driver: "Chrome", address: str, shots: Sequence[Path]) -> None:
        self._driver = driver
        self._address = address
        self._shots = shots
        driver.get(address)
        for key, value in CLOSED.items():
            driver.execute_script("localStorage.setItem(arguments[0], arguments[1])", key, value)

    def open(self, place: str) -> None:
        """Open a page by what stands behind the `#` of its address, as if for the first time."""
        self._driver.execute_script(FORGET)
        self._driver.get("about:blank")  # a changed `#` alone would keep what was typed
        self._driver.get(f"{self._address}/#{place}")

    def shoot(self, name: str) -> None:
        """Keep a picture of what is seen."""
        for folder in self._shots:
            folder.mkdir(parents=True, exist_ok=True)
            self._driver.save_screenshot(str(folder / f"{name}.png"))

    def until(self, what: str, found: Callable[[], _Found]) -> _Found:
        """Wait until something is there, and return it.

        Args:
            what: What is waited for, for the message if it does not come.
            found: Looks for it; what is false is not there yet.
        """
        from selenium.common import exceptions
        from selenium.webdriver.support.ui import WebDriverWait

        again = (
            exceptions.ElementNotInteractableException,
            exceptions.NoSuchElementException,
            exceptions.StaleElementReferenceException,
        )
        wait = WebDriverWait(self._driver, SECONDS, poll_frequency=0.1, ignored_exceptions=again)
        try:
            return wait.until(lambda _: found())
        except exceptions.TimeoutException as error:
            self.shoot("missing")
            raise AssertionError(f"{what} did not appear in\n{self.text()}") from error

    def one(self, xpath: str) -> "WebElement":
        """Return the first thing at a place of the page, once it is there and can be seen."""
        return self.until(xpath, lambda: self._shown(xpath))

    def all(self, xpath: str) -> "list[WebElement]":
        """Return all things at a place of the page that are there by now."""
        return self._driver.find_elements("xpath", xpath)

    def click(self, xpath: str) -> None:
        """Click at the first thing at a place."""

        def clicked() -> bool:
            self._driver.find_element("xpath", xpath).click()
            return True

        self.until(xpath, clicked)

    def text(self) -> str:
        """Return all text that the page shows."""
        return str(self._driver.execute_script("return document.body.innerText"))

    def says(self, *words: str) -> None:
        """Wait until the page shows these words."""
        for one in words:
            self.until(repr(one), lambda one=one: one in self.text())

    def search(self, condition: str) -> None:
        """Type a condition into the search field of the table of runs."""
        self._type("//*[@data-testid='search-box']", condition + ENTER)

    def type_into(self, field: str, text: str) -> None:
        """Type a text into the field that has these words in it while it is empty."""
        self._type(f"//input[@placeholder='{field}']", text)

    def sort(self, column: str) -> None:
        """Sort the table of runs by a column, the largest first; that shows the column too."""
        self.click("//*[@data-testid='sort-select-dropdown']")
        self.click(f"//*[@data-testid='sort-select-{column}']")
        self._driver.switch_to.active_element.send_keys(ESCAPE)

    def runs(self) -> list[str]:
        """Return the names in the table of runs, from the top."""
        script = (
            f"return [...document.querySelectorAll('.{OF_RUNS} .ag-row')]"
            ".sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index'))"
            ".map(row => row.querySelector('a').innerText)"
        )
        return [str(name) for name in self._driver.execute_script(script)]

    def row(self, run: str) -> str:
        """Return the place of a run's name in the table of runs."""
        name = f"[.//a[normalize-space()='{run}']]"
        return f"//*[contains(@class, '{OF_RUNS}')]//*[@role='row']{name}"

    def pictures(self, xpath: str) -> list[int]:
        """Return the own width of each picture at a place, 0 for one that is not loaded by now."""
        script = "return arguments[0].complete ? arguments[0].naturalWidth : 0"
        return [int(self._driver.execute_script(script, one)) for one in self.all(xpath)]

    def alerted(self) -> bool:
        """Tell whether a script of somebody's has run: it would have set `document.title`."""
        return "hacked" in str(self._driver.execute_script("return document.title"))

    def scroll_to(self, xpath: str) -> None:
        """Bring something to the top of what is seen."""
        script = "arguments[0].scrollIntoView({block: 'start'})"
        self._driver.execute_script(script, self.one(xpath))

    def _type(self, xpath: str, text: str) -> None:
        field = self.one(xpath)
        field.send_keys(CONTROL, "a")
        field.send_keys(text)

    def _shown(self, xpath: str) -> "WebElement | None":
        found = self._driver.find_element("xpath", xpath)
        return found if found.is_displayed() else None
