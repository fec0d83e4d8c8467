"""What a probe measures on this machine, what it touches, and what a forecast makes of it."""

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from orchestrator import probe
from orchestrator.cli.common import Places
from orchestrator.cli.probing import pace_words, probe_table, unmeasured
from orchestrator.forecast import Span, lengths
from orchestrator.plan import PlannedCell, survey
from orchestrator.probe import Pace, Probe, measure, shape_of, shapes
from tests.contracts import small_options, small_spec
from tests.orchestrator.conftest import small_table
from tests.orchestrator.test_forecast import DEMO, finished
from trainer.methods.base import Phase
from trainer.reading import TrialState
from trainer.spec import Adam, TrialSpec
from trainer.storage import Storage

CPU = torch.device("cpu")
FIRST, LATER = (("labeled",), False), (None, True)
MIX = small_spec("classmix", num_steps=10, method=small_spec("complexmix").method.model_copy())
PACE = Pace({FIRST: Span(1.0, 2.0, 3.0), LATER: Span(10.0, 20.0, 30.0)}, Span(0.1, 0.2, 0.3), 4, 8)


def counts(_spec: TrialSpec) -> tuple[int, int]:
    return 16, 5


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "runs"))


def is_in_order(span: Span) -> bool:
    return 0 < span.low <= span.expected <= span.high


@pytest.mark.parametrize(("name", "num_kinds"), [("supervised", 1), ("complexmix", 2), ("s4gan", 1), ("dst_cbc", 2)])
def test_every_kind_of_phase_is_stepped_through_and_nothing_is_kept(
    name: str, num_kinds: int, small_data: Path, tmp_path: Path
) -> None:
    pace = measure(small_spec(name), small_options(small_data, tmp_path / "runs"), CPU)
    assert len(pace.steps) == num_kinds
    assert all(map(is_in_order, (*pace.steps.values(), pace.judging)))
    assert pace.num_classes == 4
    assert list(tmp_path.iterdir()) == []


def test_the_trainers_own_loop_makes_the_steps_from_the_middle_of_a_phase(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_steps, real = [], probe.train
    monkeypatch.setattr(probe, "train", lambda *given: first_steps.append(given[-1]) or real(*given))
    spec = small_spec("complexmix", num_steps=40)
    pace = measure(spec, small_options(small_data, tmp_path / "runs"), CPU)
    assert first_steps == [1, 2 + 19]  # a start of 2 steps, then 38
    assert pace.num_measured == 1  # of the start; the rest had all eight


def test_a_few_images_of_the_pool_are_labelled(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    real = probe.build_trial
    monkeypatch.setattr(
        probe, "build_trial", lambda spec, split, *rest, **more: sizes.append(split) or real(spec, split, *rest, **more)
    )
    spec = small_spec("dst_cbc", unlabeled_batch=1, labeled_batch=1, label_fraction=Fraction(1, 4))
    measure(spec, small_options(small_data, tmp_path), CPU)
    assert [len(split.unlabeled) for split in sizes] == [8]


def test_measurements_end_by_number_or_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_LEAST_SECONDS", -1.0)
    watch = probe._Stopwatch(last_step=100)
    asked = []
    for step in range(1, 12):
        watch.report({"steps_per_second": 4.0})
        asked.append(watch.stop_requested(step))
    assert asked.index(True) == 8  # the first, and eight that count
    assert set(watch.seconds) == {0.25}
    monkeypatch.setattr(probe, "_LEAST_SECONDS", 1e9)
    assert not watch.stop_requested(12)  # a machine is not always as fast: for a while it goes on
    assert watch.stop_requested(100)  # but not into the last step, after which a trial is judged
    monkeypatch.setattr(probe, "_MOST_SECONDS", -1.0)
    slow = probe._Stopwatch(last_step=100)
    slow.report({"steps_per_second": 0.1})
    assert not slow.stop_requested(1)  # one that counts is made whatever it takes
    slow.report({"steps_per_second": 0.1})
    assert slow.stop_requested(2)


def test_what_is_left_of_a_trial_is_added_up_phase_by_phase() -> None:
    # 2 steps of the start and 8 later; judged at 3, 6, 9 and 10, the teacher as well: 8 times 5 images.
    assert PACE.seconds(MIX, (16, 5), 0) == Span(
        *(pytest.approx(v) for v in (2 + 80 + 4, 4 + 160 + 8, 6 + 240 + 12))  # type: ignore[arg-type]
    )
    half = PACE.seconds(MIX, (16, 5), 5)
    assert half is not None
    assert half.expected == pytest.approx(5 * 20 + 8 / 2)


def test_a_phase_that_was_not_measured_is_not_guessed() -> None:
    only = replace(PACE, steps={FIRST: Span(1.0, 2.0, 3.0)})
    assert only.seconds(MIX, (16, 5), 0) is None


def test_seeds_and_fractions_share_a_shape_and_sizes_do_not() -> None:
    like = [MIX, MIX.model_copy(update={"seed": 3}), MIX.model_copy(update={"label_fraction": Fraction(1, 4)})]
    assert len({shape_of(spec) for spec in like}) == 1
    other = [small_spec("classmix"), small_spec("complexmix", labeled_batch=2), small_spec("complexmix")]
    assert list(shapes([*like, *other]).values()) == [MIX, *other[:2]]


def test_a_probe_says_on_what_and_when(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Probe("NVIDIA H100", counts)
    measured.add(MIX, PACE)
    found = measured(MIX, 0)
    assert found is not None
    assert found[1].startswith("probe of 8 steps on NVIDIA H100, 20")
    assert measured(small_spec("supervised"), 0) is None


def test_the_longest_opening_counts_for_every_trial_once() -> None:
    measured = Probe("cpu", counts)
    measured.add(small_spec("supervised"), replace(PACE, opening=4.0))
    measured.add(MIX, replace(PACE, opening=0.5))
    for first_step in (0, 5):
        alone, found = PACE.seconds(MIX, (16, 5), first_step), measured(MIX, first_step)
        assert alone is not None
        assert found is not None
        assert found[0].ends == pytest.approx([end + 4.0 for end in alone.ends])


def test_opening_is_measured_after_images_are_prepared(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("open_data", "opened"):
        real = getattr(probe, name)
        monkeypatch.setattr(probe, name, lambda *given, name=name, real=real: done.append(name) or real(*given))
    now = iter(range(10**6))
    monkeypatch.setattr(probe.time, "monotonic", lambda: float(next(now)))
    pace = measure(small_spec("supervised"), small_options(small_data, tmp_path), CPU)
    assert done[:2] == ["open_data", "opened"]
    assert pace.opening >= 1.0  # looks at the clock before and after


def test_a_forecast_goes_by_finished_cells_then_by_the_probe_then_by_flop(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="Supervised,ClassMix", seeds="0"), storage)
    planned[0] = finished(planned[0], storage, seconds=60.0, device="H100")

    def probed(spec: TrialSpec, _first_step: int) -> tuple[Span, str] | None:
        return None if spec.method.name == "supervised" else (Span(1.0, 2.0, 3.0), "probe")

    found = lengths(planned, storage, counts, probed=probed)
    by_row = {item.cell.row: found[item.cell.trial_id].basis for item in planned if item.state != "done"}
    assert by_row == {"Supervised": "1 finished cell on H100", "ClassMix": "probe"}
    without = lengths(planned, storage, counts)
    assert {found.basis for found in without.values()} == {
        "1 finished cell on H100",
        "FLOP, at the rate of 1 finished cell on H100",
    }


def test_rows_with_a_finished_cell_and_what_is_failed_are_not_probed(storage: Storage) -> None:
    planned = survey(DEMO.selected(rows="Supervised,ClassMix", seeds="0"), storage)
    planned[0] = finished(planned[0], storage, seconds=60.0, device="H100")
    mixes = [item for item in planned if item.cell.row == "ClassMix"]
    mixes[0] = replace(mixes[0], trial=TrialState("failed"))
    wanted = unmeasured([item for item in planned if item.cell.row != "ClassMix"] + mixes)
    assert wanted == mixes[1:]


def said_by(planned: list[PlannedCell], places: Places) -> tuple[Probe, str]:
    console = Console(file=io.StringIO(), width=200)
    found = probe_table(planned, places, counts, console)
    assert isinstance(console.file, io.StringIO)
    return found, console.file.getvalue()


def test_each_shape_is_measured_once_and_told(storage: Storage, places: dict[str, str]) -> None:
    planned = survey(small_table(), storage)
    found, said = said_by(planned, Places(places["data"], places["cache"]))
    assert said.count("probe of ") == len(shapes(item.cell.spec for item in planned))
    assert " a step" in said
    assert " an image" in said
    for item in planned:
        told = found(item.cell.spec, 0)
        assert told is not None
        assert is_in_order(told[0])
    assert not Path(storage.name).exists()


def test_without_data_it_says_so_and_measures_nothing(storage: Storage, tmp_path: Path) -> None:
    planned = survey(small_table(), storage)
    absent = [
        replace(item, cell=replace(item.cell, spec=small_spec("supervised", seed=number)))
        for number, item in enumerate(planned)
    ]
    found, said = said_by(absent, Places(str(tmp_path / "nowhere"), str(tmp_path / "cache")))
    assert "not possible, so the forecast goes by what else is known" in said
    assert str(tmp_path / "nowhere") in said
    assert found(absent[0].cell.spec, 0) is None


def test_a_pace_in_words_has_its_spread() -> None:
    said = pace_words(PACE)
    assert said == "2 s (1 – 3) a step, then 20 s (10 – 30) a step; judging 0.2 s (0.1 – 0.3) an image"


def test_a_phase_that_is_over_need_not_have_been_measured() -> None:
    later = replace(PACE, steps={LATER: PACE.steps[LATER]})
    assert later.seconds(MIX, (16, 5), 5) == PACE.seconds(MIX, (16, 5), 5)
    assert later.seconds(MIX, (16, 5), 1) is None


def test_the_labels_of_a_pool_are_judged_images_of_the_training_split() -> None:
    spec = small_spec("dst_cbc")
    phases = probe.build_method(spec, 4).phases
    free = Pace({probe._kind(phase): Span(0.0, 0.0, 0.0) for phase in phases}, Span(1.0, 1.0, 1.0), 4, 8)
    few, more = free.seconds(spec, (16, 5), 0), free.seconds(spec, (24, 5), 0)
    assert few is not None
    assert more is not None
    # Half of the images are the pool, labelled in two rounds: four more of 24 than of 16, twice.
    assert more.expected - few.expected == pytest.approx(2 * 4)


def test_what_decides_the_time_of_a_step_decides_the_shape() -> None:
    other = [
        MIX.model_copy(update={"precision": "bf16"}),
        MIX.model_copy(update={"optimizer": Adam()}),
        MIX.model_copy(update={"evaluation": MIX.evaluation.model_copy(update={"protocol": "full_whole"})}),
    ]
    assert len({shape_of(spec) for spec in (MIX, *other)}) == 4


def test_a_probe_starts_from_random_weights_whatever_the_spec_says(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "build_trial", lambda spec, *_rest, **_more: (spec, None))
    spec = MIX.model_copy(update={"initial_weights": "coco"})
    built = probe.opened(spec, small_options(small_data, tmp_path), CPU)
    assert isinstance(built, TrialSpec)
    assert built.initial_weights == "random"
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_probe_computes_with_the_threads_of_a_trial(small_data: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert probe.prepared(small_options(small_data, tmp_path)) == CPU
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_first_record_does_not_count_where_there_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def report(*given: object) -> None:
        for rate in rates:
            given[2].report({"steps_per_second": rate})  # type: ignore[attr-defined]

    monkeypatch.setattr(probe, "train", report)
    monkeypatch.setattr(probe, "enter", lambda *_given: None)
    trial = SimpleNamespace(spec=MIX, device=CPU)
    phase = Phase(0, 10)
    rates = [1.0, 2.0, 4.0]
    assert probe._step_seconds(trial, phase) == [0.5, 0.25]  # type: ignore[arg-type]
    rates = [1.0]
    assert probe._step_seconds(trial, phase) == [1.0]  # type: ignore[arg-type]
