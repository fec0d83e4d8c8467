"""Nodes with labels: which a trial may use, what room they have, and what is said where none carries a label."""

import pytest

from orchestrator.nodes import Node, eligible, room_on, settled_on
from orchestrator.resources import Placement, PlacementError

OLD = Node({"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 4.0}, {"gpu": "v100", "zone": "a"})
NEW = Node({"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}, {"gpu": "h100", "zone": "a"})
HEAD = Node({"CPU": 4.0}, {"CPU": 4.0}, {"ray.io/node-id": "12ab"})
ALL = [OLD, NEW, HEAD]


@pytest.mark.parametrize(
    ("labels", "nodes"),
    [("", ALL), ("gpu=h100", [NEW]), ("zone=a", [OLD, NEW]), ("zone=a,gpu=v100", [OLD]), ("zone=b", [])],
)
def test_a_node_is_eligible_with_every_label(labels: str, nodes: list[Node]) -> None:
    assert eligible(Placement(node_labels=labels), ALL) == nodes


def test_room_is_that_of_eligible_nodes_alone() -> None:
    assert room_on(Placement(gpus_per_worker=1.0), ALL) == (6, 5)
    assert room_on(Placement(gpus_per_worker=1.0, node_labels="gpu=h100"), ALL) == (2, 1)
    assert room_on(Placement(gpus_per_worker=0.0, node_labels="gpu=h100"), ALL) == (8, 8)
    assert room_on(Placement(gpus_per_worker=1.0, node_labels="zone=b"), ALL) == (0, 0)


def test_gpus_are_decided_by_the_nodes_that_may_be_used() -> None:
    assert settled_on(Placement(node_labels="gpu=h100"), "auto", ALL).gpus_per_worker == 1.0
    labelled_head = Node(HEAD.resources, HEAD.free, {"kind": "cpu"})
    assert settled_on(Placement(node_labels="kind=cpu"), "auto", [OLD, labelled_head]).gpus_per_worker == 0.0


def test_a_label_that_no_node_carries_is_named_with_those_that_there_are() -> None:
    with pytest.raises(PlacementError) as error:
        settled_on(Placement(node_labels="gpu=b200"), "auto", ALL)
    assert str(error.value) == (
        "no node carries --node-labels gpu=b200; labels of the 3 nodes there are: gpu=h100 (1), gpu=v100 (1), "
        "zone=a (2). A node gets labels where Ray is started on it: ray start --labels=gpu=b200"
    )


def test_what_nodes_with_the_label_cannot_give_is_refused_though_others_could() -> None:
    with pytest.raises(PlacementError, match=r"needs 4 GPU \(4 workers\), but the cluster has 2"):
        settled_on(Placement(workers=4, node_labels="gpu=h100"), "cuda", ALL)
