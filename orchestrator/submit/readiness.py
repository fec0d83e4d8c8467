"""Whether a cluster will do for a job: what a node says of itself, and what is made of the nodes' answers. No Ray."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from orchestrator.submit.request import Job
from trainer.remote import without_keys
from trainer.storage import Storage

_LIBRARIES = ("ray", "torch", "pydantic", "pyarrow")


def look_around(question: Mapping[str, str], node: str, *, has_gpus: bool) -> dict[str, Any]:
    """On one node: releases, whether the data is there, CUDA where it matters, and the storage read and written."""
    answer: dict[str, Any] = {"versions": versions(), "has_data": _has_data(question["data"])}
    answer["cuda_devices"] = cuda_devices() if has_gpus and question["device"] != "cpu" else None
    try:
        storage = Storage(question["storage"])
        read = storage.read(f"{question['folder']}/here").decode()
        storage.write(f"{question['folder']}/{node}", read.encode())
        return {**answer, "read": read, "error": ""}
    except (OSError, ValueError) as error:
        return {**answer, "read": "", "error": f"{type(error).__name__}: {error}"}


def _has_data(data: str) -> bool:
    """Whether there is a folder of images, or anything published."""
    from trainer.data.published import FOLDER as PUBLISHED_FOLDER  # with numpy, which only such an errand needs

    if "://" not in data:
        return Path(data).is_dir()
    with suppress(OSError, ValueError):
        return Storage(data).exists(PUBLISHED_FOLDER)
    return False


def cuda_devices() -> int:
    """How many devices torch finds on this node, those that Ray hides from this task included; 0 without torch."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    program = "import torch; print(torch.cuda.device_count())"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    return int(told.stdout) if told.returncode == 0 else 0


def versions() -> dict[str, str]:
    """Releases of this Python and of the libraries that matter; "" for what is not there."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def problems_of(told: Mapping[str, Any], nonce: str, back: Mapping[str, str], job: Job) -> list[str]:
    """What stands in the way, from what the nodes said, and from the files that came `back` through storage."""
    nodes: Sequence[Mapping[str, Any]] = told["nodes"]
    found = [] if not told["tracker"] else [str(told["tracker"])]
    for library in ("python", *_LIBRARIES):
        seen = {str(node["versions"][library]): node["address"] for node in nodes}
        if "" in seen:
            found.append(f"node {seen['']} has no {library}: install mixgrid's requirements on every node")
        elif len(seen) > 1:
            places = ", ".join(f"{text} on {address}" for text, address in sorted(seen.items()))
            found.append(f"the nodes have different releases of {library}: {places}")
    for node in nodes:
        if node["error"] or node["read"] != nonce or back.get(node["id"]) != nonce:
            reason = node["error"] or "it sees other files there than this machine does"
            found.append(
                f"node {node['address']} cannot share the storage {Storage(job.submission.options.storage).name}: "
                f"{reason}; give a folder that every node has, or s3://… with its keys on the nodes (--env NAME)"
            )
    for node in nodes:
        if node["gpus"] and node["cuda_devices"] == 0:
            found.append(
                f"node {node['address']} advertises {node['gpus']:g} GPU(s), but torch finds no CUDA device there: "
                "mend its driver or its torch, or train on the CPUs of such nodes (--device cpu; with "
                "--gpus-per-worker a trial still holds as many GPUs)"
            )
    return found


def notes_of(told: Mapping[str, Any], data: str) -> list[str]:
    """What a person should know of a cluster that will do."""
    nodes = told["nodes"]
    first = nodes[0]["versions"]
    notes = [
        f"{len(nodes)} nodes with {sum(n['cpus'] for n in nodes):g} CPUs and {sum(n['gpus'] for n in nodes):g} GPUs, "
        + ", ".join(f"{name} {first[name]}" for name in ("python", *_LIBRARIES))
    ]
    here = versions()
    others = [f"{name} {here[name]}" for name in ("ray", "torch") if here[name] != first[name]]
    notes += [f"note: here it is {', '.join(others)}"] if others else []
    without = [str(node["address"]) for node in nodes if not node["has_data"]]
    if without and "://" in data:
        notes.append(f"note: nothing that was published is seen at {without_keys(data)} by {', '.join(without)}")
    elif without:
        notes.append(f"note: no folder {data} on {', '.join(without)}: drawn scenes appear there by themselves")
    return notes
