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
from trainer.records import read_result
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
        return torch.stack([0.5 - image[:, 0], image[:, 0] - 0.5], dim=1)


class Hand(Trained):
    """A trial whose network is made by hand."""

    def network(self, name: str, device: torch.device) -> nn.Module:
        return Brightness()


def predictor(spec: TrialSpec) -> Predictor:
    return Predictor(Hand(spec, ("dark", "light"), 6, {}), "student", CPU)


TINY = small_spec("supervised", dataset=SMALL.model_copy(update={"height": 1, "width": 2}))


def test_scores_are_brought_to_the_images_size_before_the_class_is_chosen() -> None:
    # 2 columns of means 0.2 and 0.7 become 5 by straight lines: 0.2, 0.325, 0.45, 0.575, 0.7. Classes enlarged instead
    # would give the middle column to either half, never 3 to 2.
    image = np.repeat([[[51] * 3] * 4 + [[178] * 3] * 4], 3, axis=0).astype(np.uint8)
    wide = np.asarray(Image.fromarray(image).resize((5, 3), Image.Resampling.BOX))
    (classes,) = predictor(TINY)([wide])
    assert classes.shape == (3, 5)
    assert classes.dtype == np.uint8
    reds = np.interp(np.linspace(0, 1, 5), [0, 1], small_reds(wide))
    assert classes.tolist() == [[int(red > 127.5) for red in reds]] * 3


def small_reds(image: np.ndarray) -> list[float]:
    """The two columns that the trial's own filter makes of an image."""
    return [float(red) for red in np.asarray(Image.fromarray(image).resize((2, 1), Image.Resampling.BILINEAR))[0, :, 0]]


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
