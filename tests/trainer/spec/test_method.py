"""The settings of the named methods, number by number as docs/methods.md has them."""

import pytest

from tests.contracts import SMALL, small_spec
from trainer.build import build_second_player
from trainer.models.discriminators import PixelDiscriminator
from trainer.spec import (
    DSTCBC,
    NAMED_METHODS,
    S4GAN,
    Adversarial,
    BlendMask,
    BoxMask,
    Discriminator,
    Mix,
    StrongAugmentation,
    Teacher,
    View,
)


def test_adversarial_is_as_card_4_has_it() -> None:
    written_out = Adversarial(
        labeled_adversarial_weight=0.01,
        unlabeled_adversarial_weight=0.001,
        unlabeled_adversarial_start=0,
        self_taught_weight=0.1,
        self_taught_start=5000,
        self_taught_threshold=0.2,
        discriminator_sees_unlabeled=True,
        drops_adversarial_when_unconfident=False,
        discriminator=Discriminator(learning_rate=1e-4, beta1=0.9, beta2=0.99, width=64),
    )
    assert NAMED_METHODS["adversarial"] == written_out
    earlier = {"discriminator_sees_unlabeled": False, "discriminator": Discriminator(beta2=0.999)}
    assert NAMED_METHODS["adversarial_earlier"] == written_out.model_copy(update=earlier)


def test_s4gan_is_as_card_5_has_it() -> None:
    assert NAMED_METHODS["s4gan"] == S4GAN(
        feature_matching_weight=0.1,
        self_training_weight=1.0,
        self_training_start=1,
        score_threshold=0.7,
        dropout=0.5,
        dropout_when_scoring=True,
        real_image_range="own",
        discriminator=Discriminator(learning_rate=1e-5, beta1=0.9, beta2=0.99, width=64),
    )


def test_dst_cbc_is_as_card_6_and_section_13_have_it() -> None:
    assert NAMED_METHODS["dst_cbc"] == DSTCBC(
        supervised_start=8000, label_ratios=(0.2, 0.4, 0.6, 0.8, 1.0), gamma=3.0, sample_every=16, carry="last"
    )


def test_french_is_as_card_7_has_it() -> None:
    french = NAMED_METHODS["french"]
    assert french == Mix(
        mask=BoxMask(law="french"),
        loss="squared",
        gate="batch_share",
        confidence_threshold=0.97,
        unlabeled_weight=1.0,
        ramp_up_steps=0,
        supervised_start=0,
        teacher=Teacher(ema_decay=0.99, warm_up=False, batch_norm="averaged"),
        augmentation=StrongAugmentation(jitter_probability=0.0, blur_probability=0.0),
    )


def test_ict_is_as_section_9_5_and_card_7_have_it() -> None:
    ict = NAMED_METHODS["ict"]
    assert isinstance(ict, Mix)
    assert (ict.mask, ict.loss, ict.gate) == (BlendMask(alpha=0.1), "squared", "none")
    assert ict.unlabeled_weight == 0.3


def test_a_discriminators_optimizer_is_adam_with_its_own_rate_and_no_decay() -> None:
    network = PixelDiscriminator(3, width=2)
    (group,) = build_second_player(Discriminator(learning_rate=0.25, beta2=0.999), network).optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.25, (0.9, 0.999), 0)
    assert len(group["params"]) == len(list(network.parameters()))


@pytest.mark.parametrize(("name", "side"), [("adversarial", 32), ("s4gan", 16)])
def test_images_too_small_for_a_discriminator_are_refused_before_anything_is_done(name: str, side: int) -> None:
    assert small_spec(name, view=View(crop_height=side, crop_width=side))
    with pytest.raises(ValueError, match=f"too small for the discriminator of {name}, which wants {side} pixels"):
        small_spec(name, view=View(crop_height=side - 1, crop_width=side))
    with pytest.raises(ValueError, match="too small for the discriminator"):
        small_spec(name, dataset=SMALL.model_copy(update={"width": side - 1}))


def test_a_method_without_a_discriminator_takes_small_images() -> None:
    assert small_spec("classmix", view=View(crop_height=8, crop_width=8))
