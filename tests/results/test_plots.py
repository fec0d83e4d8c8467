"""What is drawn on the axes of each plot, and that two rows can be told apart without colour."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from results.plot_output import Plot, plot_files
from results.plot_style import fraction_look, row_look, variables
from results.plots import plots_of
from tests.results.builders import EIGHTH, RowStub, TableStub, put_done, spec_of
from tests.results.report.small_report import TABLE, computed, curves, fill
from trainer.storage import Storage

ROOT = Path(__file__).parents[2]


@pytest.fixture
def storage(tmp_path) -> Storage:
    filled = Storage(str(tmp_path))
    fill(filled)
    return filled


@pytest.fixture
def plots(storage: Storage) -> dict[str, Plot]:
    return {plot.name: plot for plot in plots_of(*computed(storage), curves())}


def drawn(plot: Plot, number: int = 0) -> Axes:
    axes = Figure(layout="constrained").subplots()
    plot.panels[number].draw(axes)
    return axes


def bars(axes: Axes) -> Iterator[tuple[float, float]]:
    """Lower and upper end of every error bar."""
    for container in axes.containers:
        assert isinstance(container, ErrorbarContainer)
        for (_, low), (_, high) in container.lines[2][0].get_segments():
            yield low, high


def test_every_plot_of_a_whole_table_is_there(plots: dict[str, Plot]) -> None:
    names = ["miou-by-fraction", "learning-curves", "confidence-and-masks", "class-iou", "class-gain"]
    assert list(plots) == names


def test_an_empty_storage_gives_no_plot(tmp_path) -> None:
    assert plots_of(*computed(Storage(str(tmp_path))), curves().iloc[:0]) != ()  # published values alone
    alone = TableStub(**{**TABLE.__dict__, "published": None})
    assert plots_of(*computed(Storage(str(tmp_path)), alone), curves().iloc[:0]) == ()


def test_the_axis_of_label_fractions_is_logarithmic_with_a_tick_at_each(plots: dict[str, Plot]) -> None:
    axes = drawn(plots["miou-by-fraction"])
    assert axes.get_xscale() == "log"
    assert list(axes.get_xticks()) == [0.125, 0.25]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1/8\n(30)", "1/4\n(60)"]
    assert not len(axes.get_xticks(minor=True))


def test_means_and_spreads_are_drawn_where_they_are(plots: dict[str, Plot]) -> None:
    axes = drawn(plots["miou-by-fraction"])
    of_class_mix = [line for line in axes.lines if line.get_color() == row_look(1).colour and line.get_marker() == "s"]
    assert list(of_class_mix[0].get_ydata()) == pytest.approx([60.0, 60.0])
    # ComplexMix as published: 62.25 ± 1.22
    assert any((low, high) == pytest.approx((61.03, 63.47)) for low, high in bars(axes))


def test_rows_stand_beside_each_other_close_to_their_fraction(plots: dict[str, Plot]) -> None:
    axes = drawn(plots["miou-by-fraction"])
    starts = {line.get_color(): line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2}
    assert len(set(starts.values())) == 3
    assert all(x == pytest.approx(0.125, rel=0.02) for x in starts.values())


def test_published_scores_are_hollow_and_dotted(plots: dict[str, Plot]) -> None:
    hollow = [line for line in drawn(plots["miou-by-fraction"]).lines if line.get_markerfacecolor() == "none"]
    assert [list(line.get_ydata()) for line in hollow] == [[54.84, 60.08], [61.35, 63.63], [62.25, 64.07]]
    assert {line.get_linestyle() for line in hollow} == {":"}
    assert plots["miou-by-fraction"].legend[-1][0] == "hollow, dotted: as published"


def test_with_one_fraction_each_row_has_a_line_of_its_own(storage: Storage) -> None:
    table = TableStub(**{**TABLE.__dict__, "fractions": (EIGHTH,), "is_demonstration": True})
    axes = drawn(plots_of(*computed(storage, table), curves())[0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Supervised", "ClassMix", "ComplexMix"]
    assert [line.get_ydata()[0] for line in axes.lines if line.get_marker() in "os^"] == [0, 1, 2]
    assert "1/8 (30)" in axes.get_xlabel()


def test_a_row_learns_in_a_panel_of_its_own_at_one_height_for_all(plots: dict[str, Plot]) -> None:
    plot = plots["learning-curves"]
    assert [panel.title for panel in plot.panels] == ["Supervised", "ClassMix", "ComplexMix"]
    assert len({drawn(plot, number).get_ylim() for number in range(3)}) == 1
    low, high = drawn(plot).get_ylim()
    assert low < 25
    assert high > 60


def test_the_teacher_is_dashed_and_hollow(plots: dict[str, Plot]) -> None:
    lines = drawn(plots["learning-curves"], 1).lines
    students = [line for line in lines if line.get_linestyle() == "-"]
    teachers = [line for line in lines if line.get_linestyle() == "--"]
    assert len(students) == len(teachers) == 2
    assert {line.get_markerfacecolor() for line in teachers} == {"none"}
    assert "none" not in {line.get_markerfacecolor() for line in students}


def test_shares_are_percent_from_zero_in_the_colours_of_their_rows(plots: dict[str, Plot]) -> None:
    plot = plots["confidence-and-masks"]
    assert [panel.title for panel in plot.panels] == ["Confident share, 1/8 (30)", "Mask area, 1/8 (30)"]
    axes = drawn(plot)
    assert axes.get_ylim()[0] == 0
    assert [list(line.get_ydata()) for line in axes.lines] == [pytest.approx([25, 45, 65])] * 2
    assert [line.get_color() for line in axes.lines] == [row_look(1).colour, row_look(2).colour]
    assert [label for label, _ in plot.legend] == ["ClassMix", "ComplexMix"]


def test_a_class_without_a_score_is_a_dash_in_the_heat_map(plots: dict[str, Plot]) -> None:
    quarter = drawn(plots["class-iou"], 1)
    assert [text.get_text() for text in quarter.texts] == ["70", "50", "30", "80", "60", "40"]
    gain = drawn(plots["class-gain"])
    assert [text.get_text() for text in gain.texts][:3] == ["+10.0", "+5.0", "+30.0"]
    assert "over Supervised" in plots["class-gain"].panels[0].title


def test_words_say_what_is_drawn(plots: dict[str, Plot]) -> None:
    scores = plots["miou-by-fraction"].panels[0].words
    assert "ClassMix: 60.00 ± 0.00 at 1/8 (30), 60.00 ± 0.00 at 1/4 (60)." in scores
    assert "ComplexMix as published: 62.25 ± 1.22 at 1/8 (30)" in scores
    learning = plots["learning-curves"].panels[1].words
    assert "Student, 1/8 (30): 25.0 percent at step 10, 60.0 at 20." in learning
    shares = plots["confidence-and-masks"].panels[0].words
    assert "ClassMix: 25.0 percent at step 5, 65.0 at 20." in shares


def test_a_peak_between_the_ends_is_said(storage: Storage) -> None:
    peaked = curves()
    peaked.loc[peaked["step"] == 10, "value"] = 0.9
    plots = {plot.name: plot for plot in plots_of(*computed(storage), peaked)}
    assert "65.0 at 20, highest 90.0 at 10." in plots["confidence-and-masks"].panels[0].words


def test_rows_differ_in_marker_or_dash_and_not_in_colour_alone() -> None:
    looks = [row_look(index) for index in range(36)]
    assert len({(look.marker, str(look.dash)) for look in looks}) == 36
    assert len({(look.colour, look.marker, str(look.dash)) for look in map(row_look, range(252))}) == 252
    fractions = [fraction_look(index, 5) for index in range(5)]
    assert len({look.marker for look in fractions}) == len({look.colour for look in fractions}) == 5


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_lines_of_rows_can_be_seen_on_light_and_dark_pages() -> None:
    for name, light, dark in variables(3):
        if name.startswith("--row") or name == "--ink":
            assert contrast(light, "#ffffff") >= 3, name
            assert contrast(dark, "#14181d") >= 3, name


def test_no_two_things_have_one_colour_on_white() -> None:
    colours = [light for _, light, _ in variables(9)]
    assert len(set(colours)) == len(colours)
    assert all(not same_color(row_look(0).colour, light) for name, light, _ in variables(9) if name != "--ink")


def test_a_row_may_have_any_name(storage: Storage) -> None:
    name = "$_{50$ and ^{"
    put_done(storage, spec_of(name, EIGHTH, 0))
    table = TableStub(**{**TABLE.__dict__, "rows": (RowStub(name), *TABLE.rows)})
    for plot in plots_of(*computed(storage, table), curves()):
        assert plot_files(plot)["pdf"].startswith(b"%PDF")  # as mathematics it could not be drawn


def test_no_plot_needs_a_screen_or_the_state_of_pyplot() -> None:
    code = "import sys, results.report, results.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
