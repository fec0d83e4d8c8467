"""Which nodes of a cluster a trial may use, and what room they have: pure arithmetic, no Ray."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.resources import Placement, PlacementError, free_slots, refuse_misfits, worker_slots


@dataclass(frozen=True, slots=True)
class Node:
    """A node: what it has of everything, what of it is free, and its labels, by Ray's names."""

    resources: Mapping[str, float]
    free: Mapping[str, float]
    labels: Mapping[str, str]


def eligible(placement: Placement, nodes: Iterable[Node]) -> list[Node]:
    """The nodes that carry every label that is asked for."""
    return [node for node in nodes if placement.label_selector.items() <= node.labels.items()]


def settled_on(placement: Placement, device: str, nodes: Sequence[Node]) -> Placement:
    """The placement with its GPUs decided by the nodes that it may use.

    Raises: PlacementError where no node carries its labels, or those that do cannot give what a trial needs.
    """
    resources = [node.resources for node in eligible(placement, nodes)]
    if not resources:
        raise PlacementError(_no_such_label(placement, nodes))
    placement = placement.settled(device, _sum(resources))
    refuse_misfits(placement, _sum(resources), resources)
    return placement


def room_on(placement: Placement, nodes: Iterable[Node]) -> tuple[int, int]:
    """How many workers fit on the nodes that the placement may use: were they empty, and beside what runs now."""
    allowed = eligible(placement, nodes)
    slots = worker_slots(placement, [node.resources for node in allowed])
    return slots, free_slots(placement, _sum(node.free for node in allowed))


def _no_such_label(placement: Placement, nodes: Sequence[Node]) -> str:
    carried = Counter(f"{name}={value}" for node in nodes for name, value in node.labels.items())
    told = ", ".join(f"{label} ({number})" for label, number in sorted(carried.items()) if "/node-id=" not in label)
    return (
        f"no node carries --node-labels {placement.node_labels}; labels of the {len(nodes)} nodes there are: "
        f"{told or 'none'}. A node gets labels where Ray is started on it: ray start --labels={placement.node_labels}"
    )


def _sum(amounts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for each in amounts:
        for name, amount in each.items():
            total[name] = total.get(name, 0.0) + amount
    return total
