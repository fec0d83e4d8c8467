"""What a machine has now, looked at without building or fetching anything."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from orchestrator.here import Here, remembered_digest, versions_here
from orchestrator.lint import WEIGHT_FILES
from tests.orchestrator.conftest import small_table
from tests.test_architecture import load_behind_door
from trainer.code import code_digest
from trainer.data.opening import open_splits, open_wanted, wanted_splits
from trainer.data.published import publish
from trainer.machine import versions
from trainer.reading import read_result
from trainer.spec import DeepLabV2, TrialSpec
from trainer.storage import Storage

SPEC = small_table().cells()[0].spec


def test_what_a_trial_just_ran_on_is_here(trained: str, places: dict[str, str]) -> None:
    result = read_result(Storage(trained), SPEC.trial_id)
    assert result is not None
    facts = Here(places["data"], places["cache"]).facts(SPEC)
    made = result.digests.model_dump()
    assert {name: facts[name] for name in ("code", "data", "split", "weights")} == {
        name: made[name] for name in ("code", "data", "split", "weights")
    }


def test_versions_are_those_that_training_notes_but_for_torchs_build() -> None:
    noted, here = versions(), versions_here()
    assert here.pop("torch").partition("+")[0] == noted.pop("torch").partition("+")[0]
    assert here == noted


def test_looking_imports_no_torch(places: dict[str, str]) -> None:
    ask = f"orchestrator.here.Here({places['data']!r}).facts(trainer.spec.TrialSpec())"
    code = f"orchestrator.here, trainer.spec; {ask}"
    assert load_behind_door(code, {"torch", "ray", "mlflow", "pandas"}).returncode == 0


def test_without_data_neither_images_nor_split_are_looked_at(tmp_path: Path) -> None:
    facts = Here(str(tmp_path)).facts(SPEC)
    assert facts["code"] == code_digest()
    assert not {"data", "split"} & facts.keys()
    assert list(tmp_path.iterdir()) == []


def test_without_a_cache_nothing_is_built(places: dict[str, str], trained: str, tmp_path: Path) -> None:
    assert "data" not in Here(places["data"], str(tmp_path / "cache")).facts(SPEC)
    assert not (tmp_path / "cache").exists()


def test_what_was_published_is_looked_at_once_it_was_copied_here(
    trained: str, places: dict[str, str], tmp_path: Path
) -> None:
    place, node = str(tmp_path / "shared"), tmp_path / "node"
    for wanted in wanted_splits(SPEC):
        publish(open_wanted(wanted, places["data"], Path(places["cache"])), wanted, Storage(place))
    assert "data" not in Here(place, str(node)).facts(SPEC)
    assert not node.exists()
    open_splits(SPEC, place, node)
    here, there = Here(place, str(node)).facts(SPEC), Here(places["data"], places["cache"]).facts(SPEC)
    assert {name: here[name] for name in ("data", "split")} == {name: there[name] for name in ("data", "split")}


def test_a_touched_image_is_not_checked_until_its_cache_is_built(
    trained: str, places: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(places["data"], tmp_path / "data", copy_function=shutil.copy2)
    assert "data" in Here(str(tmp_path / "data"), places["cache"]).facts(SPEC)
    image = next((tmp_path / "data").rglob("train/**/*_leftImg8bit.png"))
    os.utime(image, (1, 1))
    assert "data" not in Here(str(tmp_path / "data"), places["cache"]).facts(SPEC)


def test_another_seed_has_another_split_of_the_same_images(trained: str, places: dict[str, str]) -> None:
    here = Here(places["data"], places["cache"])
    one, two = here.facts(SPEC), here.facts(SPEC.model_copy(update={"seed": 7}))
    assert one["data"] == two["data"]
    assert one["split"] != two["split"]


def test_images_judged_at_another_size_are_other_images(trained: str, places: dict[str, str]) -> None:
    here = Here(places["data"], places["cache"])
    full_size = SPEC.model_copy(update={"evaluation": SPEC.evaluation.model_copy(update={"protocol": "full_whole"})})
    assert "data" in here.facts(SPEC)
    assert "data" not in here.facts(full_size)  # its cache was never built
    assert "data" in here.facts(SPEC.model_copy(update={"seed": 7}))


def test_a_list_that_does_not_fit_the_images_is_no_split(trained: str, places: dict[str, str]) -> None:
    listed = SPEC.model_copy(update={"labeled_names": ("nowhere",)})
    assert "split" not in Here(places["data"], places["cache"]).facts(listed)


# --- weights ------------------------------------------------------------------------------------------------------

COCO = TrialSpec(network=DeepLabV2(), initial_weights="coco")


def test_weights_are_digested_where_their_one_file_is(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    assert "weights" not in Here(str(tmp_path), cache).facts(COCO)
    file = tmp_path / "weights" / WEIGHT_FILES["resnet101", "coco"]
    file.parent.mkdir()
    file.write_bytes(b"weights")
    assert Here(str(tmp_path), cache).facts(COCO)["weights"] == hashlib.sha256(b"weights").hexdigest()
    assert Here("/nowhere", cache, str(file.parent)).facts(COCO)["weights"] == hashlib.sha256(b"weights").hexdigest()


def test_two_files_of_weights_are_none(tmp_path: Path) -> None:
    for name in ("resnet50-aaaa.pth", "resnet50-bbbb.pth"):
        (tmp_path / name).write_bytes(b"weights")
    spec = TrialSpec(network=DeepLabV2(backbone="resnet50"), initial_weights="imagenet")
    assert "weights" not in Here("/nowhere", str(tmp_path / "cache"), str(tmp_path)).facts(spec)


def test_a_file_is_read_once_as_long_as_size_and_time_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, cache = tmp_path / "w.pth", tmp_path / "cache"
    file.write_bytes(b"first")
    first = remembered_digest(file, cache)
    reads: list[object] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *words: reads.append(words) or digest(*words))
    assert remembered_digest(file, cache) == first == hashlib.sha256(b"first").hexdigest()
    assert reads == []
    file.write_bytes(b"other")
    os.utime(file, (1, 1))
    assert remembered_digest(file, cache) == hashlib.sha256(b"other").hexdigest()
    assert len(reads) == 1


@pytest.mark.parametrize("memory", [b"", b"[]", b'{"PATH": 3}', b'{"PATH": {"file": null}}'])
def test_a_memory_that_is_none_is_only_forgotten(memory: bytes, tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(b"weights")
    (tmp_path / "weights.json").write_bytes(memory.replace(b"PATH", str(file).encode()))
    assert remembered_digest(file, tmp_path) == hashlib.sha256(b"weights").hexdigest()


def test_a_memory_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    (tmp_path / "w.pth").write_bytes(b"weights")
    assert remembered_digest(tmp_path / "w.pth", tmp_path / "taken") == hashlib.sha256(b"weights").hexdigest()
