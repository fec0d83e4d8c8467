"""What makes a done trial stale, what does not, and what accepting does to it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from results.staleness import Freshness, facts_of, find_stale, judge
from tests.results.builders import (
    ATTEMPT,
    EIGHTH,
    TableStub,
    change_sealed,
    digests,
    put_failed,
    put_partial,
    put_score,
    spec_of,
)
from trainer.code import CodeFiles, code_files, code_path
from trainer.reading import read_result
from trainer.records import (
    Acceptance,
    AcceptedChange,
    attempt_path,
    trial_path,
)
from trainer.spec import TrialSpec
from trainer.storage import Storage

SPEC = spec_of("Supervised", EIGHTH, 0)
FRESH = {
    "code": "c0de" * 16,
    "data": "da7a" * 16,
    "split": "5b11" * 16,
    "weights": "random",
    "torch": "2.11.0",
    "python": "3.11.9",
}


@dataclass(frozen=True)
class HereStub:
    """A machine that has the same things for every spec."""

    found: Mapping[str, str] = field(default_factory=lambda: dict(FRESH))

    def facts(self, spec: TrialSpec) -> Mapping[str, str]:
        return self.found


def here(**changed: str) -> HereStub:
    return HereStub({**FRESH, **changed})


@pytest.fixture
def storage(tmp_path) -> Storage:
    storage = Storage(str(tmp_path))
    put_score(storage, "Supervised", EIGHTH, 0, 0.5)
    return storage


def judged(storage: Storage, machine: HereStub) -> Freshness:
    result = read_result(storage, SPEC.trial_id)
    assert result is not None
    return judge(storage, SPEC, result, machine)


def put_versions(storage: Storage, device: str = "cpu", **versions: str) -> None:
    path = attempt_path(SPEC.trial_id, ATTEMPT, "manifest.json")
    change_sealed(storage, path, lambda body: body.update(versions=versions, device=device))


def accept(storage: Storage, *accepted: dict[str, str], attempt: str = ATTEMPT) -> None:
    changes = tuple(AcceptedChange(attempt=attempt, accepted=3.0, by="ada", why="seen", facts=f) for f in accepted)
    record = Acceptance(trial_id=SPEC.trial_id, changes=changes)
    storage.write(trial_path(SPEC.trial_id, "accepted.json"), record.sealed())


def test_nothing_is_stale_where_all_is_as_it_was(storage: Storage) -> None:
    assert judged(storage, here()) == Freshness(ATTEMPT, (), (), ())


@pytest.mark.parametrize("name", ["code", "data", "split"])
def test_another_digest_is_named_from_what_to_what(name: str, storage: Storage) -> None:
    before = getattr(digests(), name)
    assert judged(storage, here(**{name: "f" * 64})).text == f"{name} {before[:12]} -> ffffffffffff"


@pytest.mark.parametrize(
    ("touched", "told"),
    [
        (1, " (loop.py)"),
        (3, " (loop.py, losses.py, schedules.py)"),
        (4, " (loop.py, losses.py, schedules.py and 1 more)"),
    ],
)
def test_files_of_the_code_that_changed_are_named(touched: int, told: str, storage: Storage) -> None:
    now = code_files()
    others = dict.fromkeys(("loop.py", "losses.py", "schedules.py", "trial.py")[:touched], "0" * 64)
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted({**now, **others}.items()))
    code = hashlib.sha256(lines.encode()).hexdigest()
    storage.write(code_path(code), CodeFiles(digest=code, files={**now, **others}).sealed())
    change_sealed(storage, trial_path(SPEC.trial_id, "result.json"), lambda body: body["digests"].update(code=code))
    assert judged(storage, here()).text == f"code {code[:12]} -> c0dec0dec0de{told}"


def test_all_that_changed_is_named_together(storage: Storage) -> None:
    found = judged(storage, here(torch="2.12.0", weights="ab" * 32))
    assert found.text == "weights random -> abababababab; torch 2.11.0 -> 2.12.0"


@pytest.mark.parametrize(
    ("name", "before", "now", "is_stale"),
    [
        ("torch", "2.11.0+cu130", "2.11.0", False),
        ("torch", "2.11.0", "2.11.1", True),
        ("python", "3.11.2", "3.11.9", False),
        ("python", "3.11.9", "3.12.0", True),
        ("numpy", "2.4.5", "2.4.6", True),
        ("pillow", "12.0.0", "13.0.0", True),
    ],
)
def test_releases_count_and_builds_do_not(name: str, before: str, now: str, is_stale: bool, storage: Storage) -> None:
    put_versions(storage, **{name: before})
    assert bool(judged(storage, here(**{name: now})).changes) == is_stale


@pytest.mark.parametrize(
    ("device", "before", "now", "is_stale"),
    [
        ("NVIDIA H100", "12.8", "13.0", True),
        ("NVIDIA H100", "12.8", "none", False),
        ("cpu (x86_64)", "12.8", "13.0", False),
    ],
)
def test_cuda_counts_for_trials_on_a_gpu_where_there_is_one_here_too(
    device: str, before: str, now: str, is_stale: bool, storage: Storage
) -> None:
    put_versions(storage, device, cuda=before)
    assert bool(judged(storage, here(cuda=now)).changes) == is_stale


def test_what_is_not_here_is_not_checked_and_makes_nothing_stale(storage: Storage) -> None:
    found = judged(storage, HereStub({"code": FRESH["code"]}))
    assert (found.text, found.unchecked) == ("", ("data", "split", "weights", "torch", "python"))


def test_without_a_manifest_versions_are_not_known(storage: Storage) -> None:
    storage.remove(attempt_path(SPEC.trial_id, ATTEMPT, "manifest.json"))
    result = read_result(storage, SPEC.trial_id)
    assert result is not None
    assert facts_of(storage, result).keys() == {"code", "data", "split", "weights"}


# --- accepted -----------------------------------------------------------------------------------------------------


def test_an_accepted_change_counts_no_more_but_is_still_told(storage: Storage) -> None:
    accept(storage, {"code": "f" * 64})
    found = judged(storage, here(code="f" * 64))
    assert (found.text, [change.name for change in found.accepted]) == ("", ["code"])


def test_a_further_change_counts_again(storage: Storage) -> None:
    accept(storage, {"code": "f" * 64})
    assert judged(storage, here(code="e" * 64)).text == "code c0dec0dec0de -> eeeeeeeeeeee"
    assert judged(storage, here(code="f" * 64, torch="2.12.0")).text == "torch 2.11.0 -> 2.12.0"


def test_what_was_accepted_before_stays_accepted(storage: Storage) -> None:
    accept(storage, {"code": "f" * 64}, {"code": "e" * 64})
    assert [judged(storage, here(code=letter * 64)).text for letter in "fe"] == ["", ""]


def test_what_was_accepted_of_another_result_does_not_count(storage: Storage) -> None:
    accept(storage, {"code": "f" * 64}, attempt="20250101T000000-00000009")
    assert judged(storage, here(code="f" * 64)).changes


@pytest.mark.parametrize("content", [b"{}", b"\xff"])
def test_a_damaged_acceptance_accepts_nothing(content: bytes, storage: Storage) -> None:
    storage.write(trial_path(SPEC.trial_id, "accepted.json"), content)
    assert judged(storage, here(code="f" * 64)).changes


def test_the_acceptance_of_another_trial_accepts_nothing(storage: Storage) -> None:
    accept(storage, {"code": "f" * 64})
    path = trial_path(SPEC.trial_id, "accepted.json")
    change_sealed(storage, path, lambda body: body.update(trial_id="other-1"))
    assert judged(storage, here(code="f" * 64)).changes


# --- a table ------------------------------------------------------------------------------------------------------


def test_of_a_table_only_done_trials_that_differ_are_named(storage: Storage) -> None:
    table = TableStub(fractions=(EIGHTH,))
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.5, code="0" * 64)
    put_failed(storage, spec_of("Supervised", EIGHTH, 1))
    put_partial(storage, spec_of("Supervised", EIGHTH, 2))
    storage.write(trial_path(spec_of("ComplexMix", EIGHTH, 1).trial_id, "result.json"), b"{}")
    other = spec_of("ComplexMix", EIGHTH, 0).trial_id
    assert find_stale(storage, table, here()) == {other: "code 000000000000 -> c0dec0dec0de"}
