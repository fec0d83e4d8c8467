"""The things along and on a synthetic street: vehicles, people, posts and signs; one drawer each."""

from typing import NamedTuple

import numpy as np

from trainer.data.scene_canvas import Floats, Patch, rgb
from trainer.data.scene_street import Scene

GLASS = rgb(0.58, 0.25, 0.16)
RUBBER = rgb(0.6, 0.1, 0.06)


class Body(NamedTuple):
    """The outline of a car, in metres; the cabin's share of its length and how far its windscreens lean."""

    length: float
    height: float
    bonnet: float
    cabin: float
    lean: float


BODIES = (
    Body(4.4, 1.45, 0.85, 0.66, 0.9),
    Body(3.8, 1.55, 0.90, 0.78, 0.5),
    Body(4.7, 1.80, 1.05, 0.85, 0.35),
    Body(5.2, 2.20, 1.10, 0.90, 0.2),
)


def _car_colour(rng: np.random.Generator) -> Floats:
    """Draw a car's paint; most are white, grey or black, as on the street."""
    saturation = rng.uniform(0.4, 0.9) if rng.random() < 0.45 else rng.uniform(0, 0.1)
    return rgb(rng.uniform(0, 1), saturation, rng.choice([0.1, 0.3, 0.45, 0.6, 0.85]) * rng.uniform(0.85, 1.1))


def _paint_profile(patch: Patch, body: Body, colour: Floats, reach: float) -> None:
    """Draw a car from its side: sills, cabin with windows, wheels; the cabin starts `reach` before the middle."""
    half, up = body.length / 2, (patch.b - body.bonnet) / (body.height - body.bonnet)
    hull = patch.box((-half, half), (0.28, body.bonnet))
    inside = np.minimum(half * body.cabin - patch.a - 0.8 * body.lean * up, patch.a + reach)
    cabin = (up >= 0) & (up <= 1) & (inside > 0)
    glass = (up > 0.12) & (up < 0.85) & (inside > 0.2)
    tone = (0.65 + 0.35 * np.clip(patch.b / body.height, 0, 1))[..., None]
    patch.fill(hull | cabin, "car", (colour * tone).astype(np.float32))
    patch.fill(glass & (np.abs(patch.a) > 0.06), "car", GLASS)
    for a in (-0.62 * half, 0.62 * half):
        patch.fill(patch.disc(a, 0.33, 0.34), "car", RUBBER)
        patch.fill(patch.disc(a, 0.33, 0.17), "car", rgb(0.6, 0.02, 0.45))


def _paint_end(patch: Patch, body: Body, colour: Floats, lamps: Floats) -> None:
    """Draw a car from behind or in front: window, lamps, plate, wheels."""
    up = (patch.b - body.bonnet) / (body.height - body.bonnet)
    tyres = patch.box((-0.85, -0.6), (0, 0.4)) | patch.box((0.6, 0.85), (0, 0.4))
    patch.fill(tyres, "car", RUBBER)
    shell = patch.box((-0.9, 0.9), (0.25, body.bonnet)) | ((up >= 0) & (up <= 1) & (np.abs(patch.a) < 0.9 - 0.06 * up))
    tone = (0.6 + 0.4 * np.clip(patch.b / body.height, 0, 1))[..., None]
    patch.fill(shell, "car", (colour * tone).astype(np.float32))
    patch.fill((up > 0.1) & (up < 0.85) & (np.abs(patch.a) < 0.76 - 0.08 * up), "car", GLASS)
    for a in (-0.7, 0.7):
        patch.fill(patch.disc(a, body.bonnet - 0.18, 0.17, 0.11), "car", lamps)
    patch.fill(patch.box((-0.26, 0.26), (0.42, 0.56)), "car", rgb(0.13, 0.1, 0.8))


def draw_car(scene: Scene, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a car along the street: red lamps on the right, white ones on the left, where they come towards us."""
    body, colour = BODIES[rng.choice(4, p=[0.4, 0.3, 0.2, 0.1])], _car_colour(rng)
    scene.canvas.shade_ground(x, z + body.length / 2, (1.25, body.length / 2 + 0.4), 0.45)
    flank = x - 0.9 if x - 0.9 > scene.canvas.camera.x else x + 0.9
    if abs(x - scene.canvas.camera.x) > 0.9:
        side = scene.canvas.side(flank, z, z + body.length, body.height)
        _paint_profile(side, body, colour * np.float32(scene.facing(x)), body.length / 2)
    lamps = rgb(0, 0.85, 0.75) if x > 0 else rgb(0.14, 0.1, min(0.8 * scene.light.glow, 2.0))
    _paint_end(scene.canvas.front(x - 0.9, x + 0.9, z, body.height), body, colour, lamps)


def draw_crossing_car(scene: Scene, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a car that crosses the street, seen from its side."""
    body, colour = BODIES[rng.integers(4)], _car_colour(rng)
    scene.canvas.shade_ground(x, z + 0.5, (body.length / 2, 1.1), 0.45)
    half = body.length / 2
    _paint_profile(scene.canvas.front(x - half, x + half, z, body.height), body, colour, 0.9 * half * body.cabin)


def draw_bus(scene: Scene, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a bus along the street: a high box with a band of windows."""
    height, length = rng.uniform(2.9, 3.4), rng.uniform(8, 12)
    colour = rgb(rng.uniform(0, 1), rng.uniform(0, 0.9), rng.uniform(0.3, 0.9))
    scene.canvas.shade_ground(x, z + length / 2, (1.8, length / 2 + 0.5), 0.45)
    camera_x = scene.canvas.camera.x
    if abs(x - camera_x) > 1.25:
        side = scene.canvas.side(x - 1.25 if x > camera_x else x + 1.25, z, z + length, height)
        side.fill(side.b > 0.3, "bus", colour * np.float32(0.85 * scene.facing(x)))
        side.fill((side.b > 1.3) & (side.b < height - 0.6) & ((side.a + 60) % 1.5 > 0.15), "bus", GLASS)
        for a in (-0.3 * length, 0.32 * length):
            side.fill(side.disc(a, 0.45, 0.47), "bus", RUBBER)
    end = scene.canvas.front(x - 1.25, x + 1.25, z, height)
    end.fill(end.b > 0.3, "bus", colour)
    end.fill(end.box((-1.05, 1.05), (1.3, height - 0.65)), "bus", GLASS)
    end.fill(end.box((-0.8, 0.8), (height - 0.45, height - 0.12)), "bus", rgb(0.1, 0.9, 0.12 + 0.5 * scene.light.sun))
    for a in (-0.95, 0.95):
        end.fill(end.disc(a, 0.75, 0.16, 0.2), "bus", rgb(0.0, 0.85, 0.7) if x > 0 else rgb(0.14, 0.2, 0.9))
        end.fill(end.box((a - 0.17, a + 0.17), (0, 0.3)), "bus", RUBBER)


BICYCLE_FRAME = (
    ((-0.6, 0.4), (-0.2, 0.95)),
    ((-0.2, 0.95), (0.4, 0.9)),
    ((0.4, 0.9), (0.0, 0.4)),
    ((0.0, 0.4), (-0.6, 0.4)),
    ((0.0, 0.4), (-0.25, 1.05)),
    ((0.6, 0.4), (0.4, 1.15)),
    ((0.25, 1.15), (0.5, 1.2)),
    ((-0.4, 1.05), (-0.1, 1.05)),
)


def draw_bicycle(scene: Scene, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a parked bicycle from its side; between the spokes the street shows through."""
    patch = scene.canvas.front(x - 1.05, x + 1.05, z, 1.3)
    colour, flip = rgb(rng.uniform(0, 1), rng.uniform(0.1, 0.9), rng.uniform(0.15, 0.8)), rng.choice([-1.0, 1.0])
    scene.canvas.shade_ground(x, z, (1.0, 0.3), 0.7)
    for a in (-0.6, 0.6):
        wheel = patch.disc(a, 0.42, 0.45)
        patch.tag(wheel, "bicycle")
        patch.fill(wheel & ~patch.disc(a, 0.42, 0.28), "bicycle", RUBBER)
    for (a0, b0), (a1, b1) in BICYCLE_FRAME:
        patch.fill(patch.stroke((a0 * flip, b0), (a1 * flip, b1), 0.13), "bicycle", colour)


def draw_person(scene: Scene, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a standing or walking person in clothes of any colour."""
    tall, stride, girth = rng.uniform(0.95, 1.12), rng.uniform(0.05, 0.3), rng.uniform(0.24, 0.33)
    coat = rgb(rng.uniform(0, 1), rng.uniform(0, 0.9), rng.choice([0.12, 0.5, 0.75, 0.95]))
    legs = rgb(rng.choice([0.6, 0.08]), rng.uniform(0, 0.5), rng.uniform(0.08, 0.5))
    skin = rgb(0.06, rng.uniform(0.3, 0.55), rng.uniform(0.3, 0.9))
    hair = rgb(0.08, rng.uniform(0, 0.6), rng.uniform(0.05, 0.5))
    scene.canvas.shade_ground(x, z, (0.5, 0.35), 0.6)
    patch = scene.canvas.front(x - 0.6, x + 0.6, z, 2.1)
    shade = scene.round_shade(patch.a, 0.6)
    for side in (-1, 1):
        leg = patch.stroke((side * stride, 0), (side * stride / 3, 0.85 * tall), 0.24)
        arm = patch.stroke((side * (girth + stride / 2), 0.85 * tall), (side * girth, 1.35 * tall), 0.13)
        patch.fill(leg, "person", legs * shade)
        patch.fill(arm, "person", coat * shade)
    patch.fill(patch.disc(0, 1.15 * tall, girth, 0.4 * tall), "person", coat * shade)
    patch.fill(patch.disc(0, 1.63 * tall, 0.17, 0.2), "person", hair)
    patch.fill(patch.disc(0, 1.6 * tall, 0.14, 0.15), "person", skin)


def _post(scene: Scene, rng: np.random.Generator, patch: Patch, height: float) -> None:
    """Draw the post itself."""
    colour = rgb(rng.choice([0.1, 0.6, 0.35]), rng.uniform(0, 0.2), scene.street.post_value * rng.uniform(0.7, 1.3))
    patch.fill(patch.stroke((0, 0), (0, height), 0.26), "pole", colour * scene.round_shade(patch.a, 0.15))


def draw_lamp(scene: Scene, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a street lamp or a bare mast, with an arm over the road."""
    height = rng.uniform(4.5, 8)
    patch = scene.canvas.front(x - 2, x + 2, z, height + 0.5)
    _post(scene, rng, patch, height)
    reach = -np.sign(x) * rng.choice([0.0, 1.5])
    patch.fill(patch.stroke((0, height), (reach, height + 0.2), 0.12), "pole", rgb(0.6, 0.05, scene.street.post_value))


def draw_bollard(scene: Scene, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a bollard."""
    patch = scene.canvas.front(x - 0.2, x + 0.2, z, 1.3)
    patch.fill(patch.stroke((0, 0), (0, 1.0), 0.2), "pole", rgb(0.1, 0.1, rng.uniform(0.1, 0.8)))


def draw_sign(scene: Scene, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a traffic sign on its post: a disc, a triangle, a diamond or a board, seen from the front or the back."""
    height, half = rng.uniform(2.1, 2.8), rng.uniform(0.45, 0.75)
    patch = scene.canvas.front(x - 1, x + 1, z, height + 1)
    _post(scene, rng, patch, height)
    a, b = np.abs(patch.a), patch.b - height
    disc, triangle = patch.disc(0, height, half), (b > -0.7 * half) & (a < 0.65 * (half - b))
    diamond, board = a + np.abs(b) < 1.15 * half, (a < 0.8 * half) & (np.abs(b) < 1.1 * half)
    shape = (disc, triangle, diamond, board)[rng.integers(4)]
    rim = rgb(rng.choice([0.0, 0.6, 0.14]), 0.8, 0.7)
    face = rgb(rng.choice([0.6, 0.14, 0.0]), rng.choice([0.0, 0.8]), 0.85)
    if rng.random() < 0.15:
        rim = face = rgb(0.6, 0.03, rng.uniform(0.3, 0.6))
    patch.fill(shape, "traffic sign", rim)
    patch.fill(shape & patch.disc(0, height, 0.68 * half), "traffic sign", face)
    emblem = patch.box((-0.3 * half, 0.3 * half), (height - 0.1, height + 0.1))
    patch.fill(emblem, "traffic sign", rim * np.float32(0.5))


def draw_traffic_light(scene: Scene, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a traffic light on its post, one of its three lamps lit."""
    height, lit = rng.uniform(2.4, 3.0), rng.integers(3)
    patch = scene.canvas.front(x - 1, x + 1, z, height + 1)
    _post(scene, rng, patch, height)
    case = rng.choice([0.05, 0.05, 0.5])
    patch.fill(patch.box((-0.36, 0.36), (height - 0.85, height + 0.85)), "traffic light", rgb(0.13, 0.5, case))
    for lamp, hue in enumerate((0.0, 0.12, 0.42)):
        value = min(0.95 * scene.light.glow, 1.6) if lamp == lit else 0.18
        spot = patch.disc(0, height + 0.55 * (1 - lamp), 0.24)
        patch.fill(spot, "traffic light", rgb(hue, 0.9, value))


def draw_bin(scene: Scene, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a bin or a box, which belongs to no class."""
    half, height = rng.uniform(0.3, 0.6), rng.uniform(0.8, 1.4)
    patch = scene.canvas.front(x - half, x + half, z, height)
    colour = rgb(rng.uniform(0, 1), rng.uniform(0, 0.7), rng.uniform(0.15, 0.7))
    patch.fill(patch.b < height, "void", colour * scene.round_shade(patch.a, half))
