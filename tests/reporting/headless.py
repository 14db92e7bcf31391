"""Pages of files in a headless Chromium: as they look, and what they ask for."""

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PHONE, DESK = 360, 1200
SENT = "performance"
"""The log that has the requests."""


class Browser:
    """A few questions about a page.

    Args:
        driver: The browser, with logs.
    """

    def __init__(self, driver: "Chrome") -> None:
        self._driver = driver

    def open(self, file: Path, *, width: int = DESK, dark: bool = False) -> None:
        """Show a file on a screen of a width, by day or by night."""
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self._told("Emulation.setEmulatedMedia", features=[theme])
        self._told("Emulation.setDeviceMetricsOverride", **screen)
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
        """Return what pages of files have asked for since the last time, but for files."""
        entries = [json.loads(one["message"])["message"] for one in self._driver.get_log(SENT)]
        sent = [one["params"] for one in entries if one["method"] == "Network.requestWillBeSent"]
        asked = [one["request"]["url"] for one in sent if one["documentURL"].startswith("file:")]
        return [address for address in asked if not address.startswith(("file:", "data:"))]

    def pdf(self) -> bytes:
        """Print the page."""
        return base64.b64decode(self._told("Page.printToPDF", printBackground=False)["data"])

    def _told(self, command: str, **parameters: Any) -> Any:
        return self._driver.execute_cdp_cmd(command, parameters)
