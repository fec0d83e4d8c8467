"""The picture that an evaluation leaves: what the method makes of its last batch, what the networks make of images.

It must not move a number: networks come back in their mode, running averages are at rest, no draw is made that
training makes, and no other rank is spoken to.
"""

from dataclasses import replace

import torch
from torch import nn

from trainer.data.catalog import palette_of
from trainer.distributed import alone
from trainer.drawing import Panel, sheet_of, small_image
from trainer.methods.base import phase_at
from trainer.models.batch_norm import statistics_at_rest
from trainer.preview import as_pixels, prediction_panels, predictor_on, spread_over, truth_panels
from trainer.trial import Trial

_MOST_IMAGES = 4
_LEAST_SHARE = 10
"""One image in so many is drawn at most: what a picture costs is a tenth of its evaluation, or one image."""


@torch.no_grad()
def preview_png(trial: Trial, step: int) -> bytes:
    """The picture of a trial after `step` updates; called on one rank, while the others go on or wait."""
    with alone(), statistics_at_rest():
        rows = [*_of_the_method(trial, step - 1), *_of_the_networks(trial, step - 1)]
    return sheet_of(rows)


def _of_the_method(trial: Trial, step: int) -> list[list[Panel]]:
    """What the method shows of the batches of a step, in rows as long as those of the networks."""
    networks = replace(trial.networks, student=trial.players["student"].network, teacher=trial.teacher)
    pictures = trial.method.pictures(networks, trial.streams.whole(step), step)
    panels = [(title, small_image(as_pixels(image))) for title, image in pictures]
    return [panels] if panels else []


def _of_the_networks(trial: Trial, step: int) -> list[list[Panel]]:
    """A row per image: the image, its label, and what each network says of it and where it is wrong."""
    images, palette = trial.evaluation_images, palette_of(trial.spec.dataset)
    class_map_of = predictor_on(images, trial.predict, device=trial.device, dtype=trial.dtype)
    rows = []
    for place in spread_over(images, _num_images(int(images.has_label.sum()))):
        image, label = images.image(place), images.label(place)
        row = truth_panels(images.names[place], image, label, palette)
        for title, network in _judged(trial, step).items():
            row += prediction_panels(title, image, label, class_map_of(network, place), palette)
        rows.append(row)
    return rows


def _num_images(num_labeled: int) -> int:
    return max(1, min(_MOST_IMAGES, num_labeled // _LEAST_SHARE))


def _judged(trial: Trial, step: int) -> dict[str, nn.Module]:
    """The networks that the evaluation after a step judges."""
    networks = {"student": trial.players["student"].network}
    if trial.teacher is not None and phase_at(trial.method.phases, step).has_teacher:
        networks["teacher"] = trial.teacher.network
    return networks
