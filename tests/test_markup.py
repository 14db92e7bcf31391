"""Tables, texts and numbers: aligned, rounded, and escaped for LaTeX and Markdown."""

import pytest

from pipeline.markup import TextTable, aligned, fenced, latex, markdown
from pipeline.terminal import number, significant


def test_no_sign_of_a_text_means_anything_to_latex() -> None:
    sheet = TextTable(
        title="50% & more", headings=["a_b", "c#"], lines=[["{x}~^\\", "$5 [−1, -2] 3–4"]]
    )
    text = latex(sheet)
    assert r"\caption{50\% \& more}" in text
    assert r"a\_b & c\# \\" in text
    assert r"\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{} & \$5" in text
    assert r"\$5 {[}$-$1, $-$2{]} 3--4 \\" in text


def test_no_sign_of_a_text_means_anything_to_markdown() -> None:
    text = markdown(TextTable(title="t", headings=["a"], lines=[["x|y*z`<b>\n2"]]))
    assert r"| x\|y\*z\`&lt;b> 2 |" in text


def test_numbers_in_sentences_are_written_without_zeros_in_exponents() -> None:
    shown = {0.00016: "0.00016", 847.0: "850", 8449.0: "8,400", 2e13: "2e13", 3e-7: "3e-7", 0: "0"}
    assert {value: significant(value) for value in shown} == shown
    assert [number(value) for value in (0.00016, 3e-7, 0.0)] == ["0.00016", "3e-7", "0.0000"]


def test_columns_stand_below_each_other_whatever_the_script() -> None:
    lines = aligned(
        TextTable(title="t", headings=["name", "n"], lines=[["数据", "1"], ["ab", "12"]])
    )
    assert lines[1:] == ["name   n", "数据   1", "ab    12"]


@pytest.mark.parametrize("text", ["a", "``` b", "````` c ```"])
def test_a_block_of_code_ends_where_it_should_whatever_it_holds(text: str) -> None:
    first, *inner, last = fenced(text, "sh").splitlines()
    assert "\n".join(inner) == text
    assert first == f"{last}sh"
    assert last not in text
