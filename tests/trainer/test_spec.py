"""The identity of a trial: its content without defaults, and the rules that a spec must keep."""

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from trainer.spec import (
    NAMED_METHODS,
    SGD,
    BoxMask,
    ClassMask,
    ComplexMask,
    CowMask,
    Folders,
    Mask,
    Mix,
    Part,
    RunOptions,
    StrongAugmentation,
    Supervised,
    Synthetic,
    Teacher,
    TinyNetwork,
    TrialSpec,
    View,
    canonical_json,
    count_labeled,
    parse_fraction,
    read_spec,
)

# Every spec is written out in full, so that a changed default changes its id. Entries are added, ids never change.
GOLDEN = json.loads((Path(__file__).parents[1] / "golden/trial_ids.json").read_text())
EIGHTH = Fraction(1, 8)


class NewSGD(SGD):
    """An optimizer of a later version."""

    dampening: float = 0.0


class NewTrialSpec(TrialSpec):
    """A spec of a later version: new fields at two depths."""

    optimizer: NewSGD = NewSGD()
    label_noise: float = 0.0


# --- identity -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 3])
def test_with_other_seeds_it_is_as_if_it_had_been_made_with_them(first: int) -> None:
    spec = TrialSpec(method=Mix(), label_fraction=EIGHTH, num_steps=50_000, seed=first)
    for seed, (other, trial_id) in zip((0, 1, 3, 2**32 - 1), spec.with_seeds((0, 1, 3, 2**32 - 1)), strict=True):
        made = TrialSpec(method=Mix(), label_fraction=EIGHTH, num_steps=50_000, seed=seed)
        assert (other, trial_id) == (made, made.trial_id)
        assert other.model_dump_json() == made.model_dump_json()


@pytest.mark.parametrize("name", GOLDEN)
def test_a_spec_written_out_in_full_keeps_its_id(name: str) -> None:
    entry = GOLDEN[name]
    spec = TrialSpec.model_validate(entry["spec"])
    assert canonical_json(spec) == entry["canonical"]
    assert spec.trial_id == entry["trial_id"]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_id_is_the_method_and_twelve_digits_of_its_content(name: str) -> None:
    entry = GOLDEN[name]
    content = json.dumps(json.loads(entry["canonical"]), sort_keys=True, separators=(",", ":"))
    method, digits = entry["trial_id"].rsplit("-", 1)
    assert hashlib.sha256(content.encode()).hexdigest()[:12] == digits
    assert TrialSpec.model_validate_json(content).method.name == method


def fields_in(part: Part, given: dict[str, Any]) -> set[str]:
    """The fields of all parts that are written out, as "Part.field"."""
    own = {f"{type(part).__name__}.{name}" for name in given}
    children = [(getattr(part, name), value) for name, value in given.items()]
    return own.union(*(fields_in(child, value) for child, value in children if isinstance(child, Part)))


def leaves_of(part: type[Part]) -> list[type[Part]]:
    """The classes below a part of which there is nothing further, but for what this module derives."""
    below = [child for child in part.__subclasses__() if child.__module__.startswith("trainer.")]
    return [leaf for child in below for leaf in leaves_of(child)] if below else [part]


def test_every_field_is_written_out_in_a_golden_spec() -> None:  # else add an entry with the new field's default
    seen = {name for e in GOLDEN.values() for name in fields_in(TrialSpec.model_validate(e["spec"]), e["spec"])}
    parts = [part for part in leaves_of(Part) if part.__module__.startswith("trainer.spec") and part is not RunOptions]
    assert {f"{part.__name__}.{name}" for part in parts for name in part.model_fields} == seen


def test_a_spec_of_defaults_has_no_content() -> None:
    assert canonical_json(TrialSpec()) == "{}"


def test_defaults_are_left_out_at_every_depth_but_kinds_stay() -> None:
    spec = TrialSpec(
        num_steps=40_000,
        method=Mix(mask=ComplexMask(rounding="ceil"), teacher=Teacher(ema_decay=0.99), supervised_start=2000),
        network=TinyNetwork(),
    )
    assert json.loads(canonical_json(spec)) == {
        "method": {"kind": "mix", "mask": {"kind": "complex", "rounding": "ceil"}, "supervised_start": 2000},
        "network": {"kind": "tiny"},
    }


def test_a_required_field_is_always_kept() -> None:
    folders = Folders(name="mine", images="i", labels="l", class_names=("a", "b"), height=64, width=64)
    kept = json.loads(canonical_json(TrialSpec(dataset=folders)))["dataset"]
    assert set(kept) == {"kind", "name", "images", "labels", "class_names", "height", "width"}


def test_the_order_in_which_fields_are_given_changes_nothing() -> None:
    given = {"seed": 3, "label_fraction": "1/8", "optimizer": {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.5}}
    backwards = {
        "optimizer": {"momentum": 0.5, "learning_rate": 0.1, "kind": "sgd"},
        "label_fraction": "1/8",
        "seed": 3,
    }
    assert TrialSpec.model_validate(given).trial_id == TrialSpec.model_validate(backwards).trial_id


def test_a_whole_number_and_the_same_float_are_one_content() -> None:
    assert TrialSpec(method=Mix(unlabeled_weight=2)).trial_id == TrialSpec(method=Mix(unlabeled_weight=2.0)).trial_id
    assert TrialSpec(label_fraction=Fraction(2, 16)).trial_id == TrialSpec(label_fraction=EIGHTH).trial_id


@pytest.mark.parametrize("changes", [{}, {"seed": 5}, {"optimizer": {"learning_rate": 0.1}}])
def test_a_new_field_with_a_default_changes_no_id(changes: dict[str, Any]) -> None:
    assert NewTrialSpec.model_validate(changes).trial_id == TrialSpec.model_validate(changes).trial_id


def test_a_new_field_that_is_used_changes_the_id() -> None:
    assert NewTrialSpec(label_noise=0.1).trial_id != TrialSpec().trial_id
    assert NewTrialSpec(optimizer=NewSGD(dampening=0.1)).trial_id != TrialSpec().trial_id


def test_every_scientific_choice_changes_the_id() -> None:
    specs = [
        TrialSpec(),
        TrialSpec(seed=1),
        TrialSpec(label_fraction=EIGHTH),
        TrialSpec(label_fraction=EIGHTH, split_seed=1),
        TrialSpec(precision="bf16"),
        TrialSpec(unlabeled_pool="all"),
        TrialSpec(view=View(flip=True)),
        *(TrialSpec(method=method) for name, method in NAMED_METHODS.items() if name != "supervised"),
    ]
    assert len({spec.trial_id for spec in specs}) == len(specs)


def test_a_spec_read_back_from_its_json_is_the_same_trial() -> None:
    for method in NAMED_METHODS.values():
        spec = TrialSpec(method=method, dataset=Synthetic(), label_fraction=EIGHTH, seed=2)
        assert TrialSpec.model_validate_json(spec.model_dump_json()) == spec
        assert TrialSpec.model_validate_json(canonical_json(spec)) == spec


def test_trial_ids_begin_with_the_word_people_use() -> None:
    names = {TrialSpec(method=method).trial_id.rsplit("-", 1)[0] for method in NAMED_METHODS.values()}
    assert names == {
        "supervised",
        "cutmix",
        "classmix",
        "cowmix",
        "complexmix",
        "ict",
        "adversarial",
        "s4gan",
        "dstcbc",
    }


# --- fractions and splits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["1/8", " 1/8 ", "2/16", EIGHTH])
def test_a_fraction_may_be_given_in_several_ways(given: object) -> None:
    assert parse_fraction(given) == EIGHTH


@pytest.mark.parametrize("given", [1, "1", "5/5", Fraction(1)])
def test_a_whole_fraction_is_one(given: object) -> None:
    assert TrialSpec.model_validate({"label_fraction": given}).label_fraction == 1


@pytest.mark.parametrize(
    "given", ["1/7.5", "0.125", 0.125, "-1/8", "1/-8", "1/", "/8", "", "one", None, True, "¹/8", "1/8/2"]
)
def test_what_is_no_whole_number_over_another_is_refused_with_an_example(given: object) -> None:
    with pytest.raises(ValidationError, match="such as 1/8 or 1"):
        TrialSpec.model_validate({"label_fraction": given})


@pytest.mark.parametrize("given", ["0", "0/5", "2/1", "9/8", "1/0", "0/0"])
def test_a_fraction_outside_zero_to_one_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match=r"outside \(0, 1\]"):
        TrialSpec.model_validate({"label_fraction": given})


@pytest.mark.parametrize(("fraction", "count"), [("1/30", 100), ("1/8", 372), ("1/4", 744), ("1/2", 1488), ("1", 2975)])
def test_cityscapes_fractions_give_the_papers_counts(fraction: str, count: int) -> None:
    assert count_labeled(Fraction(fraction), 2975) == count


def test_a_fraction_never_labels_less_than_one_image() -> None:
    assert count_labeled(Fraction(1, 30), 1) == 1
    assert count_labeled(Fraction(1, 3), 3) == 1  # exact: no floating 0.333… that rounds up to two


def test_the_seed_draws_the_split_unless_told_otherwise() -> None:
    assert TrialSpec(label_fraction=EIGHTH, seed=3).resolved_split_seed == 3
    assert TrialSpec(label_fraction=EIGHTH, seed=3, split_seed=0).resolved_split_seed == 0


def test_at_fraction_one_and_with_a_list_nothing_is_drawn() -> None:
    assert TrialSpec(seed=3).resolved_split_seed is None
    assert TrialSpec(label_fraction=EIGHTH, labeled_names=("a", "b")).resolved_split_seed is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split_seed": 1}, "no meaning at label_fraction 1"),
        ({"label_fraction": "1/8", "labeled_names": ["a"], "split_seed": 1}, "leave split_seed out"),
        ({"label_fraction": "1/8", "labeled_names": ["a", "a"]}, "names an image twice"),
        ({"method": {"kind": "mix", "supervised_start": 40_000}}, "leaves nothing of num_steps 40000"),
        ({"view": {"crop_height": 64}}, "both view.crop_height and view.crop_width"),
        ({"view": {"crop_height": 513, "crop_width": 64}}, "the crop 513x64 exceeds the image"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"num_step": 3}, "num_step"),
        ({"optimizer": {"learning_rate": float("nan")}}, "finite"),
        ({"method": {"kind": "mix", "mask": {"kind": "complex", "block_counts": [0]}}}, "must lie in 1..1024"),
        (
            {"method": {"kind": "mix", "mask": {"kind": "cow", "sigma_min": 9, "sigma_max": 8}}},
            "sigma_min <= sigma_max",
        ),
        ({"method": {"kind": "magic"}}, "magic"),
        ({"method": {"kind": "dst_cbc", "carry": "best"}, "evaluation": {"every": 6401}}, "at most 6400"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused_with_its_reason(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrialSpec.model_validate(fields)


def test_a_spec_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrialSpec().seed = 1  # type: ignore[misc]


# --- the paper's configuration ------------------------------------------------------------------------------------


def test_the_defaults_are_the_papers_configuration() -> None:
    spec = TrialSpec()
    assert (spec.dataset.height, spec.dataset.width) == (512, 1024)
    assert (spec.labeled_batch, spec.unlabeled_batch, spec.num_steps) == (2, 2, 40_000)
    assert (spec.optimizer.learning_rate, spec.optimizer.momentum, spec.optimizer.weight_decay) == (2.5e-4, 0.9, 5e-4)
    assert (spec.schedule.power, spec.initial_weights, spec.view) == (0.9, "coco", View())


def test_the_complex_mask_defaults_to_the_literal_section() -> None:
    mask = ComplexMask()
    assert mask.block_counts == (4, 16, 64, 128)
    assert (mask.grid, mask.classes, mask.rounding) == ("per_side", "of_all", "floor")


def test_the_mixing_defaults_are_classmixs() -> None:
    mix = Mix()
    assert mix.mask == ClassMask()
    assert (mix.gate, mix.confidence_threshold, mix.unlabeled_weight) == ("batch_share", 0.968, 1.0)
    assert (mix.ramp_up_steps, mix.supervised_start, mix.loss) == (0, 0, "cross_entropy")
    assert mix.teacher == Teacher(ema_decay=0.99, warm_up=True, batch_norm="own")
    assert mix.augmentation == StrongAugmentation(jitter_probability=0.8, blur_probability=0.5)


def test_only_mixing_wants_unlabelled_images() -> None:
    assert not Supervised().wants_unlabeled
    assert all(Mix(mask=mask).wants_unlabeled for mask in (BoxMask(), ClassMask(), CowMask(), ComplexMask()))


def test_a_mask_is_told_by_its_kind() -> None:
    assert TypeAdapter(Mask).validate_python({"kind": "cow"}) == CowMask()


# --- options and files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "checkpoint", "log"), [(40_000, 1000, 100), (1000, 50, 20), (60, 25, 5)])
def test_intervals_follow_the_length_of_the_trial(steps: int, checkpoint: int, log: int) -> None:
    assert RunOptions().checkpoint_interval(steps) == checkpoint
    assert RunOptions().log_interval(steps) == log
    asked = RunOptions(checkpoint_every=7, log_every=3)
    assert (asked.checkpoint_interval(steps), asked.log_interval(steps)) == (7, 3)


def test_a_spec_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(TrialSpec(seed=4).model_dump_json())
    assert read_spec(path) == TrialSpec(seed=4)


def test_a_file_that_is_no_spec_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read the spec .*gone\.json"):
        read_spec(tmp_path / "gone.json")
    (tmp_path / "bad.json").write_text('{"sead": 1}')
    with pytest.raises(ValueError, match=r"bad\.json is no valid trial spec(.|\n)*sead"):
        read_spec(tmp_path / "bad.json")
