"""RayJob manifests: fixed texts, the published schema, and what they must say."""

import base64
import copy
import json
import shlex
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.resources import Placement
from orchestrator.submit.kuberay import KubeOptions, manifest, state_of
from orchestrator.submit.request import Job, Nodes, SubmitError
from tests.orchestrator.submit.conftest import job
from trainer.spec import RunOptions

SCHEMA = Path(__file__).parents[4] / "shared" / "schemas" / "rayjob-v1.openapi.json"
INPUTS = {"0-small.py": b"TABLE = 1\n"}
FULL = KubeOptions(
    namespace="papers",
    queue="gpus",
    secret="storage-keys",
    token_secret="ray-token",
    claim="mixgrid:/shared",
)
NODES = Nodes(count=3, cpus=8, gpus=2, memory="64Gi")
COMING = Nodes(count=0, cpus=8, gpus=2, most=8)


def remote_job() -> Job:
    options = RunOptions(storage="s3://papers/runs", data="/data", device="cuda")
    return job(options=options, placement=Placement(2, 4), tracking_uri="http://mlflow:5000")


def documents(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


def refusing_unknown_fields(schema: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI schema in which an object that lists its fields has no others."""
    strict = copy.deepcopy(schema)

    def tighten(node: Any) -> None:
        if isinstance(node, dict):
            is_open = node.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in node
            if isinstance(node.get("properties"), dict) and not is_open:
                node["additionalProperties"] = False
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            tighten(child)

    tighten(strict)
    return strict


def test_the_fullest_manifest_is_what_it_was(golden: Callable[[str, str], None]) -> None:
    """Renew with: MIXGRID_RENEW_GOLDEN=1 python -m pytest tests/orchestrator/submit/test_kuberay.py"""
    text = manifest(remote_job(), INPUTS, NODES, FULL)
    golden("rayjob.yaml", text.replace(f"rayVersion: {version('ray')}", "rayVersion: RELEASE"))


@pytest.mark.skipif(not SCHEMA.exists(), reason="the RayJob schema is not beside the project")
@pytest.mark.parametrize(("nodes", "options"), [(NODES, FULL), (Nodes(), KubeOptions()), (COMING, KubeOptions())])
def test_the_manifest_fits_the_published_schema_with_unknown_fields_refused(nodes: Nodes, options: KubeOptions) -> None:
    validator = pytest.importorskip("openapi_schema_validator").OAS30Validator
    schema = refusing_unknown_fields(json.loads(SCHEMA.read_text()))
    ray_job = documents(manifest(remote_job(), INPUTS, nodes, options))[-1]
    assert [error.message for error in validator(schema).iter_errors(ray_job)] == []
    ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["tmplate"] = {}
    assert len(list(validator(schema).iter_errors(ray_job))) == 1


def test_the_users_files_travel_in_a_config_map_that_the_head_sees() -> None:
    config, ray_job = documents(manifest(remote_job(), INPUTS, NODES, FULL))
    assert base64.b64decode(config["binaryData"]["0-small.py"]) == b"TABLE = 1\n"
    assert config["metadata"]["name"] == ray_job["metadata"]["name"] == remote_job().name
    cluster = ray_job["spec"]["rayClusterSpec"]
    pod = cluster["headGroupSpec"]["template"]["spec"]
    place = next(volume["name"] for volume in pod["volumes"] if volume.get("configMap") == {"name": remote_job().name})
    (mount,) = [m["mountPath"] for m in pod["containers"][0]["volumeMounts"] if m["name"] == place]
    assert shlex.split(ray_job["spec"]["entrypoint"])[4] == f"{mount}/0-small.py"


def test_a_table_of_ours_needs_no_config_map() -> None:
    (ray_job,) = documents(manifest(remote_job(), {}, NODES, FULL))
    assert ray_job["kind"] == "RayJob"


def test_queue_secret_and_token_are_there_only_when_asked() -> None:
    asked, plain = manifest(remote_job(), {}, NODES, FULL), manifest(remote_job(), {}, NODES, KubeOptions())
    for word in (
        "kueue.x-k8s.io/queue-name: gpus",
        "name: storage-keys",
        "secretName: ray-token",
        "mountPath: /shared",
    ):
        assert word in asked
    for word in ("kueue", "secret", "authOptions", "persistentVolumeClaim", "namespace"):
        assert word not in plain


def test_the_image_is_named_after_the_code_unless_told() -> None:
    assert f"image: mixgrid:{remote_job().image_tag}" in manifest(remote_job(), {}, NODES, KubeOptions())
    assert "image: mine:1" in manifest(remote_job(), {}, NODES, KubeOptions(image="mine:1"))


def test_workers_ask_for_the_gpus_of_a_node_and_the_head_for_none() -> None:
    (ray_job,) = documents(manifest(remote_job(), {}, NODES, KubeOptions()))
    cluster = ray_job["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    (group,) = cluster["workerGroupSpecs"]
    worker = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert worker == {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "2"}
    assert group["replicas"] == 3
    assert "nvidia.com/gpu" not in head


def test_nodes_come_and_go_between_the_fewest_and_the_most() -> None:
    (ray_job,) = documents(manifest(remote_job(), {}, COMING, KubeOptions(idle_seconds=300)))
    cluster = ray_job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"] == {"idleTimeoutSeconds": 300}
    (group,) = cluster["workerGroupSpecs"]
    assert [group[name] for name in ("replicas", "minReplicas", "maxReplicas")] == [0, 0, 8]


def test_a_fixed_number_of_nodes_has_no_autoscaler() -> None:
    text = manifest(remote_job(), {}, NODES, KubeOptions(idle_seconds=300))
    assert "utoscal" not in text
    (group,) = documents(text)[-1]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert [group[name] for name in ("replicas", "minReplicas", "maxReplicas")] == [3, 3, 3]


def test_kueue_is_not_given_nodes_that_come_and_go() -> None:
    with pytest.raises(SubmitError, match="--max-nodes with --queue gpus: Kueue reserves all pods"):
        manifest(remote_job(), {}, COMING, KubeOptions(queue="gpus"))


@pytest.mark.parametrize("claim", [None, "mixgrid:/share", "mixgrid:/shared/runs/deeper"])
def test_a_storage_that_pods_cannot_see_is_refused(claim: str | None) -> None:
    with pytest.raises(SubmitError, match="--storage /shared/runs is a folder of this machine"):
        manifest(job(), {}, NODES, KubeOptions(claim=claim))


def test_a_storage_on_a_shared_volume_will_do() -> None:
    assert "--storage /shared/runs" in manifest(job(), {}, NODES, KubeOptions(claim="mixgrid:/shared/"))


@pytest.mark.parametrize("claim", ["mixgrid", "mixgrid:relative", ":/shared"])
def test_a_claim_is_a_name_and_a_folder(claim: str) -> None:
    with pytest.raises(SubmitError, match="give NAME:FOLDER"):
        manifest(job(), {}, NODES, KubeOptions(claim=claim))


def test_files_too_large_for_a_config_map_are_refused() -> None:
    with pytest.raises(SubmitError, match="build them into the image"):
        manifest(remote_job(), {"0-t.py": b"#" * 2**20}, NODES, KubeOptions())


@pytest.mark.parametrize(
    ("status", "kind", "exit_code"),
    [
        ({}, "queued", None),
        ({"jobDeploymentStatus": "Suspended"}, "queued", None),
        ({"jobDeploymentStatus": "Initializing"}, "queued", None),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, "running", None),
        ({"jobDeploymentStatus": "Retrying", "jobStatus": "FAILED"}, "running", None),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, "ended", 0),
        ({"jobDeploymentStatus": "Failed", "jobStatus": "FAILED"}, "ended", 1),
    ],
)
def test_the_status_of_a_ray_job_is_understood(status: dict[str, str], kind: str, exit_code: int | None) -> None:
    state = state_of(status)
    assert (state.kind, state.exit_code) == (kind, exit_code)
