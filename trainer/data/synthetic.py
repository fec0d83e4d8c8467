"""Street scenes drawn from a seed and written to disk in the Cityscapes layout: a demonstration, never a benchmark.

Composes what `scene_street` and `scene_things` draw and keeps the folder of finished scenes. Loads no torch.
"""

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from trainer.data import scene_street as street
from trainer.data import scene_things as things
from trainer.data.scene_canvas import CLASSES, VOID, Bytes, Canvas, Floats, draw_camera
from trainer.data.scene_street import Light, Scene, Street
from trainer.spec import Synthetic

GENERATOR_VERSION = 1
"""Changes with every change of drawing, so that no folder of older scenes passes for new ones."""

CLASS_NAMES: tuple[str, ...] = tuple(CLASSES)
LABEL_IDS: tuple[int, ...] = tuple(label_id for label_id, _ in CLASSES.values())
PALETTE: Bytes = np.array([colour for _, colour in CLASSES.values()], dtype=np.uint8)

CITIES = {
    "train": ("drawburg", "gridheim", "pixelstadt", "synthville"),
    "val": ("mocktown", "rasterford"),
}
FIRST_INDEX = {"train": 0, "val": 1_000_000_000}
MARKER = "scenes.json"


class Weather(NamedTuple):
    """A kind of light before chance moves it: colours in 0..1, visibility in metres, noise in 0..1, its share."""

    sky_top: tuple[float, float, float]
    sky_low: tuple[float, float, float]
    tint: tuple[float, float, float]
    sun: float
    visibility: float
    noise: float
    share: float


WEATHERS = (
    Weather((0.25, 0.45, 0.82), (0.70, 0.80, 0.92), (1.10, 1.08, 1.02), 0.45, 260, 0.012, 0.36),  # sunny
    Weather((0.70, 0.72, 0.75), (0.84, 0.85, 0.86), (0.85, 0.87, 0.90), 0.05, 170, 0.015, 0.24),  # overcast
    Weather((0.38, 0.33, 0.52), (0.93, 0.62, 0.38), (0.82, 0.62, 0.52), 0.35, 150, 0.020, 0.16),  # low sun
    Weather((0.68, 0.70, 0.72), (0.74, 0.75, 0.76), (0.75, 0.76, 0.78), 0.00, 45, 0.015, 0.10),  # fog
    Weather((0.10, 0.12, 0.25), (0.26, 0.24, 0.32), (0.42, 0.42, 0.50), 0.00, 110, 0.025, 0.14),  # dusk
)


class Placement(NamedTuple):
    """How many of a thing stand where: a zone across the street, and metres ahead."""

    draw: Callable[[Scene, np.random.Generator, float, float], None]
    zone: str
    least: int
    most: int
    near: float
    far: float


PLACEMENTS = (
    Placement(street.draw_tree, "yard", 0, 5, 8, 60),
    Placement(street.draw_tree, "curb", 0, 4, 7, 60),
    Placement(street.draw_bush, "wall", 0, 3, 5, 40),
    Placement(street.draw_hedge, "wall", 0, 1, 4, 40),
    Placement(things.draw_car, "lane", 0, 2, 8, 40),
    Placement(things.draw_crossing_car, "road", 0, 1, 9, 30),
    Placement(things.draw_person, "walk", 0, 7, 3.5, 10),
    Placement(things.draw_person, "road", 0, 2, 4.5, 10),
    Placement(things.draw_lamp, "curb", 0, 3, 4, 25),
    Placement(things.draw_bollard, "curb", 0, 3, 4, 10),
    Placement(things.draw_sign, "curb", 0, 4, 4, 13),
    Placement(things.draw_bin, "walk", 0, 1, 5, 20),
    # What one looks through comes after what may stand behind it: its gaps are labelled, not filled.
    Placement(street.draw_fence, "wall", 0, 4, 2, 12),
)
RARE = (
    Placement(things.draw_bus, "lane", 1, 1, 7, 18),
    Placement(things.draw_bicycle, "walk", 2, 5, 3.5, 7),
    Placement(things.draw_traffic_light, "curb", 2, 4, 4, 10),
)
"""Scene i surely holds thing i mod 4, where there is one; beyond that each comes by chance."""
RARE_CHANCE = 0.18


def draw_scene(seed: int, index: int, height: int, width: int) -> tuple[Bytes, Bytes]:
    """Draw one street, a pure function of its arguments; the plan of the scene does not depend on the size.

    Returns: image [H, W, 3] uint8 RGB and label [H, W] uint8, a class index or 255 for what belongs to no class.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, index))))
    canvas = Canvas(draw_camera(rng, height, width), rng.random((64, 64), dtype=np.float32))
    scene = Scene(canvas, _draw_light(rng), _draw_street(rng))
    street.draw_backdrop(scene, rng)
    street.draw_ground(scene, rng)
    _build_houses(scene, rng)
    _park_cars(scene, rng)
    for placement in (*PLACEMENTS, *_rare_things(rng, index)):
        for _ in range(rng.integers(placement.least, placement.most + 1)):
            _place(scene, rng, placement)
    image, label = _develop(scene, rng), canvas.label
    if rng.random() < 0.6:
        _cover_with_bonnet(image, label, rng)
    return _expose(image, scene.light, rng), label


def _draw_light(rng: np.random.Generator) -> Light:
    weather = WEATHERS[rng.choice(len(WEATHERS), p=[weather.share for weather in WEATHERS])]
    top, low, tint = (
        (np.array(colour) * rng.uniform(0.9, 1.08, 3) * rng.uniform(0.9, 1.1)).astype(np.float32)
        for colour in (weather.sky_top, weather.sky_low, weather.tint)
    )
    visibility, noise = weather.visibility * rng.uniform(0.7, 1.4), weather.noise * rng.uniform(0.3, 1.2)
    side = int(rng.choice([-1, 1]))
    return Light(top, low, tint, weather.sun * rng.uniform(0.7, 1.2), visibility, noise, rng.uniform(0, 1), side)


def _draw_street(rng: np.random.Generator) -> Street:
    half_road = rng.uniform(3.2, 5.6)
    left, right = half_road + rng.uniform(2.2, 5.5), half_road + rng.uniform(2.2, 5.5)
    return Street(
        half_road,
        facade=(left, right),
        leaf_hue=rng.choice([0.06, 0.11, 0.2, 0.28, 0.33], p=[0.08, 0.12, 0.25, 0.35, 0.2]),
        leaf_value=rng.uniform(0.25, 0.75),
        wall_saturation=rng.uniform(0.1, 0.5),
        post_value=rng.uniform(0.12, 0.7),
    )


def _build_houses(scene: Scene, rng: np.random.Generator) -> None:
    """Line both sides of the street with houses; the gaps between them let the sky and the yards through."""
    for side in (-1, 1):
        z, gap_chance = rng.uniform(-8, 12), rng.uniform(0, 0.8)
        while z < 110:
            length = rng.uniform(7, 24)
            if z + length > 3:
                street.draw_house(scene, rng, side, max(z, 1.5), z + length)
            z += length + (rng.uniform(3, 16) if rng.random() < gap_chance else 0)


def _park_cars(scene: Scene, rng: np.random.Generator) -> None:
    for side in (-1, 1):
        z, share = rng.uniform(5, 14), rng.choice([0.0, 0.3, 0.8])
        while z < 55:
            if rng.random() < share:
                things.draw_car(scene, rng, side * (scene.street.half_road - rng.uniform(1.05, 1.3)), z)
            z += rng.uniform(5.7, 8)


def _rare_things(rng: np.random.Generator, index: int) -> Iterator[Placement]:
    for turn, placement in enumerate(RARE):
        if rng.random() < RARE_CHANCE or index % 4 == turn:
            yield placement


def _place(scene: Scene, rng: np.random.Generator, placement: Placement) -> None:
    """Draw a thing somewhere in its zone and in view; near places are as likely as they are large in the image."""
    share, side = rng.random(), int(rng.choice([-1, 1]))
    half_road, facade = scene.street.half_road, scene.street.facade[side > 0]
    reach = {
        "road": rng.uniform(-half_road, half_road),
        "lane": half_road * rng.uniform(0.3, 0.5),
        "curb": half_road + rng.uniform(0.4, 0.8),
        "walk": rng.uniform(half_road + 0.6, facade - 0.4),
        "wall": facade - rng.uniform(0.2, 0.6),
        "yard": facade + rng.uniform(1, 7),
    }[placement.zone]
    near = max(placement.near, 1.1 * scene.canvas.camera.first_seen(side * reach))
    placement.draw(scene, rng, side * reach, 1 / (share / near + (1 - share) / max(near, placement.far)))


def _develop(scene: Scene, rng: np.random.Generator) -> Floats:
    """Light what was drawn: the tint of the hour, haze with distance, the sky behind everything."""
    canvas, light = scene.canvas, scene.light
    clear = np.isinf(canvas.depth)
    far = np.where(clear, 0, canvas.depth) / light.visibility
    through = (1 / (1 + far + far * far))[..., None]
    image = canvas.image * light.tint * through + light.sky_low * (1 - through)
    return np.where(clear[..., None], _draw_sky(scene, rng.uniform(0, 60)), image).astype(np.float32)


def _draw_sky(scene: Scene, offset: float) -> Floats:
    """Draw the sky: from the horizon's colour to the zenith's, with flat clouds that shrink towards the horizon."""
    canvas, light = scene.canvas, scene.light
    camera = canvas.camera
    v = (np.arange(camera.height, dtype=np.float32) + 0.5)[:, None]
    u = (np.arange(camera.width, dtype=np.float32) + 0.5 - camera.centre)[None, :] / camera.focal
    rise = np.maximum((camera.horizon - v) / camera.focal, 0.02)
    x, z = u / rise, 1 / rise
    cloud = 0.6 * canvas.noise(x * 0.8 + offset, z * 0.8) + 0.4 * canvas.noise(x * 2.1, z * 2.1 + offset)
    cover = np.clip((cloud - 0.75 + 0.5 * light.clouds) * 4, 0, 0.9)[..., None] * np.minimum(rise * 6, 1)[..., None]
    share = np.minimum(rise * 2, 1)[..., None]
    clear = light.sky_low * (1 - share) + light.sky_top * share
    white = (0.5 * light.sky_low + 0.5 * light.tint) * (0.7 + 0.4 * cloud[..., None])
    sky: Floats = (clear * (1 - cover) + white * cover).astype(np.float32)
    return sky


def _cover_with_bonnet(image: Floats, label: Bytes, rng: np.random.Generator) -> None:
    """Draw the bonnet of our own car along the lower edge; it belongs to no class."""
    height, width = label.shape
    x = (np.arange(width, dtype=np.float32) + 0.5) / width * 2 - 1 - rng.uniform(-0.1, 0.1)
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    edge = 1 - rng.uniform(0.05, 0.1) * (1 - 0.8 * x * x)
    colour = rng.uniform(0.05, 0.5) * image[0].reshape(-1, 3)[width // 2]
    bonnet = y > edge
    image[bonnet] = (colour * (1 + (1 - y) * np.ones_like(x))[..., None] + 0.03)[bonnet]
    label[bonnet] = VOID


def _expose(image: Floats, light: Light, rng: np.random.Generator) -> Bytes:
    """Take the picture: exposure, colour cast, contrast, darker corners, noise. The only draws that know the size."""
    height, width = image.shape[:2]
    cast = (rng.uniform(0.9, 1.1, 3) * rng.uniform(0.8, 1.25)).astype(np.float32)
    contrast, corners, lift = rng.uniform(-0.35, 0.5), rng.uniform(0, 0.35), rng.uniform(0, 0.06)
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height * 2 - 1
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width * 2 - 1
    corner = (1 - np.float32(corners) * (x * x + y * y) / 2)[..., None]
    image = np.clip(image * cast * corner, 0, 1)
    image = image + np.float32(contrast) * image * (1 - image) * (2 * image - 1) + np.float32(lift)
    grain = rng.standard_normal((height, width, 1), dtype=np.float32)
    grain = grain + np.float32(0.5) * rng.standard_normal(image.shape, dtype=np.float32)
    return (np.clip(image + np.float32(light.noise) * grain, 0, 1) * 255 + 0.5).astype(np.uint8)


def ensure(dataset: Synthetic, root: Path) -> None:
    """Write the scenes of a dataset below `root` in the Cityscapes layout, unless they are there.

    Built beside `root` and renamed when complete, so a folder of this name is always whole; two processes take turns
    at a lock file, which stays.
    Raises: ValueError if `root` holds other scenes, or files that are not ours.
    """
    if _is_finished(dataset, root):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with _lock(root.with_name(f".{root.name}.lock")):
        if _is_finished(dataset, root):
            return
        building = root.with_name(f".{root.name}.building")
        shutil.rmtree(building, ignore_errors=True)
        for split, num_scenes in (("train", dataset.num_train), ("val", dataset.num_eval)):
            for number in range(num_scenes):
                _write_scene(dataset, building, split, number)
        (building / MARKER).write_text(json.dumps(_marker(dataset), indent=2) + "\n", encoding="utf-8")
        building.rename(root)


def _marker(dataset: Synthetic) -> dict[str, int]:
    """Say what decides the files: the generator and the fields it takes, not the size that training asks for."""
    fields = ("scene_height", "scene_width", "num_train", "num_eval", "scene_seed")
    return {"generator_version": GENERATOR_VERSION, **{name: getattr(dataset, name) for name in fields}}


def _is_finished(dataset: Synthetic, root: Path) -> bool:
    """Whether `root` holds exactly these scenes; a missing or empty folder holds none.

    Raises: ValueError if it holds anything else.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    wanted = _marker(dataset)
    try:
        found = json.loads((root / MARKER).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{root} is no folder of synthetic scenes (no readable {MARKER}): name another one") from error
    if found != wanted:
        raise ValueError(f"{root} holds the scenes {found}, wanted are {wanted}: remove it or name another folder")
    return True


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock file that the system releases with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_scene(dataset: Synthetic, root: Path, split: str, number: int) -> None:
    """Write one image and its label map in official label ids."""
    image, label = draw_scene(
        dataset.scene_seed, FIRST_INDEX[split] + number, dataset.scene_height, dataset.scene_width
    )
    sequence, city_number = divmod(number, len(CITIES[split]))
    city = CITIES[split][city_number]
    label_ids = np.zeros(256, dtype=np.uint8)
    label_ids[: len(LABEL_IDS)] = LABEL_IDS
    for suffix, pixels in (("leftImg8bit", image), ("gtFine_labelIds", label_ids[label])):
        folder = root / suffix.split("_")[0] / split / city
        path = folder / f"{city}_{sequence:06d}_000019_{suffix}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
