"""What `doctor` says of weights."""

import hashlib
from pathlib import Path

import pytest

from orchestrator.cli.trial import doctor

COCO_FILE = "resnet101COCO-41f33a49.pth"


def told(capsys: pytest.CaptureFixture[str], data: Path, **places: str) -> str:
    doctor(data=str(data), cache=None, weights=places.get("weights"))
    return capsys.readouterr().out


def test_doctor_lists_absent_files_with_the_folder_they_belong_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told(capsys, tmp_path).splitlines()
    folder = tmp_path / "weights"
    assert any(f"{folder} is missing (--weights or MIXGRID_WEIGHTS)" in line for line in lines)
    for words in (f"resnet101 coco: absent: {COCO_FILE}", "resnet101 imagenet: absent: resnet101-5d3b4d8f.pth"):
        assert any(f"{words}; put it in {folder}" in line for line in lines)


def test_doctor_names_present_files_with_the_beginning_of_their_digest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    (tmp_path / COCO_FILE).write_bytes(b"weights")
    (tmp_path / f"resnet50-{digest[:8]}.pth").write_bytes(b"weights")
    out = told(capsys, tmp_path, weights=str(tmp_path))
    assert f"{tmp_path} is there" in out
    assert f"resnet101 coco: present: {COCO_FILE} (sha256 {digest[:12]}, its name says 41f33a49)" in out
    assert f"resnet50 imagenet: present: resnet50-{digest[:8]}.pth (sha256 {digest[:12]})" in out


def test_doctor_asks_to_keep_one_of_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("resnet50-0676ba61.pth", "resnet50-11ad3fa6.pth"):
        (tmp_path / name).touch()
    out = told(capsys, tmp_path, weights=str(tmp_path))
    assert "resnet50 imagenet: present more than once, keep one: resnet50-0676ba61.pth (sha256 e3b0c44298fc" in out
