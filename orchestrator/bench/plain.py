"""What the fast parts are measured beside: the same work in the straightforward way of the published codes.

Each is written from what the rule says and shares no code with the part it stands beside, but for what both call.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from trainer.build import build_mask
from trainer.data.transforms import blur_kernel_size, jitter_colors, strong_augmentation
from trainer.losses import cross_entropy_map, supervised_loss
from trainer.methods.base import Batch
from trainer.randomness import fold_int, key_of, sample_keys, uniform_int
from trainer.spec import Mix, StrongAugmentation
from trainer.trial import Trial

IGNORED = 255
Choose = Callable[[int, int], Tensor]
"""Image and block to the classes that are kept there."""


# --- masks --------------------------------------------------------------------------------------------------------


def random_half(num_classes: int) -> Choose:
    """Half of all classes, rounded down, drawn anew at each call."""
    return lambda _image, _block: torch.randperm(num_classes)[: num_classes // 2]


def block_loop_mask(class_map: Tensor, blocks: int, choose: Choose) -> Tensor:
    """ComplexMix's mask by a loop over images and their blocks x blocks parts: [N, H, W] to [N, 1, H, W]."""
    count, height, width = class_map.shape
    mask = torch.zeros(count, 1, height, width, device=class_map.device)
    for image in range(count):
        for row in range(blocks):
            for column in range(blocks):
                rows = slice(row * height // blocks, (row + 1) * height // blocks)
                columns = slice(column * width // blocks, (column + 1) * width // blocks)
                kept = choose(image, row * blocks + column).to(class_map.device)
                part = class_map[image, rows, columns]
                mask[image, 0, rows, columns] = (part.unsqueeze(0) == kept[:, None, None]).any(dim=0).float()
    return mask


def class_loop_mask(class_map: Tensor) -> Tensor:
    """ClassMix's mask image by image: [N, H, W] to [N, 1, H, W]."""
    masks = []
    for image in class_map:
        classes = torch.unique(image)
        kept = classes[torch.randperm(len(classes), device=classes.device)[: len(classes) // 2]]
        masks.append((image.unsqueeze(0) == kept[:, None, None]).any(dim=0, keepdim=True).float())
    return torch.stack(masks)


# --- data ---------------------------------------------------------------------------------------------------------


def decode_and_resize(image: Path, label: Path, *, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Read two PNGs and bring them to a size, as a data set of the published codes does for every sample."""
    with Image.open(image) as file:
        pixels = file.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    with Image.open(label) as file:
        values = file.resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(pixels), np.asarray(values)


# --- judging ------------------------------------------------------------------------------------------------------


def forward_passes(network: nn.Module, images: Iterable[Tensor]) -> None:
    """Nothing but the forward passes of an evaluation over images that lie on the device."""
    with torch.no_grad():
        for image in images:
            network(image)


def judge_by_image(network: nn.Module, pairs: Iterable[tuple[Tensor, np.ndarray]], num_classes: int) -> np.ndarray:
    """The confusion matrix, each prediction brought to the host and counted there."""
    confusion = np.zeros((num_classes, num_classes), np.int64)
    with torch.no_grad():
        for image, label in pairs:
            prediction = network(image)[0].cpu().numpy().argmax(axis=0)
            counted = label != IGNORED
            cells = label[counted].astype(int) * num_classes + prediction[counted]
            confusion += np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
    return confusion


# --- steps --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Halves:
    """The images of one step: labelled and unlabelled, [n, 3, H, W] in [0, 1], and labels [n, H, W] int64."""

    labeled: Tensor
    label: Tensor
    unlabeled: Tensor


class PublishedStep:
    """One step of ClassMix as its trainer does it: losses added up, one backward pass, weights averaged one by one.

    Source: the way of ClassMix's trainer as docs/methods.md tells it (card ClassMix), in our words.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, optimizer: torch.optim.Optimizer, augmentation: StrongAugmentation
    ) -> None:
        self.student = student
        self.teacher = teacher
        self.optimizer = optimizer
        self.augmentation = augmentation
        self.losses: list[float] = []

    def __call__(self, halves: Halves, *, key: int, decay: float, threshold: float = 0.968) -> None:
        """Train on one batch."""
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.student(halves.labeled), halves.label, ignore_index=IGNORED)
        self.losses.append(loss.item())
        with torch.no_grad():
            probs = torch.softmax(self.teacher(halves.unlabeled), dim=1)
            mask = class_loop_mask(probs.argmax(dim=1))
            mixed_probs, mixed_image = cyclic_mix(mask, probs), cyclic_mix(mask, halves.unlabeled)
            confidence, pseudo_label = mixed_probs.max(dim=1)
            share = (confidence >= threshold).sum().item() / confidence.numel()
        logits = self.student(plain_augmentation(mixed_image, key, self.augmentation))
        pixelwise = F.cross_entropy(logits, pseudo_label, ignore_index=IGNORED, reduction="none")
        loss = loss + (pixelwise * share).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        average_one_by_one(self.teacher, self.student, decay)


def cyclic_mix(mask: Tensor, value: Tensor) -> Tensor:
    """Each sample pasted onto the next, in a loop."""
    count = len(value)
    return torch.stack([mask[i] * value[i] + (1 - mask[i]) * value[(i + 1) % count] for i in range(count)])


def average_one_by_one(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """The teacher's weights moved towards the student's, a weight at a time."""
    for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        mine.data[:] = decay * mine.data[:] + (1 - decay) * theirs.data[:]


def plain_augmentation(image: Tensor, key: int, spec: StrongAugmentation) -> Tensor:
    """Jitter and blur with the draws of training, the blur by one two-dimensional kernel."""
    from torchvision.transforms.v2.functional import gaussian_blur

    draws = [uniform_int(fold_int(key, place)) for place in range(9)]
    if draws[0] < spec.jitter_probability:
        image = jitter_colors(image, draws[1:6], spec.jitter_strength)
    if draws[6] < spec.blur_probability:
        sigma = spec.blur_sigma_min + draws[7] * (spec.blur_sigma_max - spec.blur_sigma_min)
        sizes: Sequence[int] = [blur_kernel_size(side) for side in (image.shape[3], image.shape[2])]
        image = gaussian_blur(image, list(sizes), [sigma, sigma])
    return image


def bare_steps(trial: Trial, batches: Sequence[Mapping[str, Batch]], first_step: int) -> None:
    """Mean teacher on mixed images in one flat loop: the operations of training, without its loop, log or safety.

    Args:
        trial: of a ClassMix-like method with its defaults; its batches were read before, its loop is not used.
    """
    spec, method = trial.spec, trial.spec.method
    player, teacher = trial.players["student"], trial.teacher
    assert isinstance(method, Mix)
    assert teacher is not None
    mask = build_mask(method.mask, len(trial.evaluation_images.class_names))
    for step, batch in enumerate(batches, first_step):
        supervised_loss(player.network(batch["labeled"].image), batch["labeled"].label).backward()  # type: ignore[no-untyped-call]
        image, index = batch["unlabeled"].image, batch["unlabeled"].index
        with torch.no_grad():
            probs = torch.softmax(teacher.network(image), dim=1)
            key = key_of(spec.seed, "mix_mask", step)
            mix_mask = mask(probs.argmax(dim=1), sample_keys(key, index), key).to(probs.dtype)
            mixed, mixed_probs = (torch.lerp(value.roll(-1, 0), value, mix_mask) for value in (image, probs))
            confidence, pseudo_label = mixed_probs.max(dim=1)
            share = (confidence >= method.confidence_threshold).to(probs.dtype).mean()
        augmented = strong_augmentation(mixed, key_of(spec.seed, "strong_augmentation", step), method.augmentation)
        loss = cross_entropy_map(player.network(augmented), pseudo_label)[0]
        (share * loss).mean().backward()  # type: ignore[no-untyped-call]
        player.set_rate(trial.rate_factor(step, spec.num_steps))
        player.optimizer.step()
        player.optimizer.zero_grad(set_to_none=True)
        teacher.update(player.network)
