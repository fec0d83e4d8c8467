"""The doors between rooms, each kept in a fresh interpreter that refuses the wrong imports."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_BLOCKER = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {banned!r}:
            raise ImportError("this door is shut: " + name)
sys.meta_path.insert(0, Blocker())
import {module}
"""


def load_behind_door(module: str, banned: set[str]) -> subprocess.CompletedProcess[str]:
    code = _BLOCKER.format(banned=sorted(banned), module=module)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        (
            "trainer.spec, trainer.records, trainer.reading, trainer.storage, trainer.data.splits",
            {"torch", "torchvision", "ray", "mlflow", "pandas"},
        ),
        (
            "trainer.data.catalog, trainer.data.cache, trainer.data.published",
            {"torch", "torchvision", "ray", "mlflow", "pandas"},
        ),
        ("trainer.drawing, trainer.data.palettes", {"torch", "torchvision", "ray", "mlflow", "pandas", "matplotlib"}),
        ("trainer.data.opening, trainer.data.checking", {"torch", "torchvision", "ray", "mlflow", "pandas"}),
        (
            "experiments, experiments.demo, experiments.camvid, experiments.table1, experiments.ablation_blocks, "
            "experiments.methods_demo",
            {"torch", "ray", "mlflow", "pandas"},
        ),
        ("trainer.run, trainer.preview, trainer.predicting", {"ray", "mlflow", "pandas", "torchvision", "timm"}),
        ("results.parquet, results.agreement", {"torch", "ray", "mlflow", "matplotlib"}),
        ("results.reading, results.usage, trainer.seals, trainer.counts", {"torch", "ray", "mlflow", "pandas"}),
        (
            "results.frame, results.aggregate, results.compute, results.tables",
            {"torch", "ray", "mlflow", "matplotlib", "scipy"},
        ),
        (
            "results.statistics, orchestrator.cli.statistics_view",
            {"torch", "ray", "mlflow", "scipy", "matplotlib"},
        ),
        (
            "results.staleness, results.glance, results.explanation",
            {"torch", "ray", "mlflow", "pandas", "experiments", "orchestrator"},
        ),
        ("results.recount, results.verify, results.bundle", {"torch", "ray", "mlflow", "experiments", "orchestrator"}),
        ("results.redraw", {"torch", "ray", "mlflow", "experiments", "orchestrator", "PIL", "matplotlib"}),
        ("trainer.mask_statistics", {"torch", "ray", "mlflow", "pandas", "matplotlib"}),
        ("results.mask_summary, results.mask_plot", {"torch", "ray", "mlflow"}),
        (
            "results.plots, results.plot_output, results.report",
            {"torch", "ray", "mlflow", "experiments", "orchestrator"},
        ),
        (
            "orchestrator.lease, orchestrator.plan, orchestrator.lint, orchestrator.resources, orchestrator.cost, "
            "orchestrator.forecast, orchestrator.here, orchestrator.stale_results, orchestrator.cli.planning, "
            "orchestrator.cli.probing, orchestrator.cli.plan_view, orchestrator.cli.stale, orchestrator.sharing",
            {"torch", "ray", "mlflow", "pandas"},
        ),
        (
            "orchestrator.order, orchestrator.admission, orchestrator.rehearsal, orchestrator.agenda, "
            "orchestrator.progress, orchestrator.stopping, orchestrator.sight, orchestrator.cli.budget, "
            "orchestrator.cli.watching",
            {"torch", "ray", "mlflow", "pandas"},
        ),
        ("orchestrator.gallery, orchestrator.predicting", {"ray", "mlflow", "pandas", "matplotlib", "torchvision"}),
        ("orchestrator.bench.parts, orchestrator.probe", {"ray", "mlflow", "pandas", "matplotlib", "torchvision"}),
        ("orchestrator.submit.errands, orchestrator.cli.submitting", {"torch", "ray", "mlflow", "pandas"}),
        ("orchestrator.cli.app", {"torch", "ray", "mlflow", "pandas", "matplotlib", "scipy"}),
    ],
)
def test_a_room_loads_behind_its_door(module: str, banned: set[str]) -> None:
    loaded = load_behind_door(module, banned)
    assert loaded.returncode == 0, loaded.stderr


def test_a_shut_door_is_noticed() -> None:
    assert load_behind_door("trainer.run", {"torch"}).returncode != 0


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def files_that_import(package: str, *rooms: str) -> set[str]:
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    return {
        str(path.relative_to(ROOT)) for path in files if any(name.split(".")[0] == package for name in imports_of(path))
    }


ROOMS = ("trainer", "experiments", "orchestrator", "results")


def test_only_the_driver_what_it_asks_what_runs_a_trial_and_the_job_client_know_ray() -> None:
    known = {"autoscaler.py", "driver.py", "lean_trainer.py", "trainable.py", "submit/ray_jobs.py"}
    assert files_that_import("ray", *ROOMS) == {f"orchestrator/{name}" for name in known}


def test_only_the_mirror_knows_mlflow() -> None:
    assert {str(Path(name).parent) for name in files_that_import("mlflow", *ROOMS)} == {"orchestrator/mirror"}


def test_pandas_stays_in_the_results_room() -> None:
    assert all(name.startswith("results/") for name in files_that_import("pandas", *ROOMS))


def test_methods_and_models_never_import_what_drives_them() -> None:
    for room in ("trainer/methods", "trainer/models"):
        for path in (ROOT / room).glob("*.py"):
            drivers = ("trainer.loop", "trainer.run", "trainer.build", "trainer.trial", "trainer.phases")
            assert not [name for name in imports_of(path) if name.startswith(drivers)], path


def test_the_trainer_knows_no_other_room() -> None:
    for path in (ROOT / "trainer").rglob("*.py"):
        assert not {name.split(".")[0] for name in imports_of(path)} & {"experiments", "orchestrator", "results"}, path


def test_the_loop_names_no_method_model_or_dataset() -> None:
    words = {"supervised", "mix", "classmix", "complexmix", "cutmix", "deeplab", "tiny", "timm", "cityscapes", "camvid"}
    for name in ("trainer/loop.py", "trainer/journal.py", "trainer/evaluate.py", "trainer/streams.py"):
        path = ROOT / name.replace("trainer/streams", "trainer/data/streams")
        code = ast.dump(ast.parse(path.read_text()))
        constants = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not {str(value).lower() for value in constants} & words, path
        assert "isinstance" not in code, path


@pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a git checkout")
def test_no_source_file_is_hidden_from_git() -> None:
    """A package named like an ignored folder would be missing from every clone."""
    files = [str(path.relative_to(ROOT)) for room in (*ROOMS, "tests") for path in (ROOT / room).rglob("*.py")]
    asked = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        input="\n".join(files),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (asked.returncode, asked.stdout) == (1, ""), asked.stderr
