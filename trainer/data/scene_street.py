"""What stands still in a synthetic street: ground, buildings, plants, fences; one drawer each.

Colour alone never tells a class: cars and walls may be grey as the road, plants brown, houses green.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trainer.data.scene_canvas import Bools, Canvas, Floats, Patch, rgb


class Light(NamedTuple):
    """The light of a scene; colours are [3] in 0..1, visibility in metres, noise in grey levels of 0..1."""

    sky_top: Floats
    sky_low: Floats
    tint: Floats
    sun: float
    visibility: float
    noise: float
    clouds: float
    sun_side: int

    @property
    def glow(self) -> float:
        """How much brighter than its surroundings a lamp is."""
        return 1.0 / float(self.tint[1])


class Street(NamedTuple):
    """The plan of a street, in metres from the middle of the road, and what its things look like."""

    half_road: float
    facade: tuple[float, float]
    leaf_hue: float
    leaf_value: float
    wall_saturation: float
    post_value: float


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a drawer may look at."""

    canvas: Canvas
    light: Light
    street: Street

    def facing(self, side: float) -> float:
        """Say how bright a wall is that stands on this side of the street: in the sun or away from it."""
        return 1.0 + 0.6 * self.light.sun * (-1.0 if side * self.light.sun_side > 0 else 1.0)

    def round_shade(self, a: Floats, half: float) -> Floats:
        """Shade something round: brighter on the sun's side; [h, w, 1]."""
        shade: Floats = (1.0 + self.light.sun * self.light.sun_side * np.clip(a / half, -1, 1))[..., None]
        return shade


def draw_ground(scene: Scene, rng: np.random.Generator) -> None:
    """Draw road, sidewalks, perhaps a cross street, their markings and the shadow of the houses."""
    street, patch = scene.street, scene.canvas.ground()
    cross, crossing = rng.uniform(14, 45), rng.uniform(6, 20)
    road = np.abs(patch.a) < street.half_road
    if rng.random() < 0.35:
        road = road | (np.abs(patch.b - cross) < 4)
    patch.fill(patch.b > 0, "sidewalk", _paving(patch, rng))
    patch.fill(road, "road", _asphalt(patch, rng, street.half_road))
    marks = _markings(patch, street.half_road, rng)
    if rng.random() < 0.35:
        marks = marks | ((np.abs(patch.b - crossing) < 1.6) & ((patch.a + 20) % 1.1 < 0.55))
    paint = rgb(0.14, rng.choice([0.0, 0.0, 0.7]), rng.uniform(0.6, 0.95))
    patch.fill(marks & road & (patch.mottle(2.3) > rng.uniform(0.1, 0.4)), "road", paint)
    _cast_house_shadow(scene, patch, rng)


def _asphalt(patch: Patch, rng: np.random.Generator, half_road: float) -> Floats:
    """Colour the road: grain, stains, mended rectangles, wheel tracks."""
    base = rgb(rng.uniform(0, 1), rng.uniform(0, 0.12), rng.uniform(0.2, 0.56))
    tone = 0.78 + 0.24 * patch.mottle(0.35) + 0.2 * patch.mottle(5.0) * (patch.b < 25)
    mended = patch.canvas.cell(patch.a / rng.uniform(1.5, 4), patch.b / rng.uniform(3, 9)) < rng.uniform(0, 0.3)
    tracks = 1 - np.minimum(np.abs(np.abs(patch.a / half_road) - 0.5) * 6, 1)
    tone = tone * np.where(mended, rng.uniform(0.7, 1.1), 1) * (1 + rng.uniform(-0.15, 0.2) * tracks)
    colour: Floats = (base * tone[..., None]).astype(np.float32)
    return colour


def _paving(patch: Patch, rng: np.random.Generator) -> Floats:
    """Colour the sidewalk: slabs of any stone or brick, darker joints, stains."""
    base = rgb(rng.choice([0.03, 0.08, 0.12, 0.6]), rng.uniform(0, 0.35), rng.uniform(0.25, 0.68))
    length = rng.uniform(0.6, 1.6)
    slabs = 0.8 + 0.3 * patch.canvas.cell(patch.a / length, patch.b / length)
    joints = ((patch.a + 64) % length < 0.1) | (patch.b % length < 0.1)
    tone = slabs * np.where(joints & (patch.b < 18), 0.75, 1) * (0.8 + 0.35 * patch.mottle(0.5, 3.0))
    return (base * tone[..., None]).astype(np.float32)


def _markings(patch: Patch, half_road: float, rng: np.random.Generator) -> Bools:
    """Mask the lines of the road: dashed or full in the middle, full along the edges, or none."""
    style = rng.integers(4)
    dashed = (np.abs(patch.a) < 0.11) & (patch.b % 6 < 3.2)
    full = np.abs(patch.a) < 0.11
    edges = np.abs(np.abs(patch.a) - half_road + 0.35) < 0.09
    lanes = (np.abs(np.abs(patch.a) - half_road / 2) < 0.09) & (patch.b % 5 < 2.5)
    marks: Bools = (dashed, full | edges, dashed | edges, lanes & (half_road > 5))[style]
    return marks


def _cast_house_shadow(scene: Scene, patch: Patch, rng: np.random.Generator) -> None:
    """Darken the ground along the houses that stand before the sun, with a stepped edge as roofs throw it."""
    side, length = scene.light.sun_side, rng.uniform(2, 12)
    reach = length * (0.4 + scene.canvas.cell(patch.b / 11, patch.b * 0))
    mask = side * patch.a > scene.street.facade[side > 0] - reach
    scene.canvas.image[patch.view][mask] *= 1 - scene.light.sun


class Wall(NamedTuple):
    """What one house looks like."""

    colour: Floats
    window: Floats
    height: float
    roof: float
    spacing: tuple[float, float]
    share: tuple[float, float]
    offset: float
    shop: bool
    bricks: bool


def draw_house(scene: Scene, rng: np.random.Generator, side: int, z0: float, z1: float) -> None:
    """Draw one house on a side of the street: the wall along it and the wall towards the camera."""
    wall = _draw_wall(scene, rng)
    x = side * scene.street.facade[side > 0]
    gable = scene.canvas.front(min(x, x + side * 14), max(x, x + side * 14), z0, wall.height + wall.roof)
    _paint_wall(scene, gable, wall, 0.85)
    along = scene.canvas.side(x, z0, z1, wall.height + wall.roof)
    _paint_wall(scene, along, wall, scene.facing(side))


def _draw_wall(scene: Scene, rng: np.random.Generator) -> Wall:
    hue = rng.uniform(0.01, 0.14) if rng.random() < 0.6 else rng.random()
    pane = rgb(0.58, rng.uniform(0, 0.4), rng.uniform(0.08, 0.5))
    if rng.random() < 0.6 and scene.light.glow > 1.8:
        pane = rgb(0.13, 0.5, 0.8 * scene.light.glow)
    return Wall(
        colour=rgb(hue, scene.street.wall_saturation * rng.random(), rng.uniform(0.22, 0.9)),
        window=pane,
        height=rng.uniform(3.5, 15),
        roof=rng.choice([0.0, 0.0, 2.0, 4.0]),
        spacing=(rng.uniform(1.6, 4.5), rng.uniform(2.7, 3.8)),
        share=(rng.uniform(0.25, 0.9), rng.uniform(0.35, 0.7)),
        offset=rng.uniform(0, 60),
        shop=rng.random() < 0.35,
        bricks=rng.random() < 0.3,
    )


def _paint_wall(scene: Scene, patch: Patch, wall: Wall, facing: float, skyline: float | Floats = np.inf) -> None:
    """Fill a wall: stains, bricks, windows of which each has its own brightness, a shop below, a roof above."""
    columns, rows = (patch.a + 200) / wall.spacing[0], patch.b / wall.spacing[1]
    tone = 0.85 + 0.25 * patch.mottle(0.3, wall.offset)
    if wall.bricks:
        tone = tone * np.where(patch.b % 0.5 < 0.12, 0.78, 0.8 + 0.3 * scene.canvas.cell(patch.a * 1.5, patch.b * 2))
    pane = (np.abs(columns % 1 - 0.5) < wall.share[0] / 2) & (np.abs(rows % 1 - 0.5) < wall.share[1] / 2)
    pane = pane & (patch.b < wall.height - 0.6)
    bright = 0.5 + scene.canvas.cell(columns + wall.offset, rows + wall.offset)
    colour = np.where(pane[..., None], wall.window * bright[..., None], wall.colour * tone[..., None])
    if wall.shop:
        colour = np.where(((patch.b > 2.6) & (patch.b < 3.3))[..., None], rgb(wall.offset, 0.7, 0.6), colour)
    roof = (patch.b > wall.height)[..., None]
    colour = np.where(roof, rgb(wall.offset / 9, 0.4, 0.35) * tone[..., None], colour)
    patch.fill(patch.b < skyline, "building", (colour * facing).astype(np.float32))


def draw_backdrop(scene: Scene, rng: np.random.Generator) -> None:
    """Close the street far away with a skyline of houses or of trees."""
    patch = scene.canvas.front(-400, 400, rng.uniform(80, 160), 30)
    if rng.random() < 0.5:
        edge = 4 + 14 * scene.canvas.cell(patch.a / 9, patch.a * 0)
        wall = _draw_wall(scene, rng)._replace(height=100.0, shop=False)
        _paint_wall(scene, patch, wall, 0.9, edge)
        return
    edge = 3 + 7 * patch.canvas.noise(patch.a / 8, 0.0) + 2 * patch.mottle(0.7)
    patch.fill(patch.b < edge, "vegetation", _leaves(scene, rng, patch, 0.5))


def _leaves(scene: Scene, rng: np.random.Generator, patch: Patch, spots: float) -> Floats:
    """Colour foliage: the scene's season, a shade of its own for each plant, dark between the leaves."""
    hue = scene.street.leaf_hue + rng.uniform(-0.05, 0.05)
    base = rgb(hue, rng.uniform(0.2, 0.65), scene.street.leaf_value * rng.uniform(0.7, 1.2))
    offset = rng.uniform(0, 60)
    tone = 0.35 + 0.6 * patch.mottle(spots, offset) + 0.55 * patch.mottle(2.7 * spots, offset)
    return (base * tone[..., None]).astype(np.float32)


def draw_tree(scene: Scene, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a trunk and a ragged crown of several blobs, with its shadow."""
    height, half, offset = rng.uniform(4, 10), rng.uniform(1.3, 3.0), rng.uniform(0, 60)
    scene.canvas.shade_ground(x - 1.5 * scene.light.sun_side, z, (half + 1, half), 0.9 - 0.6 * scene.light.sun)
    patch = scene.canvas.front(x - 1.5 * half, x + 1.5 * half, z, height + 1)
    bark = rgb(rng.uniform(0.04, 0.12), 0.3, rng.uniform(0.12, 0.4))
    patch.fill(patch.stroke((0, 0), (0, height * 0.7), 0.3), "vegetation", bark)
    crown = np.full(patch.a.shape, -1.0, dtype=np.float32)
    for _ in range(4):
        a, b, r = rng.uniform(-0.6, 0.6) * half, rng.uniform(0.55, 0.85) * height, rng.uniform(0.5, 0.9) * half
        crown = np.maximum(crown, 1 - ((patch.a - a) / r) ** 2 - ((patch.b - b) / (0.2 * height + 0.3 * r)) ** 2)
    ragged = crown + 1.3 * (patch.mottle(1.6, offset) - 0.5) > 0
    colour = _leaves(scene, rng, patch, 1.4) * scene.round_shade(patch.a, 1.5 * half)
    patch.fill(ragged & (crown > -0.9), "vegetation", colour)


def draw_bush(scene: Scene, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a low ragged bush."""
    half, height = rng.uniform(0.6, 2.0), rng.uniform(0.6, 1.8)
    patch = scene.canvas.front(x - half, x + half, z, height * 1.2)
    edge = height * (1 - (patch.a / half) ** 2 * 0.8) + 0.5 * (patch.mottle(3.0, half) - 0.6)
    patch.fill(patch.b < edge, "vegetation", _leaves(scene, rng, patch, 2.5) * scene.round_shade(patch.a, half))


def draw_hedge(scene: Scene, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a clipped hedge along the street: the shape of a fence, not the class."""
    height = rng.uniform(0.8, 1.8)
    patch = scene.canvas.side(x, z, z + rng.uniform(5, 14), height + 0.3)
    colour = _leaves(scene, rng, patch, 2.5) * np.float32(scene.facing(x))
    patch.fill(patch.b < height + 0.4 * patch.mottle(2.0) - 0.2, "vegetation", colour)


def draw_fence(scene: Scene, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a fence along the street or across a yard: pickets, rails, boards or mesh; what is behind shows through."""
    height, length = rng.uniform(1.2, 2.4), rng.uniform(8, 24)
    patch = scene.canvas.side(x, z, z + length, height)
    if rng.random() < 0.25:
        patch = scene.canvas.front(min(x, 2 * x), max(x, 2 * x), z, height)
    colour = rgb(rng.choice([0.07, 0.1, 0.35, 0.6]), rng.uniform(0, 0.5), rng.choice([0.15, 0.5, 0.7, 0.95]))
    post = (patch.a + 200) % 2.4 < 0.25
    rails = (patch.b % (height / 2.01) < 0.22) | (patch.b > height - 0.15)
    fine = (patch.a + 200) % 0.6 < 0.36
    boards = (patch.b > 0.1) & ((patch.a + 200) % 0.6 > 0.12)
    style = (post | rails, fine | rails, boards, post | (patch.b % 0.6 < 0.36))
    patch.tag(patch.b < height, "fence")
    tone = (0.75 + 0.4 * patch.mottle(1.0))[..., None] * np.float32(scene.facing(x))
    patch.fill(style[rng.integers(4)], "fence", (colour * tone).astype(np.float32))
