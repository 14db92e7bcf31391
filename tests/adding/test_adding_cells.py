"""A kind of cells is added to a copy of the program as docs/architecture.md says."""

from pathlib import Path

import pytest
from adding.program_copy import ProgramCopy

CLOCK = '''\
"""Times of the day such as 07:30, read as minutes."""

import re
from dataclasses import dataclass

import numpy as np

from pipeline.data.parsing.cells.kind import CellKind, Grammar
from pipeline.data.parsing.cells.texts import shown

CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock(Grammar):
    """Minutes since midnight."""

    def read(self, cells):
        texts, places = cells.present().encoded()
        minutes = []
        for position, text in enumerate(texts):
            clock = CLOCK.fullmatch(text or "")
            if text is not None and clock is None:
                problem = f"{shown(text)} is not a time of the day; write 07:30"
                raise cells.fault(places == position, problem)
            minutes.append(60 * int(clock[1]) + int(clock[2]) if clock else np.nan)
        return np.array(minutes)[places]

    def write(self, values):
        return None if np.isnan(values[0]) else f"{values[0] // 60:02.0f}:{values[0] % 60:02.0f}"


def fits(column):
    is_clock = column.is_words and all(map(CLOCK.fullmatch, column.texts))
    return [Clock()] if is_clock else None


KIND = CellKind(name="clock", rank=75, fits=fits, grammar=Clock)
'''
LINES = ["at,y", *(f"{row % 24:02d}:{row * 7 % 60:02d},{'yn'[row % 24 > 11]}" for row in range(90))]


@pytest.mark.slow
def test_kind_of_cells_is_added_by_one_file(tmp_path: Path) -> None:
    program = ProgramCopy(tmp_path / "copy")
    (program.folder / "rows.csv").write_text("\n".join(LINES), encoding="utf-8")
    (program.folder / "bad.csv").write_text("at\n7:30\nnoon\n", encoding="utf-8")
    program.add("data/parsing/cells/kinds/clock.py", CLOCK)
    assert "1 column · " in program.printed(
        "pipeline.train model=mlp data=table data.path=rows.csv tracking=none trainer.max_epochs=1"
    )
    assert "'noon' is not a time of the day; write 07:30" in program.printed(
        "pipeline.predict model_from=last input=bad.csv"
    )
    example = next(program.folder.glob("runs/*/model/example.json"))
    assert "at" in example.read_text(encoding="utf-8")
