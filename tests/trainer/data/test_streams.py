"""Which images a step sees: a pure function of seed, stream and step, at any number of ranks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests import oracles
from trainer import distributed
from trainer.data import streams as room
from trainer.data.cache import CachedSplit
from trainer.data.pool_labels import PoolLabels, pack
from trainer.data.streams import RawBatch, StreamReader, Streams, apply_view, positions_in_pool
from trainer.losses import IGNORE_INDEX
from trainer.methods.base import Phase, Stream
from trainer.spec import View

LABELED = Stream("labeled", "labeled", 4)
UNLABELED = Stream("unlabeled", "unlabeled", 4)
CROP = View(crop_height=8, crop_width=10, flip=True)


def cache_of(count: int = 9, height: int = 12, width: int = 16) -> CachedSplit:
    """Images whose pixels name image, row and column, and labels that are the column."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    images = np.stack([np.stack([np.full_like(rows, i), rows, columns], axis=-1) for i in range(count)])
    return CachedSplit(
        path=Path("nowhere"),
        names=tuple(f"{i:03d}" for i in range(count)),
        has_label=np.ones(count, dtype=bool),
        digest="",
        class_names=tuple(f"column {i}" for i in range(width)),
        height=height,
        width=width,
        _images=(images,),
        _labels=(np.stack([columns] * count),),
    )


def reader_of(stream: Stream = LABELED, seed: int = 0, view: View = View(), pool: range = range(9)) -> StreamReader:
    """A reader over the small cache."""
    return StreamReader(stream, cache_of(), pool, view=view, seed=seed)


def shown(batch: RawBatch) -> list[int]:
    """Which image each sample of a batch shows."""
    return batch.image[:, 0, 0, 0].tolist()


@dataclass
class Asking:
    """What a method asks streams for."""

    streams: tuple[Stream, ...]
    phases: tuple[Phase, ...] = (Phase(0, 1000),)


@pytest.fixture
def streams() -> Iterator[Streams]:
    """Both streams of a mixing method over pools of 3 and 6 images."""
    both = Streams(
        Asking((Stream("labeled", "labeled", 2), UNLABELED)),
        cache_of(),
        {"labeled": range(3), "unlabeled": range(3, 9)},
        view=View(),
        seed=1,
        device=torch.device("cpu"),
        dtype=torch.float64,
    )
    yield both
    both.close()


@pytest.mark.parametrize("batch", [1, 2, 5, 7])
def test_every_epoch_shows_every_image_once(batch: int) -> None:
    places = [place for step in range(30) for place in positions_in_pool(3, step, batch, 10)]
    for first in range(0, len(places) - 9, 10):
        assert sorted(places[first : first + 10]) == list(range(10))


def test_every_epoch_has_an_order_of_its_own() -> None:
    orders = {tuple(positions_in_pool(3, epoch, 10, 10)) for epoch in range(20)}
    assert len(orders) == 20


def test_the_places_of_a_step_do_not_depend_on_what_was_asked_before() -> None:
    forward = [positions_in_pool(8, step, 3, 7) for step in range(60)]
    backward = [positions_in_pool(8, step, 3, 7) for step in reversed(range(60))]
    assert forward == backward[::-1]


def test_seed_and_stream_decide_the_order() -> None:
    orders = {
        tuple(shown(reader_of(stream, seed).read(0)) + shown(reader_of(stream, seed).read(1)))
        for stream in (LABELED, UNLABELED)
        for seed in (0, 1, 2)
    }
    assert len(orders) == 6


def test_reading_a_step_twice_gives_the_same_batch() -> None:
    reader, other = reader_of(view=CROP), reader_of(view=CROP)
    other.read(0)
    first, second = reader.read(5), other.read(5)
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.label, second.label)


def test_the_index_counts_samples_through_all_steps() -> None:
    assert reader_of().read(0).index.tolist() == [0, 1, 2, 3]
    assert reader_of().read(6).index.tolist() == [24, 25, 26, 27]


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_parts_of_all_ranks_make_the_global_batch(world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = reader_of(view=CROP).read(3), []
    monkeypatch.setattr(distributed, "world_size", lambda: world_size)
    for rank in range(world_size):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(reader_of(view=CROP).read(3))
    assert torch.equal(torch.cat([part.image for part in parts]), whole.image)
    assert torch.equal(torch.cat([part.label for part in parts]), whole.label)
    assert torch.equal(torch.cat([part.index for part in parts]), whole.index)


def test_a_batch_that_ranks_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(ValueError, match="a global batch of 4 cannot be shared by 3 ranks"):
        reader_of().read(0)


def test_only_images_of_the_pool_are_read() -> None:
    reader = reader_of(pool=range(2, 7))
    assert {image for step in range(5) for image in shown(reader.read(step))} == set(range(2, 7))


def test_the_unlabelled_stream_never_shows_a_label() -> None:
    for step in range(4):
        assert (reader_of(UNLABELED, view=CROP).read(step).label == IGNORE_INDEX).all()
        assert (reader_of(LABELED, view=CROP).read(step).label != IGNORE_INDEX).all()


@pytest.mark.parametrize("view", [View(), View(flip=True), CROP])
def test_crop_and_flip_are_the_same_for_image_and_label(view: View) -> None:
    for step in range(6):
        batch = reader_of(view=view).read(step)
        assert torch.equal(batch.image[..., 2], batch.label)


def test_a_crop_has_its_size_lies_anywhere_inside_and_is_one_piece() -> None:
    image, label = cache_of().image(0), cache_of().label(0)
    crops = [apply_view(image, label, View(crop_height=8, crop_width=10), key)[0] for key in range(-200, 200)]
    corners = {(int(crop[0, 0, 1]), int(crop[0, 0, 2])) for crop in crops}
    assert {crop.shape for crop in crops} == {(8, 10, 3)}
    assert corners == {(top, left) for top in range(5) for left in range(7)}
    for crop in crops:
        assert np.array_equal(crop, image[crop[0, 0, 1] :, crop[0, 0, 2] :][:8, :10])


def test_half_of_the_images_are_flipped_left_to_right_and_none_upside_down() -> None:
    image, label = cache_of().image(0), cache_of().label(0)
    views = [apply_view(image, label, View(flip=True), key)[0] for key in range(400)]
    assert sum(int(view[0, 0, 2]) == 15 for view in views) / 400 == pytest.approx(0.5, abs=0.08)
    assert all(int(view[0, 0, 1]) == 0 for view in views)


def test_without_crop_or_flip_the_image_is_the_whole_image() -> None:
    image, label = cache_of().image(3), cache_of().label(3)
    seen = apply_view(image, label, View(), 17)
    assert np.array_equal(seen[0], image)
    assert np.array_equal(seen[1], label)


RESIZED = View(crop_height=8, crop_width=10, flip=True, resize_height=(8, 24), resize_width=(10, 17))


def resized(view: View, key: int) -> tuple[np.ndarray, np.ndarray]:
    """A view of an image whose three channels and label are one map of blocks of 0 and 255."""
    label = np.random.default_rng(0).integers(0, 2, (3, 4), dtype=np.uint8).repeat(4, 0).repeat(4, 1) * 255
    return apply_view(np.stack([label] * 3, axis=-1), label, view, key)


def test_a_resized_view_is_resized_then_cropped_then_flipped_by_the_draws_of_its_key() -> None:
    image, label = cache_of().image(2), cache_of().label(2)
    for key in range(-60, 60):
        drawn = [oracles.uniform(oracles.fold(key, place)) for place in range(5)]
        height, width = 8 + int(drawn[3] * 17), 10 + int(drawn[4] * 8)
        top, left = int(drawn[0] * (height - 7)), int(drawn[1] * (width - 9))
        wanted = [
            np.asarray(Image.fromarray(pixels).resize((width, height), rule))[top : top + 8, left : left + 10]
            for pixels, rule in ((image, Image.Resampling.BILINEAR), (label, Image.Resampling.NEAREST))
        ]
        if drawn[2] < 0.5:
            wanted = [pixels[:, ::-1] for pixels in wanted]
        seen = apply_view(image, label, RESIZED, key)
        assert np.array_equal(seen[0], wanted[0])
        assert np.array_equal(seen[1], wanted[1])


def test_heights_and_widths_are_drawn_apart_with_both_ends_equally_often(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(room, "resize_image", lambda image, *, height, width: sizes.append((height, width)) or image)
    view = View(crop_height=8, crop_width=8, resize_height=(8, 11), resize_width=(9, 11))
    for key in range(2400):
        apply_view(cache_of(1).image(0), cache_of(1).label(0), view, key)
    counts = {size: sizes.count(size) for size in sizes}
    assert set(counts) == {(height, width) for height in range(8, 12) for width in range(9, 12)}
    assert all(count == pytest.approx(200, abs=60) for count in counts.values())


def test_image_and_label_keep_one_geometry_when_resized() -> None:
    for key in range(40):  # where the image is black or white without a grey step, the label says the same
        image, label = resized(RESIZED, key)
        sure = (image[..., 0] == 0) | (image[..., 0] == 255)
        assert sure.mean() > 0.2
        assert np.array_equal(image[..., 0][sure], label[sure])


def test_a_label_is_never_blended_and_a_batch_of_resized_views_has_one_size() -> None:
    batch = reader_of(view=RESIZED).read(1)
    assert batch.image.shape == (4, 8, 10, 3)
    assert set(batch.label.unique().tolist()) <= set(range(16))
    assert set(np.unique(resized(RESIZED, 5)[1])) == {0, 255}


def test_a_view_without_resizing_draws_what_it_always_drew() -> None:
    image, label = cache_of().image(4), cache_of().label(4)
    for key in range(50):
        drawn = [oracles.uniform(oracles.fold(key, place)) for place in range(3)]
        top, left = int(drawn[0] * 5), int(drawn[1] * 7)
        wanted = image[top : top + 8, left : left + 10]
        assert np.array_equal(apply_view(image, label, CROP, key)[0], wanted[:, ::-1] if drawn[2] < 0.5 else wanted)


@pytest.mark.parametrize("world_size", [2, 4])
def test_resized_parts_of_all_ranks_make_the_global_batch(world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = reader_of(view=RESIZED).read(3), []
    monkeypatch.setattr(distributed, "world_size", lambda: world_size)
    for rank in range(world_size):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(reader_of(view=RESIZED).read(3))
    assert torch.equal(torch.cat([part.image for part in parts]), whole.image)
    assert torch.equal(torch.cat([part.label for part in parts]), whole.label)


def test_too_few_images_say_how_many_and_what_to_change() -> None:
    with pytest.raises(ValueError, match=r"3 unlabeled images are fewer than the batch of 4.*unlabeled_batch"):
        reader_of(UNLABELED, pool=range(3))


def test_batches_are_floating_channel_first_and_in_range(streams: Streams) -> None:
    batches = streams.at(0)
    assert batches["labeled"].image.shape == (2, 3, 12, 16)
    assert batches["labeled"].image.dtype == torch.float64
    assert batches["labeled"].label.dtype == batches["labeled"].index.dtype == torch.int64
    assert batches["unlabeled"].image[0, 2, 0].mul(255).round().tolist() == list(range(16))


def test_reading_ahead_gives_what_reading_on_demand_gives(streams: Streams) -> None:
    in_order = [streams.at(step)["unlabeled"].image for step in (0, 1, 2, 3)]
    jumping = {step: streams.at(step)["unlabeled"].image for step in (3, 1, 0, 2)}
    for step, image in enumerate(in_order):
        assert torch.equal(image, jumping[step])


def test_the_batches_of_a_step_do_not_change_when_the_next_is_read(streams: Streams) -> None:
    batch = streams.at(0)["labeled"]
    before = batch.image.clone()
    for step in range(1, 5):
        streams.at(step)
    assert torch.equal(batch.image, before)


def test_the_whole_batch_of_a_step_is_that_of_all_ranks_and_moves_nothing(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {step: streams.at(step)["unlabeled"] for step in (2, 3)}
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    half = streams.at(2)["unlabeled"]
    whole = streams.whole(2)["unlabeled"]
    assert torch.equal(whole.image, alone[2].image)
    assert torch.equal(whole.index, alone[2].index)
    assert torch.equal(half.image, alone[2].image[len(half.image) :])
    assert torch.equal(streams.at(3)["unlabeled"].image, alone[3].image[len(half.image) :])


def test_an_error_while_reading_ahead_comes_out_at_its_step(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: StreamReader, step: int) -> RawBatch:
        raise OSError(f"no image at step {step}")

    monkeypatch.setattr(StreamReader, "read", fail)
    with pytest.raises(OSError, match="no image at step 4"):
        streams.at(4)


# --- phases and labels of the pool --------------------------------------------------------------------------------


def labels_that_say(value: int) -> PoolLabels:
    """Labels for the small cache's pool, every pixel of one value."""
    packed = {f"{i:03d}": pack(np.full((12, 16), value + i, np.uint8)) for i in range(3, 9)}
    return PoolLabels(12, 16, packed, {})


def asking(
    *, shows_pool_labels: bool = False, phases: tuple[Phase, ...] = (Phase(0, 1000),), view: View = View()
) -> Streams:
    """Two streams over pools of 3 and 6 images."""
    return Streams(
        Asking((Stream("labeled", "labeled", 2), Stream("unlabeled", "unlabeled", 3, shows_pool_labels)), phases),
        cache_of(),
        {"labeled": range(3), "unlabeled": range(3, 9)},
        view=view,
        seed=1,
        device=torch.device("cpu"),
        dtype=torch.float64,
    )


def test_a_phase_reads_only_the_streams_it_names() -> None:
    streams = asking(phases=(Phase(0, 2, streams=("labeled",)), Phase(2, 5)))
    assert [sorted(streams.at(step)) for step in range(4)] == [["labeled"]] * 2 + [["labeled", "unlabeled"]] * 2
    streams.close()


def test_unlabelled_images_come_with_the_labels_of_the_round_from_the_next_step_on() -> None:
    streams = asking(shows_pool_labels=True)
    assert (streams.at(0)["unlabeled"].label == IGNORE_INDEX).all()  # and step 1 is being read ahead
    streams.use_pool_labels(labels_that_say(100))
    batch = streams.at(1)["unlabeled"]
    shown_images = (batch.image[:, 0, 0, 0] * 255).round().long()
    assert batch.label[:, 0, 0].tolist() == (100 + shown_images).tolist()
    streams.use_pool_labels(labels_that_say(50))
    assert (streams.at(2)["unlabeled"].label < 100).all()
    streams.close()


def test_a_stream_that_does_not_ask_never_sees_labels_of_the_pool() -> None:
    streams = asking()
    streams.use_pool_labels(labels_that_say(1))
    assert (streams.at(0)["unlabeled"].label == IGNORE_INDEX).all()
    streams.close()


def test_labels_of_the_pool_are_cut_and_flipped_with_their_images() -> None:
    columns = np.tile(np.arange(16, dtype=np.uint8), (12, 1))
    labels = PoolLabels(12, 16, {f"{i:03d}": pack(columns) for i in range(3, 9)}, {})
    streams = asking(shows_pool_labels=True, view=CROP)
    streams.use_pool_labels(labels)
    batch = streams.at(0)["unlabeled"]
    assert torch.equal(batch.label, (batch.image[:, 2] * 255).round().long())
    streams.close()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_parts_of_the_pool_are_the_pool(world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.streams.world_size", lambda: world_size)
    monkeypatch.setattr("trainer.data.streams.PIXELS_AT_ONCE", 2 * 12 * 16)
    names, shows, calls = [], [], []
    for rank in range(world_size):
        monkeypatch.setattr("trainer.data.streams.rank", lambda rank=rank: rank)
        streams = asking()
        part = streams.pool_part(lambda: calls.append(1))
        names += part.names
        shows += [int(value) for batch in part.batches() for value in (batch[:, 0, 0, 0] * 255).round().tolist()]
        streams.close()
    assert sorted(names) == [f"{i:03d}" for i in range(3, 9)]
    assert [int(name) for name in names] == shows
    assert calls
