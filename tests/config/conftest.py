from pathlib import Path

import pytest
from command_line import CommandLine


@pytest.fixture
def line(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(own_folder, capsys)
