"""What the caption says, and that it says nothing of what does not occur."""

from dataclasses import replace

from results.aggregate import Selection
from results.caption import caption
from results.compute import compute_table
from results.layout import Layout
from tests.results.builders import EIGHTH, TableStub, put_score, read
from tests.results.holes import TABLE, compute_holes
from trainer.storage import Storage


def test_the_caption_states_policy_network_metric_size_spread_and_n(whole):
    text = caption(whole)
    for said in (
        "Mean IoU in percent of the student at the last step, evaluated at 64x128 pixels.",
        "standard deviation of the sample (ddof 1, not the standard error) over n = 5 seeds",
        "Initial weights: random.",
    ):
        assert said in text


def test_the_caption_states_the_rules_of_bold_differences_and_verdicts(whole):
    text = caption(whole)
    assert "above every other of its column by more than the larger of their two standard deviations" in text
    assert "Δ: mean difference to Supervised over the same seeds, in points." in text
    assert "Paper: as published, not run here (ComplexMix, arXiv:2101.10156, Table 1)." in text
    assert "reproduced if at most 0.5 points from the paper, else within spread" in text


def test_what_is_not_printed_is_not_explained(whole):
    text = caption(whole, Layout(differences=False, published=False))
    assert not [word for word in ("Δ", "Paper", "Verdict") if word in text]


def test_a_whole_table_has_no_legend_and_one_with_holes_explains_each_mark(whole, holes):
    assert "Seeds:" not in caption(whole)
    assert "(k/n)" not in caption(whole)
    text = caption(holes)
    assert "(k/n): k of n seeds in the mean; –: none." in text
    for mark in ("m: not started", "r: in training", "p: stopped", "f: failed", "u: no class", "s: stale"):
        assert mark in text
    assert "Cells so marked take no part in bold, differences and verdicts." in text


def test_one_row_has_no_rule_of_bold_and_one_seed_no_standard_deviation(tmp_path):
    storage = Storage(str(tmp_path))
    put_score(storage, "Supervised", EIGHTH, 0, 0.5)
    table = TableStub(rows=TABLE.rows[:1], fractions=(EIGHTH,), seeds=(0,))
    text = caption(compute_table(read(storage, table), table, Selection()))
    assert "One seed, so no standard deviation." in text
    assert "Bold" not in text


def test_the_caption_names_best_and_rows_without_teacher(holes_storage):
    text = caption(compute_holes(holes_storage, selection=Selection("best", "teacher")))
    assert "teacher at its best evaluation step" in text
    assert "Judged by the student, having no teacher: Supervised." in text


def test_the_caption_says_each_size_with_how_it_was_judged(holes):
    sizes = ("1024x2048 (sliding windows)", "512x1024")
    text = caption(replace(holes, eval_sizes=sizes))
    assert "evaluated at 1024x2048 pixels (sliding windows) and 512x1024 pixels." in text


def test_the_caption_says_which_rows_were_judged_at_which_size(whole):
    first, *others = whole.lines[:3]
    mixed = replace(whole, eval_sizes=("513x1025", "64x128"), lines=(replace(first, eval_sizes=("513x1025",)), *others))
    assert "At 513x1025: Supervised. At 64x128: Adversarial, s4GAN." in caption(mixed)


def test_a_demonstration_says_so_first_and_passes_no_verdict(holes_storage):
    text = caption(compute_holes(holes_storage, replace(TABLE, is_demonstration=True)))
    assert text.startswith("DEMONSTRATION on synthetic or small data, no reproduction of published numbers.")
    assert "Verdict" not in text


def test_changed_fields_are_said_and_long_ones_are_clipped(holes_storage):
    table = replace(TABLE, overrides=(("num_steps", 600), ("labeled_names", "x" * 100)))
    text = caption(compute_holes(holes_storage, table))
    assert "Changed from the declared table: num_steps=600, labeled_names=xxx" in text
    assert "x" * 81 not in text


def test_rows_judged_otherwise_are_explained(own_selections):
    text = caption(own_selections)
    assert "Otherwise the row marked [best], ClassMix: the student at its best evaluation step" in text
    assert "Otherwise the row marked [teacher], ComplexMix: the teacher at the last step." in text
    assert "Rows whose evaluation is chosen in another way take no part in it." in text
