"""Tables, texts and numbers: aligned, rounded, and escaped for LaTeX and Markdown."""

import pytest

from pipeline.base.markup import (
    TextTable,
    aligned,
    as_markdown,
    escaped,
    fenced,
    interval_text,
    latex,
    score_rows,
)
from pipeline.base.terminal import number, rounded, significant


def test_latex_escapes_all_special_characters() -> None:
    sheet = TextTable(
        title="50% & more", headings=["a_b", "c#"], lines=[["{x}~^\\", "$5 [−1, -2] 3–4"]]
    )
    text = latex(sheet)
    assert r"\caption{50\% \& more}" in text
    assert r"a\_b & c\# \\" in text
    assert r"\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{} & \$5" in text
    assert r"\$5 {[}$-$1, $-$2{]} 3--4 \\" in text


def test_markdown_escapes_all_special_characters() -> None:
    text = as_markdown(TextTable(title="t", headings=["a"], lines=[["x|y*z`<b>\n2"]]))
    assert r"| x\|y\*z\`&lt;b&gt; 2 |" in text


def test_underscores_within_words_are_not_escaped() -> None:
    assert escaped("best_f1 _a_ b__c __d__ e_") == r"best_f1 \_a\_ b\_\_c \_\_d\_\_ e\_"


def test_numbers_in_sentences_are_rounded_plainly() -> None:
    """Exponents have no leading zero."""
    shown = {0.00016: "0.00016", 847.0: "850", 8449.0: "8,400", 2e13: "2e13", 3e-7: "3e-7", 0: "0"}
    assert {value: significant(value) for value in shown} == shown
    assert [number(value) for value in (0.00016, 3e-7, 0.0)] == ["0.00016", "3e-7", "0.0000"]


def test_rounded_interval_end_keeps_its_sign() -> None:
    """A score that rounds to zero has no minus sign."""
    shown = {
        (-0.00016, 0.1): "-0.0002 to 0.10",
        (0.00016, 0.12): "0.0002–0.12",
        (-0.12, -0.0004): "-0.12 to -0.0004",
        (0.0, 0.1): "0.00–0.10",
        (-1e-17, 0.1): "0.00 to 0.10",
        (-0.02, 0.1): "-0.02 to 0.10",
    }
    assert {ends: interval_text(ends) for ends in shown} == shown
    values = {"test/r2": 0.5, "naive/r2": -0.0011, "linear/r2": -0.2}
    rows = score_rows(values, {"r2": (0.4, 0.6)}, ["r2"], ["naive", "linear"])
    assert rows == [["r2", "0.50", "0.40–0.60", "0.00", "-0.20"]]
    assert [number(-0.0), rounded(-0.0)] == ["0.0000", "0.000"]


def test_columns_align_in_any_script() -> None:
    lines = aligned(
        TextTable(title="t", headings=["name", "n"], lines=[["数据", "1"], ["ab", "12"]])
    )
    assert lines[1:] == ["name   n", "数据   1", "ab    12"]


@pytest.mark.parametrize("text", ["a", "``` b", "````` c ```"])
def test_code_fence_survives_any_content(text: str) -> None:
    first, *inner, last = fenced(text, "sh").splitlines()
    assert "\n".join(inner) == text
    assert first == f"{last}sh"
    assert last not in text
