"""A module that makes something else of a signal that arrives while it is imported."""

from pathlib import Path
from time import sleep

try:
    Path("paused").touch()
    sleep(600)
except BaseException as error:
    raise AttributeError("half imported") from error
