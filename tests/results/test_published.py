"""The published numbers equal the paper's text."""

from fractions import Fraction

import pytest

from results.published import published_table

# Table 1 of arXiv:2101.10156, as its text reads (labels without the reference numbers).
PAPER = """
Deeplab-V2|43.84 54.84 60.08 63.02 66.19
Adversarial|- 58.8 62.3 65.7 N/A
s4GAN|- 59.3 61.9 - N/A
DST-CBC|48.7 60.5 64.4 - N/A
French et al.|51.20 60.34 63.87 - N/A
ClassMix|54.07 61.35 63.63 66.29 N/A
Ours (ComplexMix)|53.88±0.56 62.25±1.22 64.07±0.46 66.77±0.83 N/A
"""
FRACTIONS = [Fraction(word) for word in ("1/30", "1/8", "1/4", "1/2", "1")]


@pytest.mark.parametrize("line", PAPER.split("\n")[1:-1])
def test_published_rows_equal_the_text_of_the_paper(line):
    label, _, values = line.partition("|")
    scores = [published_table("complexmix_table1").find(label, fraction) for fraction in FRACTIONS]
    assert [score.text.replace(" ", "") for score in scores] == values.split()


def test_a_dash_is_not_reported_and_na_is_not_applicable():
    table = published_table("complexmix_table1")
    assert table.find("s4GAN", Fraction(1, 30)).status == "not reported"
    assert table.find("s4GAN", Fraction(1)).status == "not applicable"
    assert table.find("s4GAN", Fraction(1)).mean is None


def test_every_published_score_says_where_it_was_measured():
    assert all(score.source for score in published_table("complexmix_table1").scores)
    assert len(published_table("complexmix_table1").scores) == 35


def test_only_the_paper_of_the_table_gives_a_spread():
    scores = published_table("complexmix_table1").scores
    assert {score.row for score in scores if score.std is not None} == {"ComplexMix"}
    assert {score.n for score in scores if score.std is not None} == {5}


def test_an_unknown_row_or_fraction_has_no_published_score():
    table = published_table("complexmix_table1")
    assert table.find("CowMix", Fraction(1, 8)) is None
    assert table.find("ClassMix", Fraction(1, 3)) is None


def test_an_unknown_key_names_the_known_ones():
    with pytest.raises(ValueError, match="complexmix_table1"):
        published_table("table2")
