"""Labels and titles with the signs of LaTeX, Markdown, CSV and terminals: shown as they are, never obeyed."""

import csv
import io
import json
import shutil
import subprocess
import unicodedata
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from experiments.table import TableError
from results.aggregate import Selection
from results.compute import ComputedTable, compute_table
from results.escaping import escape_csv, escape_latex, escape_markdown, one_line
from results.tables import FORMATS, Layout, format_table, write_table
from tests.fuzz.hammer import EFFORTS, SIGNS, hammer, mixgrid, tried
from tests.fuzz.test_words import DEMO
from tests.results.builders import EIGHTH, RowStub, TableStub, put_score, read
from trainer.storage import Storage

LATEX_SIGNS = r"\&%$#_{}~^<>|[]*\"'`-" + "±×≤–…†ßéłđαΩ中💥²€→ñ"
NASTY = (
    r"\input{/etc/passwd}",
    r"\\ \hline & x",
    "% a comment",
    "$x_1^2$ #1 {y} ~z",
    "<b>bold</b> &lt;i&gt; &amp;",
    "a | b || c",
    "=1+1",
    "+SUM(A1)",
    "-2",
    "@cmd",
    "a,b;c\t'd' \"e\"",
    "[red]rich[/] [/] [/nope]",
    "**a** _b_ `c` ~~d~~ ![e](f) [g](h) # i",
    "1. one",
    "- dash",
    "--- —– …",
    "ä ß é ł đ ø α Ω λ 中文 💥 ≤ ≥ ² € →",
    "x" * 60,
    "\\",
    "trailing \\",
)
texts = st.sampled_from(NASTY) | st.text(st.sampled_from(LATEX_SIGNS + "ab 1") | SIGNS, min_size=1, max_size=20)


def computed(storage: Storage, labels: tuple[str, ...], title: str = "A table") -> ComputedTable:
    """A table with such rows, of which the first has a number."""
    table = TableStub(rows=tuple(RowStub(label) for label in labels), fractions=(EIGHTH,), seeds=(0,), title=title)
    return compute_table(read(storage, table), table, Selection())


# --- latex --------------------------------------------------------------------------------------------------------


@EFFORTS
def test_no_text_is_a_command_of_latex(effort: int) -> None:
    own = ("\\textbackslash{}", "\\textasciitilde{}", "\\textasciicircum{}", "\\textless{}", "\\textgreater{}")

    def check(text: str) -> None:
        escaped = escape_latex(text)
        assert "\n" not in escaped
        assert escaped.count("{") - escaped.count("\\{") == escaped.count("}") - escaped.count("\\}")
        for word in own:
            escaped = escaped.replace(word, "")
        for sign in "&%_#":
            assert escaped.count(sign) == escaped.count(f"\\{sign}")
        assert "^^" not in escaped

    hammer(check, texts, examples=200, effort=effort)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
@pytest.mark.parametrize("form", ["latex", "latex-plain"])
def test_a_nasty_table_compiles_and_says_what_it_was_given(form: str, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "runs"))
    put_score(storage, NASTY[0], EIGHTH, 0, 0.5)
    text = format_table(computed(storage, NASTY, title=" ".join(NASTY)), form, Layout(standalone=True))
    done = compiled(text, tmp_path)
    assert done.returncode == 0, done.stdout[-800:]
    if shutil.which("pdftotext"):
        shown = subprocess.run(["pdftotext", "-layout", "table.pdf", "-"], cwd=tmp_path, capture_output=True, text=True)
        assert "input{/etc/passwd}" in shown.stdout
        assert "root:" not in shown.stdout


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_every_sign_that_can_be_typed_compiles(tmp_path: Path) -> None:
    blocks = ((0x20, 0x250), (0x370, 0x400), (0x2010, 0x2060), (0x20A0, 0x20C0), (0x2190, 0x2270), (0x4E00, 0x4E08))
    signs = [chr(code) for block in blocks for code in range(*block) if unicodedata.category(chr(code)) != "Cn"]
    body = "\n\n".join(f"{ord(sign):x}: a{escape_latex(sign)}a" for sign in signs)
    done = compiled(f"\\documentclass{{article}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n", tmp_path)
    assert done.returncode == 0, done.stdout[-800:]


def compiled(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What pdflatex says of a document."""
    write_table(text, folder / "table.tex")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)


# --- html -----------------------------------------------------------------------------------------------------------


@EFFORTS
def test_html_shows_any_text_as_it_is_and_makes_no_element_of_it(effort: int, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    plain = computed(storage, ("label",), "title")
    wanted = elements(format_table(plain, "html"))

    def check(label: str, title: str) -> None:
        line = replace(plain.lines[0], label=label)
        text = format_table(replace(plain, lines=(line,), title=title), "html")
        assert elements(text) == wanted
        assert one_line(label) in unescape(text)

    hammer(check, texts, texts, examples=100, effort=effort)


def elements(text: str) -> list[tuple[str, list[str]]]:
    """The tags of a page and the names of their attributes, in order."""
    found: list[tuple[str, list[str]]] = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, attrs: found.append((tag, [name for name, _ in attrs]))  # type: ignore[method-assign]
    reader.feed(text)
    reader.close()
    return found


# --- markdown -----------------------------------------------------------------------------------------------------

READER = MarkdownIt("commonmark").enable("table").enable("strikethrough")


@EFFORTS
def test_markdown_shows_any_text_as_it_is_and_in_its_cell(effort: int) -> None:
    def check(text: str) -> None:
        wanted = one_line(text)
        for document, cells in ((f"| h |\n| --- |\n| {escape_markdown(text)} |\n", 1), (escape_markdown(text), 0)):
            tokens = READER.parse(document)
            assert [token.type for token in tokens].count("td_open") == cells
            shown = [token for token in tokens if token.type == "inline"][cells:]
            children = [child for token in shown for child in token.children or []]
            assert {child.type for child in children} <= {"text", "text_special"}
            assert "".join(child.content for child in children) == wanted

    hammer(check, texts.filter(lambda text: bool(one_line(text).strip())), examples=200, effort=effort)


# --- csv ----------------------------------------------------------------------------------------------------------


@EFFORTS
def test_csv_gives_any_text_back_and_no_formula(effort: int) -> None:
    def check(text: str) -> None:
        assert escape_csv(text).removeprefix("'") == text.removeprefix("'")
        assert not escape_csv(text).startswith(("=", "+", "-", "@", "\t", "\r"))

    hammer(check, texts, examples=100, effort=effort)


@pytest.mark.parametrize("form", ["csv", "csv-long"])
def test_nasty_labels_stay_in_their_field(form: str, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    put_score(storage, NASTY[0], EIGHTH, 0, 0.5)
    lines = list(csv.reader(io.StringIO(format_table(computed(storage, NASTY), form))))
    assert {len(line) for line in lines} == {len(lines[0])}
    first = list(dict.fromkeys(line[0] for line in lines[1:]))
    assert first == [escape_csv(label) for label in NASTY]


# --- everything at once -------------------------------------------------------------------------------------------


@EFFORTS
def test_any_label_and_title_can_be_printed_in_every_format(effort: int, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    put_score(storage, "Supervised", EIGHTH, 0, 0.5)

    def check(labels: list[str], title: str) -> None:
        result = computed(storage, ("Supervised", *labels), title)
        for name in FORMATS:
            text = format_table(result, name)
            assert text.encode()
            assert "0.5" in text or "50.00" in text

    visible = texts.filter(str.isprintable)
    hammer(check, st.lists(visible, min_size=1, max_size=3, unique=True), visible, examples=15, effort=effort)


TABLE = """
import json
from fractions import Fraction
from pathlib import Path
from experiments.demo import DEMO
from experiments.table import Row, Table
from trainer.spec import Mix, Supervised
LABELS, TITLE = json.loads(Path(__file__).with_suffix(".json").read_text())
ROWS = tuple(Row(label, Supervised(), deviations=(("labeled_batch", 2 + n),)) for n, label in enumerate(LABELS))
NASTY = Table(name="nasty", title=TITLE, frame=DEMO.frame, rows=ROWS, fractions=(Fraction(1, 8),), seeds=(0,))
"""


@pytest.mark.parametrize("command", ["plan", "status", "table", "explain", "logs"])
def test_commands_show_nasty_labels_as_they_are(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    path = tmp_path / "nasty.py"
    path.write_text(TABLE)
    labels = [label for label in NASTY if label.isprintable()]
    (tmp_path / "nasty.json").write_text(json.dumps([labels, "[/x] [bold]title[/] \\"]))
    if command in ("explain", "logs"):
        for label in labels:
            told = mixgrid(command, "--storage", str(tmp_path / "runs"), "--", f"{path}:NASTY", f"{label}@1/8")
            assert (told.code, told.err) == (0, "")
            assert f"{label}@1/8#0" in told.out.replace("\n", "")
        return
    told = mixgrid(command, f"{path}:NASTY", "--storage", str(tmp_path / "runs"))
    assert (told.code, told.err) == (0, "")
    assert "[/x] [bold]title[/] \\" in told.out
    for label in labels:
        assert label in told.out


@EFFORTS
def test_a_label_or_title_that_cannot_be_seen_is_refused(effort: int) -> None:
    def check(text: str) -> None:
        row, refusal = tried(lambda: replace(DEMO.rows[0], label=text), TableError)
        is_visible = text.isprintable() and bool(text.strip()) and len(text) <= 200
        assert (row is not None) == is_visible, refusal
        table, refusal = tried(lambda: replace(DEMO, title=text), TableError)
        assert (table is not None) == is_visible, refusal

    invisible = st.sampled_from(["", " ", "\n", "a\nb", "\x1b[2J", "\u202e", "a\x00", "x" * 201, "\u2028"])
    hammer(check, invisible | texts | st.characters(), examples=80, effort=effort)
