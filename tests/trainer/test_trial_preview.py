"""Pictures while training: they show what is judged, move no number, speak to no other rank and end no trial."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import trainer.keeper
import trainer.trial_preview
from tests.contracts import MemoryKeeper, StopAt, small_options, small_spec, small_trial, train_small
from tests.rooms import Room
from tests.worlds import run_ranks, train_all
from trainer.checkpoint import read_state, to_bytes
from trainer.data.cache import CachedSplit
from trainer.distributed import rank
from trainer.evaluate import evaluate
from trainer.host import NoHost
from trainer.loop import Cadence, train
from trainer.reading import find_previews, read_result
from trainer.records import attempt_path
from trainer.run import Outcome, run_trial
from trainer.spec import Evaluation, RunOptions, TrialSpec
from trainer.storage import Storage
from trainer.trial import Trial
from trainer.trial_preview import preview_png

# A mean teacher with batch statistics of its own, labels of rounds and best weights, two kinds of second player.
METHODS = ("complexmix", "french as published", "dst_cbc going on from its best", "adversarial", "s4gan")


def spec_of(name: str) -> TrialSpec:
    """A trial that is judged, and so drawn, after every step."""
    return small_spec(name, evaluation=Evaluation(every=1))


@pytest.fixture
def open_room(small_data: Path, tmp_path: Path) -> Callable[..., Room]:
    """A room for a trial, with or without pictures."""

    def make(name: str, folder: str, **changes: object) -> Room:
        return Room(spec_of(name), small_options(small_data, tmp_path / folder, keep="checkpoints", **changes))

    return make


def state_of(room: Room) -> bytes:
    """All that the next step would depend on: networks, optimizers, buffers, counters."""
    return to_bytes(read_state(room.storage, room.newest())["trial"])


def drawn_steps(room: Room) -> list[int]:
    result = read_result(room.storage, room.spec.trial_id)
    return list(find_previews(room.storage, room.spec.trial_id, result.segments))


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


# --- no number moves ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_trial_with_pictures_is_the_trial_without_bit_for_bit(name: str, open_room: Callable[..., Room]) -> None:
    plain, drawn = open_room(name, "plain", previews=False), open_room(name, "drawn")
    assert plain.run() == drawn.run() == Outcome("done")
    assert drawn.finished().equals(plain.finished())
    assert state_of(drawn) == state_of(plain)
    assert (drawn_steps(plain), drawn_steps(drawn)) == ([], [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("name", METHODS)
def test_a_trial_that_is_resumed_with_pictures_is_the_one_without(name: str, open_room: Callable[..., Room]) -> None:
    plain, drawn = open_room(name, "plain", previews=False), open_room(name, "drawn")
    plain.run()
    assert drawn.run(StopAt(3)).kind == "stopped"
    assert drawn.run() == Outcome("done")
    assert drawn.finished().equals(plain.finished())
    assert state_of(drawn) == state_of(plain)
    assert drawn_steps(drawn) == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_two_ranks_with_pictures_are_two_ranks_without(small_data: Path, tmp_path: Path) -> None:
    specs = {name: spec_of(name) for name in METHODS}
    options = {
        name: small_options(small_data, tmp_path / name, previews=name == "drawn") for name in ("plain", "drawn")
    }
    for each in options.values():
        run_ranks(train_all, 2, specs, each)
    for spec in specs.values():
        plain, drawn = (Room(spec, each) for each in options.values())
        assert drawn.finished().equals(plain.finished()), spec.method.name
        assert drawn_steps(drawn) == [1, 2, 3, 4, 5, 6]


def draw_on_rank_0(spec: TrialSpec, data: Path, out: Path) -> None:
    """Train two steps; then rank 0 draws, and nobody waits for it or answers it."""
    trial = small_trial(spec, data)
    train_small(trial, stop_at=2)
    if rank() == 0:
        out.write_bytes(preview_png(trial, 2))


def test_a_rank_draws_alone_what_a_single_process_would(small_data: Path, tmp_path: Path) -> None:
    spec = small_spec("classmix", evaluation=Evaluation(every=100))
    for ranks in (1, 2):
        run_ranks(draw_on_rank_0, ranks, spec, small_data, tmp_path / f"{ranks}.png")
    one, two = (pixels_of((tmp_path / f"{ranks}.png").read_bytes()) for ranks in (1, 2))
    assert one.shape == two.shape
    assert (one != two).mean() < 0.01  # sums of two ranks round otherwise


@pytest.mark.parametrize("name", METHODS)
def test_drawing_moves_no_tensor_and_no_mode(name: str, small_data: Path) -> None:
    trial = small_trial(spec_of(name), small_data)
    train_small(trial, stop_at=5)
    before, modes = to_bytes(trial.state_dict()), modes_of(trial)
    state = torch.get_rng_state()
    preview_png(trial, 5)
    assert to_bytes(trial.state_dict()) == before
    assert modes_of(trial) == modes
    assert torch.equal(torch.get_rng_state(), state)
    trial.streams.close()


def modes_of(trial: Trial) -> list[bool]:
    networks = [player.network for player in trial.players.values()]
    networks += [trial.teacher.network] if trial.teacher is not None else []
    return [module.training for network in networks for module in network.modules()]


def test_a_network_that_fails_in_the_middle_is_back_in_its_mode(small_data: Path) -> None:
    trial = small_trial(spec_of("classmix"), small_data)
    train_small(trial, stop_at=2)
    modes = modes_of(trial)

    def failing(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    trial.predict = failing
    with pytest.raises(torch.OutOfMemoryError):
        preview_png(trial, 2)
    assert modes_of(trial) == modes
    assert True in modes


# --- no trial ends ------------------------------------------------------------------------------------------------


def test_a_drawing_that_fails_is_said_and_the_trial_goes_on(
    open_room: Callable[..., Room], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, drawn = open_room("classmix", "plain", previews=False), open_room("classmix", "drawn")
    plain.run()
    monkeypatch.setattr(trainer.keeper, "preview_png", lambda *_: 1 / 0)
    assert drawn.run() == Outcome("done")
    assert "no picture after step 3: ZeroDivisionError" in caplog.text
    assert drawn.finished().equals(plain.finished())


def test_a_picture_that_finds_no_room_is_said_and_the_trial_goes_on(
    open_room: Callable[..., Room], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room, write = open_room("supervised", "full"), Storage.write

    def full(storage: Storage, path: str, content: bytes) -> None:
        if path.endswith(".png"):
            raise OSError(f"cannot write {path} (0 MiB free)")
        write(storage, path, content)

    monkeypatch.setattr(Storage, "write", full)
    assert room.run() == Outcome("done")
    assert "0 MiB free" in caplog.text
    assert drawn_steps(room) == []


# --- what is shown ------------------------------------------------------------------------------------------------


def test_the_loop_asks_for_a_picture_after_every_evaluation_and_after_the_last_step(small_data: Path) -> None:
    asked: list[int] = []

    class Asked(MemoryKeeper):
        def draw(self, step: int) -> None:
            asked.append(step)

    trial = small_trial(small_spec("supervised"), small_data)
    train(trial, Asked(), NoHost(), Cadence(log=1, checkpoint=1, evaluate=4), 0)
    trial.streams.close()
    assert asked == [4, 6]


def titles_of(trial: Trial, step: int, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    seen: list[list[str]] = []
    monkeypatch.setattr(
        trainer.trial_preview, "sheet_of", lambda rows: seen.extend([[t for t, _ in row] for row in rows]) or b""
    )
    preview_png(trial, step)
    return seen


def test_a_supervised_start_shows_no_mix_and_no_teacher_and_mixing_shows_both(
    small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = small_trial(spec_of("complexmix"), small_data)
    keeper = train_small(trial, stop_at=3)
    (start,) = titles_of(trial, 2, monkeypatch)
    mix, judged = titles_of(trial, 3, monkeypatch)
    assert start[1] == "truth"
    assert [title.partition(":")[0] for title in start[2:]] == ["student", "student"]
    assert [title.partition(" (")[0] for title in mix] == ["image a", "image b", "mask", "a onto b"]
    assert [title.partition(":")[0] for title in judged[2:]] == ["student", "student", "teacher", "teacher"]
    assert keeper.commits == [1, 2, 3]


def test_the_share_of_errors_is_that_of_the_confusion_matrix(small_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = small_trial(spec_of("supervised"), small_data)
    train_small(trial, stop_at=2)
    only = trial.evaluation_images
    monkeypatch.setattr(trainer.trial_preview, "spread_over", lambda *_: [2])
    ((_, _, _, title),) = titles_of(trial, 2, monkeypatch)
    confusion = evaluate(trial.players["student"].network, _single(only, 2), device=trial.device, dtype=trial.dtype)
    assert title == f"student: {1 - float(confusion.trace() / confusion.sum()):.1%} wrong"


def _single(images: CachedSplit, place: int) -> CachedSplit:
    """A split of which one image alone is labelled, so that it alone is judged."""
    return replace(images, has_label=np.arange(len(images.names)) == place)


@pytest.mark.parametrize(("labeled", "drawn"), [(1, 1), (19, 1), (20, 2), (39, 3), (500, 4)])
def test_no_more_than_a_tenth_of_an_evaluation_is_drawn(labeled: int, drawn: int) -> None:
    assert trainer.trial_preview._num_images(labeled) == drawn


def test_a_picture_lies_beside_the_records_of_its_attempt(small_data: Path, tmp_path: Path) -> None:
    options: RunOptions = small_options(small_data, tmp_path)
    spec = small_spec("cutmix")
    run_trial(spec, options, NoHost())
    (attempt,) = Storage(options.storage).names(f"trials/{spec.trial_id}/attempts")
    picture = Storage(options.storage).read(attempt_path(spec.trial_id, attempt, "preview-00000006.png"))
    assert pixels_of(picture).shape == (2 * (128 + 16 + 6) + 6, 6 * (256 + 6) + 6, 3)
