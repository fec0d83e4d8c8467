"""A table in one archive: the same bytes again, nothing secret, and redrawn where there is no torch and no Ray."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from experiments import TABLES
from experiments.table import find_table
from results.aggregate import Selection
from results.bundle import Bundle, bundle
from results.bundle_code import closure, imports_of, requirements
from results.compute import compute_table
from results.redraw import changed_files, differences, main, redraw
from results.table_data import TableData, table_data
from results.tables import format_table
from tests.results.builders import (
    ATTEMPT,
    EIGHTH,
    RowStub,
    TableStub,
    change_sealed,
    put_failed,
    put_partial,
    put_score,
    read,
    spec_of,
)
from trainer.reading import read_manifests, trial_state
from trainer.records import (
    Acceptance,
    AcceptedChange,
    Ending,
    Manifest,
    attempt_path,
    superseded_path,
    trial_path,
)
from trainer.storage import Storage

TABLE = TableStub(
    rows=(RowStub("Supervised"), RowStub("ComplexMix", 2, "best", "teacher")), published=None, overrides=(("a", [1]),)
)
FILES = {"csv": "table.csv", "csv-long": "table-long.csv", "latex": "table.tex", "markdown": "table.md"}
FIRST, FAILED, HALF, TRIED = (spec_of("Supervised", EIGHTH, seed) for seed in range(4))
STALE = {FIRST.trial_id: "code a -> b"}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Trials that are done, accepted, trained twice, failed, half done, damaged and only tried."""
    storage = Storage(str(tmp_path / "runs"))
    put_score(storage, "Supervised", EIGHTH, 0, 0.5)
    storage.write(superseded_path(FIRST.trial_id, "a"), storage.read(trial_path(FIRST.trial_id, "result.json")))
    change = AcceptedChange(attempt=ATTEMPT, accepted=1.0, by="ada", why="see /home/ada/why.txt", facts={})
    acceptance = Acceptance(trial_id=FIRST.trial_id, changes=(change,))
    storage.write(trial_path(FIRST.trial_id, "accepted.json"), acceptance.sealed())
    put_failed(storage, FAILED)
    path = trial_path(FAILED.trial_id, "failure.json")
    change_sealed(
        storage, path, lambda b: b.update(message="no /home/ada/data/x.png on node-a", trace_tail="/home/ada")
    )
    put_partial(storage, HALF)
    put_ending(storage)
    put_score(storage, "ComplexMix", EIGHTH, 0, 0.625)
    put_score(storage, "ComplexMix", EIGHTH, 1, 0.75)
    storage.write(trial_path(spec_of("ComplexMix", EIGHTH, 2).trial_id, "result.json"), b"rotten")
    tried = spec_of("ComplexMix", TABLE.fractions[1], 0)
    storage.write(attempt_path(tried.trial_id, ATTEMPT, "log.txt"), b"secret log")
    for spec in (FIRST, HALF):
        manifest = attempt_path(spec.trial_id, ATTEMPT, "manifest.json")
        where = {"options": {"data": "/home/ada/data"}, "rank_hosts": ["node-a", "node-b (10.0.0.7)"]}
        change_sealed(storage, manifest, lambda body, where=where: body.update(where))
    storage.write(trial_path(FIRST.trial_id, "weights.pt"), b"weights")
    return storage


def put_ending(storage: Storage) -> None:
    ending = Ending(
        trial_id=HALF.trial_id,
        attempt=ATTEMPT,
        rank=0,
        kind="raised",
        message="OSError: /home/ada/data is away",
        trace_tail="/home/ada",
        step=10,
        time=1.0,
    )
    storage.write(attempt_path(HALF.trial_id, ATTEMPT, "ended-0000.json"), ending.sealed())


def gathered(storage: Storage, **options: bool) -> Bundle:
    return bundle(storage, TABLE, FILES, running=(HALF.trial_id,), stale=STALE, **options)


def unpacked(found: Bundle, folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(found.packed())) as archive:
        archive.extractall(folder)
    return folder / "stub"


def test_what_is_printed_in_a_bundle_is_what_the_storage_prints(storage: Storage) -> None:
    frames = read(storage, TABLE, running=(HALF.trial_id,), stale=STALE)
    table = compute_table(frames, TABLE, Selection(), by_row={"ComplexMix": Selection("best", "teacher")})
    found = gathered(storage)
    for form, name in FILES.items():
        assert found.files[f"printed/{name}"].decode() == format_table(table, form)
    assert (found.num_done, found.num_trials) == (4, 12)


def test_the_same_records_give_the_same_archive(storage: Storage, tmp_path: Path) -> None:
    assert gathered(storage).packed() == gathered(storage).packed()
    with zipfile.ZipFile(io.BytesIO(gathered(storage).packed())) as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert all(name.startswith("stub/") for name in names)


def test_records_of_every_kind_are_in_it_and_nothing_else(storage: Storage) -> None:
    names = {name.removeprefix("records/trials/") for name in gathered(storage).files if name.startswith("records/")}
    assert f"{FIRST.trial_id}/superseded/a.json" in names
    assert f"{FIRST.trial_id}/accepted.json" in names
    assert f"{HALF.trial_id}/attempts/{ATTEMPT}/checkpoint-00000010/commit.json" in names
    assert f"{HALF.trial_id}/attempts/{ATTEMPT}/ended-0000.json" in names
    assert not [name for name in names if name.endswith((".pt", ".jsonl", ".txt", ".png"))]


def test_a_redrawn_bundle_is_identical_and_says_so(
    storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = unpacked(gathered(storage), tmp_path)
    assert redraw(folder) == {name: (folder / "printed" / name).read_bytes() for name in FILES.values()}
    assert main(folder) == 0
    told = capsys.readouterr().out
    assert told.count(": identical") == len(FILES)
    assert (folder / "redrawn" / "table.tex").read_bytes() == (folder / "printed" / "table.tex").read_bytes()


def test_a_file_that_was_changed_is_named_with_its_lines(
    storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = unpacked(gathered(storage), tmp_path)
    path = folder / "printed" / "table.csv"
    path.write_text(path.read_text().replace("0.5", "0.9", 1))
    assert main(folder) == 1
    told = capsys.readouterr().out
    assert "printed/table.csv was changed" in told
    assert "table.csv: differs from what was printed" in told
    assert "-Supervised,last,student,64x128,0.9" in told
    assert "+Supervised,last,student,64x128,0.5" in told


def test_a_record_that_was_changed_shows_in_the_table(storage: Storage, tmp_path: Path) -> None:
    folder = unpacked(gathered(storage), tmp_path)
    record = folder / "records" / trial_path(FIRST.trial_id, "result.json")
    record.write_text(record.read_text().replace('"mean_iou": 0.5', '"mean_iou": 0.6'))
    assert list(changed_files(folder)) == [f"records/{trial_path(FIRST.trial_id, 'result.json')} was changed"]
    assert main(folder) == 1
    record.unlink()
    assert [text.rpartition(" ")[2] for text in changed_files(folder)] == ["gone"]


def test_files_that_differ_in_their_line_ends_alone_differ() -> None:
    assert differences(b"a\n", b"a") == ["the ends of lines"]
    assert differences(b"a\n", b"a\n") == []


_BLOCKED = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "ray", "mlflow", "experiments", "orchestrator", "PIL"):
            raise ImportError("this door is shut: " + name)
sys.meta_path.insert(0, Blocker())
sys.path[:] = [place for place in sys.path if "site-packages" in place or "lib" in place]
sys.path.insert(0, ".")
from results.redraw import main
import results, trainer
assert results.__file__.startswith(sys.argv[1]) and trainer.__file__.startswith(sys.argv[1])
sys.exit(main())
"""


def test_it_is_redrawn_by_its_own_code_without_torch_ray_or_the_rooms_around(storage: Storage, tmp_path: Path) -> None:
    folder = unpacked(gathered(storage), tmp_path / "elsewhere")
    ran = subprocess.run(
        [sys.executable, "-I", "-c", _BLOCKED, str(folder)], capture_output=True, text=True, cwd=folder, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count(": identical") == len(FILES)


# --- what is in it ------------------------------------------------------------------------------------------------


def test_the_code_is_what_redrawing_imports_and_its_requirements_are_pinned() -> None:
    code = closure()
    assert {"results/redraw.py", "results/tables.py", "trainer/records.py", "trainer/spec/trial.py"} <= code.keys()
    assert not [name for name in code if name.startswith(("trainer/data", "trainer/models", "results/mask"))]
    pinned = requirements(code).splitlines()
    assert {line.partition("==")[0] for line in pinned} >= {"pandas", "pyarrow", "pydantic"}
    assert not {"torch", "ray", "mlflow", "numpy"} & {line.partition("==")[0] for line in pinned} - {"numpy"}


def test_imports_are_found_wherever_they_stand() -> None:
    source = b"import a.b\nfrom c import d\ndef f():\n    from e.g import h\nfrom . import i\n"
    assert imports_of(source) == {"a.b", "c", "c.d", "e.g", "e.g.h"}


@pytest.mark.parametrize("name", TABLES)
def test_every_declared_table_is_the_same_as_data(name: str) -> None:
    table = find_table(name, TABLES)
    data = TableData.model_validate_json(table_data(table).model_dump_json())
    assert [(c.row, c.label_fraction, c.seed, c.trial_id) for c in data.cells()] == [
        (c.row, c.label_fraction, c.seed, c.trial_id) for c in table.cells()
    ]
    assert (data.name, data.fractions, data.seeds, data.published) == (
        table.name, table.fractions, table.seeds, table.published,
    )  # fmt: skip
    assert [(row.label, row.group, row.selection, row.reported_network) for row in data.rows] == [
        (row.label, row.group, row.selection, row.reported_network) for row in table.rows
    ]


def test_sums_cover_every_file(storage: Storage) -> None:
    files = gathered(storage).files
    listed = {line.partition("  ")[2] for line in files["SHA256SUMS"].decode().splitlines()}
    assert listed == {name for name in files if not name.endswith("/")} - {"SHA256SUMS"}


# --- what it reveals ----------------------------------------------------------------------------------------------

SECRETS = ("node-a", "/home/ada", "node-b", "10.0.0.7", "ada")


def test_what_is_revealed_is_said(storage: Storage) -> None:
    found = gathered(storage)
    assert found.reveals == (
        "manifests name the machines: 10.0.0.7, node-a, node-b",
        "manifests name folders, and with them perhaps users: /home/ada/data",
        "records of what was accepted name: ada",
    )
    assert all(line in found.files["README.md"].decode() for line in found.reveals)


def test_an_anonymous_bundle_names_nobody_and_is_identical_when_redrawn(storage: Storage, tmp_path: Path) -> None:
    found = gathered(storage, is_anonymous=True)
    told = [name for name, content in found.files.items() if any(s.encode() in content for s in SECRETS[:4])]
    assert told == []
    assert found.reveals == ()
    assert b'"by": "ada"' not in b"".join(found.files.values())
    folder = unpacked(found, tmp_path)
    assert main(folder) == 0
    records = Storage(str(folder / "records"))
    (manifest,) = read_manifests(records, FIRST.trial_id)[0]
    assert (manifest.host, manifest.pid, manifest.options) == ("withheld", 0, {})
    assert trial_state(records, FAILED.trial_id).detail == "non_finite_loss: no withheld on withheld"
    assert (folder / "records" / trial_path(FIRST.trial_id, "result.json")).read_bytes() == storage.read(
        trial_path(FIRST.trial_id, "result.json")
    )


def test_a_damaged_manifest_does_not_slip_through(storage: Storage) -> None:
    path = attempt_path(FIRST.trial_id, ATTEMPT, "manifest.json")
    storage.write(path, storage.read(path).replace(b'"pid": 1', b'"pid": 2'))
    found = gathered(storage, is_anonymous=True)
    assert found.files[f"records/{path}"] == b"withheld: it could not be read\n"


def test_a_key_in_a_url_is_refused_with_its_place(storage: Storage) -> None:
    path = attempt_path(FIRST.trial_id, ATTEMPT, "manifest.json")
    change_sealed(storage, path, lambda body: body.update(options={"storage": "s3://key:secret@bucket/runs"}))
    with pytest.raises(ValueError, match="manifest.json holds a URL with a key") as refused:
        gathered(storage)
    assert "secret" not in str(refused.value).replace("holds a URL", "")


def test_the_bundle_is_data_that_others_can_read(storage: Storage) -> None:
    content = json.loads(gathered(storage).files["table.json"])
    assert content["stale"] == STALE
    assert content["running"] == [HALF.trial_id]
    assert content["table"]["rows"][1]["label"] == "ComplexMix"
    manifest = gathered(storage).files[f"records/{attempt_path(FIRST.trial_id, ATTEMPT, 'manifest.json')}"]
    assert Manifest.opened(manifest, where="the bundle").host == "node-a"
