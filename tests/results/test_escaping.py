"""Hostile text in LaTeX and Markdown; tests/fuzz/test_text.py looks for what nobody thought of."""

from results.escaping import escape_csv, escape_latex, escape_markdown, one_line
from tests.results.holes import HOSTILE


def test_hostile_text_is_escaped_for_latex():
    assert escape_latex(HOSTILE) == (
        r"{[}50\%{]}{*} \& a\_b \#1 \$x\$ \{y\} \textasciitilde{}\textasciicircum{}\textbackslash{} "
        r"next\textbar{}\textless{}b\textgreater{}line\textless{}/b\textgreater{}"
    )
    assert escape_latex("a--b\x00\u2028c ± – −") == r"a-{}-b c $\pm$ \textendash{} $-$"


def test_hostile_text_stays_in_its_markdown_cell():
    assert escape_markdown("a|b\n*c*") == r"a\|b \*c\*"


def test_no_spreadsheet_computes_a_label():
    assert escape_csv("=1+1") == "'=1+1"


def test_one_line_is_one_line_of_what_can_be_seen():
    assert one_line(" a\x00\n\tb\u2029") == "a b"
