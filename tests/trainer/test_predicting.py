"""What a trained network says of images: the confusion matrix of its result comes out again, sizes come back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.contracts import SMALL, small_options, small_spec
from tests.rooms import Room
from trainer.data.folders import read_image
from trainer.predicting import Predictor
from trainer.reading import read_result
from trainer.spec import Evaluation, TrialSpec
from trainer.trained import Trained, load_kept

CPU = torch.device("cpu")
HALF = SMALL.model_copy(update={"height": 16, "width": 32})
SPECS = {
    "resized": small_spec("classmix"),
    "full_whole": small_spec("classmix", dataset=HALF, evaluation=Evaluation(every=6, protocol="full_whole")),
    "full_sliding": small_spec(
        "classmix",
        dataset=HALF,
        evaluation=Evaluation(every=6, protocol="full_sliding", window_height=24, window_width=40),
    ),
    "full_sliding in windows of a training step": small_spec(
        "classmix", dataset=HALF, evaluation=Evaluation(every=6, protocol="full_sliding")
    ),
}


def trained_on(spec: TrialSpec, data: Path, storage: Path) -> Trained:
    room = Room(spec, small_options(data, storage))
    assert room.run().kind == "done"
    return load_kept(room.storage, spec.trial_id)


def recorded(spec: TrialSpec, storage: Path, network: str) -> list[list[int]]:
    result = read_result(Room(spec, small_options(storage, storage)).storage, spec.trial_id)
    return [list(row) for record in result.evaluations if record.network == network for row in record.confusion][-4:]


@pytest.mark.parametrize("name", SPECS)
def test_predictions_of_the_evaluation_files_give_the_recorded_confusion_matrix(
    name: str, small_data: Path, tmp_path: Path
) -> None:
    spec = SPECS[name]
    trained = trained_on(spec, small_data, tmp_path)
    files = sorted((small_data / "data/images/val").iterdir())
    for network in ("student", "teacher"):
        predictions = Predictor(trained, network, CPU)([read_image(file) for file in files])
        counts = np.zeros((4, 4), int)
        for file, prediction in zip(files, predictions, strict=True):
            label = np.asarray(Image.open(small_data / "data/labels/val" / file.name))
            for truth in range(4):
                for seen in range(4):
                    counts[truth, seen] += int(((label == truth) & (prediction == seen)).sum())
        assert counts.tolist() == recorded(spec, tmp_path, network)


# --- by hand ------------------------------------------------------------------------------------------------------


class Brightness(nn.Module):
    """Class 1 as its red is above a half, in proportion: its logits are the image's own."""

    def forward(self, image: Tensor) -> Tensor:
        self.seen = image
        return torch.stack([0.5 - image[:, 0], image[:, 0] - 0.5], dim=1)


class Hand(Trained):
    """A trial whose network is made by hand."""

    def network(self, name: str, device: torch.device) -> nn.Module:
        return self.weights[name]


def predictor(spec: TrialSpec) -> Predictor:
    return Predictor(Hand(spec, ("dark", "light"), 6, {"student": Brightness()}), "student", CPU)


TINY = small_spec("supervised", dataset=SMALL.model_copy(update={"height": 1, "width": 2}))


def test_scores_are_brought_to_the_images_size_before_the_class_is_chosen() -> None:
    image = np.repeat(np.array([[51, 51, 105, 160, 160]], np.uint8)[..., None], 3, axis=2).repeat(3, axis=0)
    (classes,) = predictor(TINY)([image])
    assert classes.dtype == np.uint8
    # The two columns it is seen in become five along a straight line, whose last alone is above a half. Classes
    # enlarged, or lines that end half a pixel before the border, would give two; an image that stays as it is, too.
    left, right = np.asarray(Image.fromarray(image).resize((2, 1), Image.Resampling.BILINEAR))[0, :, 0] / 255
    line = [left + part * (right - left) / 4 for part in range(5)]
    assert classes.tolist() == [[int(red > 0.5) for red in line]] * 3 == [[0, 0, 0, 0, 1]] * 3


@pytest.mark.parametrize(
    ("name", "resampling"), [("bilinear", Image.Resampling.BILINEAR), ("box", Image.Resampling.BOX)]
)
def test_an_image_is_brought_to_the_trained_size_by_the_trials_own_filter(
    name: str, resampling: Image.Resampling
) -> None:
    spec = small_spec("supervised", dataset=SMALL.model_copy(update={"height": 4, "width": 6, "image_filter": name}))
    image = np.random.RandomState(1).randint(0, 256, (9, 13, 3)).astype(np.uint8)
    network = Brightness()
    Predictor(Hand(spec, ("dark", "light"), 6, {"student": network}), "student", CPU)([image])
    expected = np.asarray(Image.fromarray(image).resize((6, 4), resampling))
    assert np.array_equal((network.seen[0] * 255).round().byte().permute(1, 2, 0).numpy(), expected)


def test_an_image_of_the_trained_size_is_seen_as_it_is() -> None:
    image = np.array([[[10] * 3, [250] * 3]], np.uint8)
    assert predictor(TINY)([image, image[:, ::-1]])[1].tolist() == [[1, 0]]


def test_at_full_size_nothing_is_resized() -> None:
    spec = small_spec("supervised", dataset=TINY.dataset, evaluation=Evaluation(every=6, protocol="full_whole"))
    image = np.random.RandomState(0).randint(0, 256, (7, 9, 3)).astype(np.uint8)
    (classes,) = predictor(spec)([image])
    assert classes.tolist() == (image[..., 0] > 127.5).astype(int).tolist()


def test_as_many_images_at_once_as_a_pass_holds_at_the_size_it_sees() -> None:
    full = small_spec("supervised", evaluation=Evaluation(every=6, protocol="full_whole"))
    assert predictor(small_spec("supervised")).at_once(4000, 4000) == 512  # 2 ** 20 / (32 x 64)
    assert predictor(full).at_once(512, 1024) == 2
    assert predictor(full).at_once(4000, 4000) == 1
