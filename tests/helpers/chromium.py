"""MLflow's server and Chromium without a screen, each a process that ends with its test."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from faults.stores import free_port

from helpers.server_processes import start_mlflow, stop_server

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

SIZE = (1400, 900)
SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # for root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@contextmanager
def mlflow_ui(folder: Path, *options: str) -> Iterator[str]:
    """Run `mlflow ui` in the folder of `mlflow.db`, and give the address of its pages."""
    port = free_port()
    process = start_mlflow("ui", "--workers", "1", *options, port=port, folder=folder)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop_server(process)


@contextmanager
def browser(profile: Path, *, logs: bool = False) -> "Iterator[Chrome]":
    """Run Chromium without a screen.

    Args:
        profile: Empty folder for what it remembers.
        logs: Whether it notes what its pages say on the console and ask the network for.
    """
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = _program("chromium")
    switches = (*SWITCHES, f"--user-data-dir={profile}", "--window-size={},{}".format(*SIZE))
    for switch in switches:
        options.add_argument(switch)
    if logs:
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(_program("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: apt-get install chromium chromium-driver"
    return found
