"""What is measured of trials that share a device, what is best, and that nothing is guessed. No clock is looked at."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from experiments import TABLES
from experiments.table import find_table
from orchestrator import sharing as sharing_module
from orchestrator.bench import sharing as bench
from orchestrator.bench.measuring import Setting
from orchestrator.bench.sharing import (
    Shared,
    chunk_starts,
    longest_phase,
    measure_fitting,
    measure_together,
    sharing_of,
)
from orchestrator.cli import plan_view
from orchestrator.cli.app import app
from orchestrator.cli.common import Places
from orchestrator.cli.plan_view import print_sharing, shapes_of
from orchestrator.cli.probing import probe_sharing, steps_between_looks
from orchestrator.cost import memory_bytes
from orchestrator.forecast import Span
from orchestrator.plan import survey
from orchestrator.probe import Pace, Probe
from orchestrator.sharing import (
    Arrangement,
    Sharing,
    SharingBook,
    Together,
    arrangements,
    busiest,
    lines,
    options_of,
    processor,
    sentence,
    shape_of,
    that_fit,
    torch_release,
)
from tests.contracts import small_options, small_spec
from tests.orchestrator.conftest import small_table
from trainer.errors import SetupError
from trainer.methods.base import Phase
from trainer.reading import TrialState
from trainer.spec import RunOptions, TimmNetwork, TrialSpec
from trainer.storage import Storage

CPU = Setting(torch.device("cpu"), rounds=3)
GIB = 2**30
WIDE = {"COLUMNS": "400"}
TABLE1 = find_table("table1", TABLES)


def measured(*ratios: float | tuple[float, float, float], cpus: int = 0, **more: object) -> Sharing:
    """One trial alone, and two, then four at once with these ratios and, where given, their quartiles."""
    spreads = [(1.0, 1.0, 1.0), *(r if isinstance(r, tuple) else (r - 0.01, r, r + 0.01) for r in ratios)]
    together = tuple(
        Together(at_once=count, threads=max(1, cpus // count), seconds=ratio / 10, ratio=ratio, low=low, high=high)
        for count, (low, ratio, high) in zip((1, 2, 4), spreads, strict=False)
    )
    fields = {"shape": "a shape", "method": "classmix", "device": "NVIDIA H100", "cpus": cpus,
              "torch": torch_release(), "date": "2026-11-28", "rounds": 7, "together": together}  # fmt: skip
    return Sharing.model_validate({**fields, **more})


# --- what is best -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratios", "best"),
    [
        ((0.71, 0.60), 4),
        ((0.71, 0.67), 2),  # within 0.05 the fewer
        ((0.71, 0.65), 4),
        ((0.71, 0.90), 2),
        ((1.2, 1.4), 1),
        (((0.8, 0.97, 1.01), 1.3), 1),  # its spread reaches one alone
        (((0.8, 0.9, 0.99), 1.3), 2),
        ((0.97, 0.98), 1),  # hardly less than alone
        (((0.5, 0.7, 1.1), 0.8), 4),
    ],
)
def test_the_fewest_that_take_hardly_more_than_the_best_beyond_the_spread(ratios: Sequence[float], best: int) -> None:
    assert measured(*ratios).best.at_once == best


def test_the_options_are_those_of_run() -> None:
    told = CliRunner().invoke(app, ["run", "--help"], env=WIDE).output
    found = [options_of(measured(0.7, 0.5)), options_of(measured(0.7)), options_of(measured(1.5))]
    assert found == ["--gpus-per-worker 0.25", "--gpus-per-worker 0.5", "--gpus-per-worker 1"]
    on_cpus = [options_of(measured(0.7, 0.5, cpus=4)), options_of(measured(0.7, 0.9, cpus=4)),
               options_of(measured(1.2, 1.3, cpus=4))]  # fmt: skip
    assert on_cpus == ["--cpus-per-worker 1", "--cpus-per-worker 2", "--cpus-per-worker 4"]
    assert all(option.split()[0] in told for option in [*found, *on_cpus])


# --- what is measured ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpus", "expected"),
    [(1, [(1, 1)]), (2, [(1, 2), (2, 1)]), (3, [(1, 2), (2, 1)]), (4, [(1, 4), (2, 2), (4, 1)]),
     (64, [(1, 4), (2, 2), (4, 1)])],
)  # fmt: skip
def test_on_cpus_the_same_cpus_are_shared_evenly(cpus: int, expected: list[tuple[int, int]]) -> None:
    assert arrangements(cpus=cpus, on_gpu=False) == [Arrangement(*one) for one in expected]


def test_on_a_gpu_one_two_and_four_share_it_whatever_the_cpus() -> None:
    assert arrangements(cpus=2, on_gpu=True) == [Arrangement(1, 1), Arrangement(2, 1), Arrangement(4, 1)]


def test_no_more_at_once_than_counted_memory_allows() -> None:
    spec, wanted = TABLE1.cells()[0].spec, arrangements(cpus=1, on_gpu=True)
    needed = memory_bytes(spec)
    assert needed is not None
    each = 1.3 * needed + 0.6 * GIB
    assert that_fit(wanted, spec, 4 * each) == (wanted, "")
    fitting, why = that_fit(wanted, spec, 4 * each - 1)
    assert [way.at_once for way in fitting] == [1, 2]
    assert re.fullmatch(r"four at once may need \d+\.\d GiB of \d+\.\d that are free", why)
    assert that_fit(wanted, spec, each - 1)[0] == []
    unknown = small_spec("classmix", network=TimmNetwork(backbone="resnet18"))
    assert that_fit(wanted, unknown, 1e15) == ([], "the memory of this network was never counted")


def test_seeds_fractions_and_methods_share_a_shape_and_what_a_device_is_busy_with_does_not() -> None:
    mix = small_spec("classmix")
    assert shape_of(mix) == shape_of(small_spec("supervised", seed=4))
    others = [small_spec("classmix", labeled_batch=2), small_spec("classmix", precision="bf16"),
              small_spec("classmix", dataset=mix.dataset.model_copy(update={"height": 16})),
              small_spec("classmix", network=mix.network.model_copy(update={"batch_norm": "frozen"}))]  # fmt: skip
    assert len({shape_of(spec) for spec in (mix, *others)}) == 5
    assert "resnet101" in shape_of(TABLE1.cells()[0].spec)
    assert shape_of(TABLE1.cells()[0].spec).endswith("at 512 x 1024, batch 2 + 2, float32")


def test_the_method_with_most_to_compute_speaks_for_a_shape() -> None:
    specs = [small_spec(name) for name in ("supervised", "classmix", "supervised", "complexmix")]
    assert busiest(specs) == {shape_of(specs[0]): specs[1]}


def test_chunks_lie_in_the_second_half_where_records_are_due_and_leave_the_last_step() -> None:
    for first, number, steps in ((0, 300, 20), (75, 225, 20), (3, 9, 2), (2, 4, 1), (7, 41, 10)):
        starts = chunk_starts(Phase(first, number), steps)
        assert len(starts) >= 1
        for start in starts:
            assert start % steps == 0
            assert first + number // 2 <= start
            assert start + steps < first + number
    assert list(chunk_starts(Phase(0, 1), 1)) == [0]
    assert longest_phase([Phase(0, 3), Phase(3, 9), Phase(12, 9)]).first_step == 3


class Trials:
    """In the place of processes: their seconds a step, by how many are told at once; notes what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: Sequence[float]) -> None:
        self.asked: list[tuple[int, int]] = []
        self.steps: list[int] = []
        self._seconds = iter(seconds)
        monkeypatch.setattr(bench, "trials_at_once", self._open)
        monkeypatch.setattr(bench, "seconds_together", self._take)

    def _open(self, shared: Shared, _options: RunOptions, _setting: Setting, count: int) -> "Trials":
        self.count = count
        self.steps.append(shared.steps)
        return self

    def __enter__(self) -> list[int]:
        return list(range(self.count))

    def __exit__(self, *_error: object) -> None:
        pass

    def _take(self, trials: Sequence[int], threads: int) -> float:
        self.asked.append((len(trials), threads))
        return next(self._seconds)


def test_arrangements_take_turns_after_a_round_that_does_not_count_and_time_is_per_trial(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = Trials(monkeypatch, [9.0, 9.0, 1.0, 1.4, 2.0, 3.0, 1.0, 1.6])
    wanted = [Arrangement(1, 2), Arrangement(2, 1)]
    spec = small_spec("classmix")
    taken = measure_together(Shared("x", spec, 5), wanted, small_options(small_data, tmp_path), CPU)
    assert trials.asked == [(1, 2), (2, 1)] * 4
    assert trials.count == 2
    assert taken == {wanted[0]: [1.0, 2.0, 1.0], wanted[1]: [0.7, 1.5, 0.8]}
    found = sharing_of(spec, taken, CPU.device)
    assert [(part.at_once, part.threads) for part in found.together] == [(1, 2), (2, 1)]
    assert found.together[1].ratio == pytest.approx(0.75)  # 0.7, 0.75, 0.8: round by round
    assert (found.together[1].low, found.together[1].high) == pytest.approx((0.725, 0.775))
    assert (found.device, found.cpus, found.torch, found.rounds) == (processor(), 2, torch_release(), 3)
    assert (found.shape, found.method) == (shape_of(spec), "classmix")


def test_without_room_for_one_nothing_is_started_and_with_room_for_one_it_says_why(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, options = small_spec("classmix"), small_options(small_data, tmp_path)
    trials = Trials(monkeypatch, [1.0] * 8)
    monkeypatch.setattr(bench, "cpus_here", lambda: 2)
    with pytest.raises(SetupError, match="one at once may need 0.6 GiB of 0.1"):
        measure_fitting(Shared("x", spec, 5), options, CPU, free=0.1 * GIB)
    assert trials.asked == []
    found = measure_fitting(Shared("x", spec, 5), options, CPU, free=1.0 * GIB)
    assert trials.asked == [(1, 2)] * 4
    assert found.left_out == "two at once may need 1.2 GiB of 1.0 that are free"
    assert "one trial at a time alone was measured: two at once may need" in sentence(found)


@pytest.mark.parametrize("name", ["supervised", "complexmix", "s4gan", "dst_cbc"])
def test_every_method_goes_on_for_longer_than_its_phase_and_is_never_judged(
    name: str, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    firsts, real = [], bench.train
    monkeypatch.setattr(bench, "train", lambda *given: firsts.append(given[-1]) or real(*given))
    monkeypatch.setattr("trainer.loop.judge", lambda *_given: pytest.fail("the networks were judged"))
    trial = bench.opened(small_spec(name, num_steps=20), small_options(small_data, tmp_path / "runs"), CPU.device)
    call = bench.busiest_chunks(trial, 1)
    for _ in range(12):
        call()
    trial.streams.close()
    longest = longest_phase(trial.method.phases)
    assert set(firsts) == set(chunk_starts(longest, 1))
    assert list(tmp_path.iterdir()) == []


# --- kept ---------------------------------------------------------------------------------------------------------


def test_the_newest_measurement_of_a_shape_and_device_is_kept(tmp_path: Path) -> None:
    book = SharingBook(tmp_path)
    assert book.read() == []
    older, newer = measured(0.9, date="2026-11-27"), measured(0.7)
    others = [measured(0.8, device="NVIDIA A100"), measured(0.8, shape="other"), measured(0.6, cpus=2)]
    for one in (older, newer, *others):
        book.keep(one)
    about = book.about(["a shape", "nobody's"])
    assert about["a shape"] == [others[0], newer, others[2]]  # GPUs first
    assert about["nobody's"] == []


def test_another_release_of_torch_and_a_damaged_file_say_nothing(tmp_path: Path) -> None:
    book = SharingBook(tmp_path)
    book.keep(measured(0.7, torch="1.0.0"))
    assert book.read() == []
    path = Path(book.keep(measured(0.7)))
    assert book.read() == [measured(0.7)]
    path.write_bytes(path.read_bytes().replace(b"0.7", b"0.2"))
    assert book.read() == []


def test_the_release_of_torch_is_known_without_loading_it() -> None:
    assert torch.__version__.partition("+")[0] == torch_release().partition("+")[0]


# --- said ---------------------------------------------------------------------------------------------------------


def test_a_gpu_is_told_with_ratios_spread_options_and_date() -> None:
    assert sentence(measured(0.71, (0.60, 0.62, 0.7))) == (
        "on NVIDIA H100 two trials at once take 0.71 (0.70 – 0.72) of the time per trial of one alone, four 0.62 "
        "(0.60 – 0.70): four at once are best, --gpus-per-worker 0.25 (measured 2026-11-28 with classmix)"
    )
    assert ": one alone is best, --gpus-per-worker 1 (" in sentence(measured(1.1, 1.2))
    assert sentence(measured(0.7, left_out="no room")).endswith("with classmix; no room)")


def test_cpus_are_told_with_the_threads_of_each() -> None:
    assert sentence(measured(0.6, cpus=2, device="Some CPU")) == (
        "on 2 CPUs (Some CPU) two trials at once with 1 thread each take 0.60 (0.59 – 0.61) of the time per trial of "
        "one alone with 2 threads: two at once are best, --cpus-per-worker 1 (measured 2026-11-28 with classmix)"
    )


def test_what_was_not_measured_is_said_with_the_command() -> None:
    (line,) = lines({"a shape": ["A", "B"]}, {"a shape": []}, workers=1)
    assert line.startswith("sharing of a shape: not measured; `mixgrid plan --probe`")
    both = lines({"a shape": ["A"], "b": ["B", "C"]}, {"a shape": [measured(0.7)], "b": []}, workers=1)
    assert both[0].startswith("sharing of a shape (A): on NVIDIA H100")
    assert both[1].startswith("sharing of b (B, C): not measured")


def test_several_ranks_share_no_gpu() -> None:
    told = lines({"a shape": ["A"]}, {"a shape": [measured(0.7)]}, workers=2)
    assert told[-1] == "a share of a GPU goes with --workers 1 only, not with --workers 2"
    assert len(lines({"a shape": ["A"]}, {"a shape": [measured(0.7, cpus=2)]}, workers=2)) == 1


# --- plan ---------------------------------------------------------------------------------------------------------


def test_only_what_is_still_to_be_trained_is_asked_about(tmp_path: Path) -> None:
    planned = survey(small_table(), Storage(str(tmp_path)))
    (rows,) = shapes_of(planned).values()
    assert rows == ["Supervised", "ComplexMix"]
    planned[0] = replace(planned[0], trial=TrialState("done"))
    assert list(shapes_of(planned).values()) == [["ComplexMix"]]
    planned[1] = replace(planned[1], trial=TrialState("failed"))
    console = Console(file=io.StringIO())
    print_sharing(console, shapes_of(planned), {}, 1)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""


def test_a_probe_measures_the_tables_busiest_method_and_keeps_it_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = survey(small_table(), Storage(str(tmp_path / "runs")))
    mix = planned[1].cell.spec
    asked = []

    def fitting(shared: Shared, options: RunOptions, setting: Setting) -> Sharing:
        asked.append((shared.spec, shared.steps, options.data, setting.rounds))
        return measured(0.7, shape=shape_of(shared.spec))

    monkeypatch.setattr(bench, "measure_fitting", fitting)
    probe = Probe("cpu", lambda _spec: (12, 4))
    probe.add(mix, Pace({((), True): Span(0.1, 0.25, 0.3), (None, True): Span(0.1, 0.2, 0.3)}, Span(1, 1, 1), 4, 8))
    probe_sharing(planned, Places("data", str(tmp_path / "cache")), probe, Console(file=io.StringIO()), rounds=2)
    assert asked == [(mix, 4, str(Path("data").absolute()), 2)]
    assert [one.shape for one in SharingBook(tmp_path / "cache").read()] == [shape_of(mix)]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("seconds", "steps"), [(None, 10), (0.25, 4), (0.001, 50), (4.0, 1)])
def test_about_a_second_lies_between_two_looks(seconds: float | None, steps: int) -> None:
    assert steps_between_looks(seconds) == steps


def test_slow_steps_and_trials_that_die_are_told_and_keep_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = survey(small_table(), Storage(str(tmp_path / "runs")))
    places = Places("data", str(tmp_path / "cache"))

    def dies(*_given: object) -> Sharing:
        raise RuntimeError("one of 4 trials at once ended")

    monkeypatch.setattr(bench, "measure_fitting", dies)
    for seconds, words in ((6.0, "a step takes 6 s here"), (0.1, "was not measured: one of 4 trials")):
        probe, console = Probe("cpu", lambda _spec: (12, 4)), Console(file=io.StringIO(), width=300)
        span = Span(seconds, seconds, seconds)
        probe.add(planned[1].cell.spec, Pace({(None, True): span}, Span(1, 1, 1), 4, 8))
        probe_sharing(planned, places, probe, console)
        assert isinstance(console.file, io.StringIO)
        assert words in console.file.getvalue()
    assert SharingBook(tmp_path / "cache").read() == []


def test_plan_reads_what_was_measured_and_says_it_in_words_and_as_json(
    table_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec: TrialSpec = small_table().cells()[0].spec
    words = ["plan", f"{table_file}:SMALL", "--storage", str(tmp_path / "runs"), "--data", str(tmp_path), "--cache",
             str(tmp_path / "cache")]  # fmt: skip
    assert "not measured; `mixgrid plan --probe`" in CliRunner(env=WIDE).invoke(app, words).output
    SharingBook(tmp_path / "cache").keep(measured(0.7, 0.5, shape=shape_of(spec)))
    told = CliRunner(env=WIDE).invoke(app, words)
    assert told.exit_code == 0, told.output
    assert "four at once are best, --gpus-per-worker 0.25" in told.output
    report = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    (sharing,) = report["sharing"]
    assert (sharing["shape"], sharing["rows"]) == (shape_of(spec), ["Supervised", "ComplexMix"])
    (one,) = sharing["measured"]
    assert (one["best_at_once"], one["options"]) == (4, "--gpus-per-worker 0.25")
    assert [part["ratio"] for part in one["together"]] == [1.0, 0.7, 0.5]
    assert report["cells"] == {"missing": 2}
    assert {line["row"] for line in report["forecast"]} == {"Supervised", "ComplexMix"}
    assert report["finished_after_hours"] == {"1": None, "8": None}
    assert "2 seeds" not in json.dumps(report["findings"])
    assert any(finding["kind"] == "seeds" for finding in report["findings"])


def test_what_a_probe_says_does_not_spoil_the_json(
    table_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_view, "probe_sharing", lambda *given: given[-1].print("sharing of it was not measured"))
    words = ["plan", table_file, "--storage", str(tmp_path / "runs"), "--data", str(tmp_path / "data"), "--probe",
             "--cache", str(tmp_path / "cache"), "--json", "--devices", "1"]  # fmt: skip
    ran = CliRunner(env=WIDE).invoke(app, words)
    assert ran.exit_code == 0, ran.output
    assert "sharing of it was not measured" in ran.stderr
    (hours,) = json.loads(ran.stdout)["finished_after_hours"].values()
    assert 0 < hours[0] <= hours[1] <= hours[2]


def test_the_processor_has_a_name() -> None:
    assert processor().strip() == processor() != ""
    assert sharing_module.cpus_here() >= 1
