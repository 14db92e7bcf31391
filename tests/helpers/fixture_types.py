"""Types of what tests are given."""

from collections.abc import Callable
from pathlib import Path

import pytest

Train = Callable[..., int]
"""Runs a command line of `pipeline.train` and returns its exit code."""
Made = Callable[..., Path]
"""Runs one that works and returns the run's folder."""
Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
