"""Pages of files in a headless Chromium: as they look, and what they ask for."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
PHONE, DESK = 360, 1200


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Start a browser that notes what its pages ask the network for, and end it."""
    driver_path = shutil.which("chromedriver")
    assert driver_path is not None, "install Debian's chromium and chromium-driver"
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """A few questions about a page.

    Args:
        driver: The browser.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, file: Path, *, width: int = DESK, dark: bool = False) -> None:
        """Show a file on a screen of a width, by day or by night."""
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._told("Emulation.setEmulatedMedia", features=[theme])
        self._told(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width == PHONE,
        )
        self._driver.get(file.absolute().as_uri())

    def asks(self, script: str) -> Any:
        """Return what an expression of JavaScript comes to in the page."""
        return self._driver.execute_script(f"return {script}")

    def clicks(self, selector: str) -> None:
        """Click the first element that a selector names."""
        self._driver.execute_script("document.querySelector(arguments[0]).click()", selector)

    def complaints(self) -> list[str]:
        """Return what the console has said since the last time."""
        return [str(entry["message"]) for entry in self._driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since the last time, but for the file's."""
        entries = [entry["message"] for entry in self._driver.get_log("performance")]
        sent = [one for one in entries if '"Network.requestWillBeSent"' in one]
        return [one for one in sent if '"url":"file:' not in one and '"url":"data:' not in one]

    def pdf(self) -> bytes:
        """Print the page."""
        return base64.b64decode(self._told("Page.printToPDF", printBackground=False)["data"])

    def _told(self, command: str, **parameters: Any) -> Any:
        return self._driver.execute_cdp_cmd(command, parameters)
