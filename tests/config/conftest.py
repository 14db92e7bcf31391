from pathlib import Path

import pytest
from helpers.config_command import CommandLine


@pytest.fixture
def line(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(own_folder, capsys)
