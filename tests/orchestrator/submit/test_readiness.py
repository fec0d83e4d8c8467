"""What a node says of itself, and what is made of the nodes' answers."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.submit import readiness
from orchestrator.submit.readiness import notes_of, problems_of, versions
from tests.orchestrator.submit.conftest import job
from trainer.storage import Storage

HERE = versions()
NONCE = "small-1 17"


def node(name: str, **changed: Any) -> dict[str, Any]:
    fields = {"versions": HERE, "has_data": True, "read": NONCE, "error": "", "cpus": 2.0, "gpus": 1.0}
    fields |= {"cuda_devices": 1}
    return {"id": name, "address": f"10.0.0.{name}", **fields, **changed}


def problems(*nodes: dict[str, Any], back: dict[str, str] | None = None, tracker: str = "") -> list[str]:
    answers = {each["id"]: NONCE for each in nodes} if back is None else back
    return problems_of({"nodes": list(nodes), "tracker": tracker}, NONCE, answers, job())


def test_a_cluster_of_equal_nodes_that_share_the_storage_is_ready() -> None:
    assert problems(node("1"), node("2")) == []


@pytest.mark.parametrize("library", ["python", "ray", "torch"])
def test_nodes_of_different_releases_are_named(library: str) -> None:
    (text,) = problems(node("1"), node("2", versions={**HERE, library: "0.1"}))
    assert text.startswith(f"the nodes have different releases of {library}: 0.1 on 10.0.0.2, {HERE[library]} on")


def test_a_node_without_a_library_is_named() -> None:
    (text,) = problems(node("1"), node("2", versions={**HERE, "torch": ""}))
    assert text.startswith("node 10.0.0.2 has no torch")


@pytest.mark.parametrize(
    ("changed", "back", "reason"),
    [
        ({"read": "", "error": "FileNotFoundError: x"}, None, "FileNotFoundError: x; give a folder"),
        ({"read": "other"}, None, "it sees other files there"),
        ({}, {"1": NONCE}, "it sees other files there"),
        ({}, {"1": NONCE, "2": "stale"}, "it sees other files there"),
    ],
)
def test_a_node_that_does_not_share_the_storage_both_ways_is_named(
    changed: dict[str, str], back: dict[str, str] | None, reason: str
) -> None:
    (text,) = problems(node("1"), node("2", **changed), back=back)
    assert text.startswith("node 10.0.0.2 cannot share the storage /shared/runs: " + reason)


def test_a_node_whose_gpus_torch_does_not_find_is_named_where_they_matter() -> None:
    (text,) = problems(node("1"), node("2", cuda_devices=0))
    assert text.startswith("node 10.0.0.2 advertises 1 GPU(s), but torch finds no CUDA device there")
    assert "--device cpu" in text
    assert problems(node("1"), node("2", cuda_devices=None)) == []
    assert problems(node("1"), node("2", gpus=0.0, cuda_devices=0)) == []


@pytest.mark.parametrize(
    ("has_gpus", "device", "found"), [(True, "auto", 3), (True, "cuda", 3), (True, "cpu", None), (False, "auto", None)]
)
def test_a_node_looks_for_cuda_where_it_advertises_gpus_that_are_wanted(
    has_gpus: bool, device: str, found: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "cuda_devices", lambda: 3)
    Storage(str(tmp_path)).write("f/here", b"word")
    question = {"storage": str(tmp_path), "folder": "f", "data": "/nowhere", "device": device}
    answer = readiness.look_around(question, "node-1", has_gpus=has_gpus)
    assert (answer["cuda_devices"], answer["has_data"], answer["read"], answer["error"]) == (found, False, "word", "")
    assert Storage(str(tmp_path)).read("f/node-1") == b"word"


def test_what_the_head_says_of_mlflow_is_in_the_way_too() -> None:
    assert problems(node("1"), tracker="MLflow at http://m refuses") == ["MLflow at http://m refuses"]


def test_a_cluster_that_differs_from_here_or_lacks_the_data_is_remarked() -> None:
    nodes = [node("1", versions={**HERE, "torch": "2.0"}), node("2", has_data=False)]
    first, *notes = notes_of({"nodes": nodes}, "/data")
    assert first.startswith("2 nodes with 4 CPUs and 2 GPUs, python")
    assert notes == [
        f"note: here it is torch {HERE['torch']}",
        "note: no folder /data on 10.0.0.2: drawn scenes appear there by themselves",
    ]
