"""Where synthetic scenes are drawn: classes, a pinhole camera, a canvas with depth, upright patches in metres.

Knows nothing of streets. The world is metres: x to the right of the road's middle, up from the ground, z ahead of the
camera; so one scene is the same at every size. Arithmetic on pixels is + - * / alone, whose bits no processor changes.
"""

from colorsys import hsv_to_rgb
from dataclasses import dataclass, field
from math import ceil, floor, inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Coordinates = NDArray[np.floating[Any]] | float
Bytes = NDArray[np.uint8]

VOID = 255
CLASSES: dict[str, tuple[int, tuple[int, int, int]]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "car": (26, (0, 0, 142)),
    "bus": (28, (0, 60, 100)),
    "bicycle": (33, (119, 11, 32)),
}
CLASS_INDEX = {name: index for index, name in enumerate(CLASSES)} | {"void": VOID}
NEAREST = 1.2


def rgb(hue: float, saturation: float, value: float) -> Floats:
    """Give a colour [3] in 0..1; the hue wraps around."""
    return np.array(hsv_to_rgb(hue % 1, saturation, value), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera looking along the road; focal, centre and horizon in pixels, x and eye in metres."""

    height: int
    width: int
    focal: float
    centre: float
    horizon: float
    x: float
    eye: float

    def first_seen(self, x: float) -> float:
        """Say how far ahead a thing at x comes into view."""
        room = self.width - self.centre if x > self.x else self.centre
        return abs(x - self.x) * self.focal / room


def draw_camera(rng: np.random.Generator, height: int, width: int) -> Camera:
    """Draw where the camera stands; its place and view do not depend on the size."""
    return Camera(
        height,
        width,
        focal=height * rng.uniform(0.85, 1.2),
        centre=width * rng.uniform(0.36, 0.64),
        horizon=height * rng.uniform(0.36, 0.54),
        x=rng.uniform(-1.6, 1.6),
        eye=rng.uniform(1.3, 2.3),
    )


@dataclass(slots=True)
class Canvas:
    """What has been drawn so far; nearer things hide farther ones in whatever order they come.

    image: [H, W, 3] float32, reflected colour before light; label: [H, W] uint8; depth: [H, W] float32 metres.
    lattice: [64, 64] float32 in 0..1, the scene's one source of texture.
    """

    camera: Camera
    lattice: Floats
    image: Floats = field(init=False)
    label: Bytes = field(init=False)
    depth: Floats = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.camera.height, self.camera.width)
        self.image = np.zeros((*shape, 3), dtype=np.float32)
        self.label = np.full(shape, CLASS_INDEX["sky"], dtype=np.uint8)
        self.depth = np.full(shape, inf, dtype=np.float32)

    def cell(self, i: Coordinates, j: Coordinates) -> Floats:
        """Give one number in 0..1 per unit square of the plane, repeating after 64."""
        values: Floats = self.lattice[np.floor(i).astype(np.int64) & 63, np.floor(j).astype(np.int64) & 63]
        return values

    def noise(self, x: Coordinates, y: Coordinates) -> Floats:
        """Give smooth noise in 0..1 whose spots are one unit wide."""
        x, y = np.broadcast_arrays(np.asarray(x, dtype=np.float32), np.asarray(y, dtype=np.float32))
        i, j = np.floor(x), np.floor(y)
        s, t = x - i, y - j
        i0, j0 = i.astype(np.int64) & 63, j.astype(np.int64) & 63
        i1, j1 = (i0 + 1) & 63, (j0 + 1) & 63
        low = self.lattice[i0, j0] * (1 - s) + self.lattice[i1, j0] * s
        values: Floats = low * (1 - t) + (self.lattice[i0, j1] * (1 - s) + self.lattice[i1, j1] * s) * t
        return values

    def front(self, x0: float, x1: float, z: float, top: float) -> "Patch":
        """Open an upright patch facing the camera, z metres away; its `a` is metres right of its middle."""
        camera = self.camera
        scale = camera.focal / max(z, NEAREST)
        left, right = (camera.centre + (x - camera.x) * scale for x in (x0, x1))
        above, below = (camera.horizon + (camera.eye - b) * scale for b in (top, 0))
        rows, v = _pixels(above, below, camera.height)
        columns, u = _pixels(left, right, camera.width)
        a = (u - camera.centre) / scale + camera.x - (x0 + x1) / 2
        b = camera.eye - (v - camera.horizon) / scale
        return Patch(self, (rows, columns), a[None, :], b[:, None], np.full((1, 1), z, dtype=np.float32))

    def side(self, x: float, z0: float, z1: float, top: float) -> "Patch":
        """Open an upright patch along the road at x, from z0 to z1; its `a` is metres behind its middle."""
        camera, near = self.camera, max(z0, NEAREST)
        offset = camera.focal * (x - camera.x)
        if z1 <= near or abs(offset) < 1e-6:
            return self.front(self.camera.x, self.camera.x, near, 0)  # behind us or edge-on: nothing to see
        left, right = sorted(camera.centre + offset / z for z in (near, z1))
        columns, u = _pixels(left, right, camera.width)
        above = min(camera.horizon + (camera.eye - top) * camera.focal / z for z in (near, z1))
        rows, v = _pixels(above, camera.horizon + camera.eye * camera.focal / near, camera.height)
        z: Floats = (offset / (u - camera.centre))[None, :]
        b = camera.eye - (v - camera.horizon)[:, None] * z / camera.focal
        return Patch(self, (rows, columns), z - (z0 + z1) / 2, b, z)

    def ground(self) -> "Patch":
        """Open the ground below the horizon; here `a` is world x and `b` is world z."""
        camera = self.camera
        rows, v = _pixels(camera.horizon + 1e-3 * camera.height, camera.height, camera.height)
        columns, u = _pixels(0, camera.width, camera.width)
        z: Floats = (camera.focal * camera.eye / (v - camera.horizon))[:, None]
        x: Floats = (u - camera.centre)[None, :] * z / camera.focal + camera.x
        return Patch(self, (rows, columns), x, z, z)

    def shade_ground(self, x: float, z: float, reach: tuple[float, float], share: float) -> None:
        """Darken an ellipse of road or sidewalk around (x, z), `reach` metres across and along."""
        camera = self.camera
        ends = [max(z - reach[1], NEAREST), z + reach[1]]
        v0, v1 = (camera.horizon + camera.eye * camera.focal / end for end in reversed(ends))
        rows, v = _pixels(v0, v1, camera.height)
        depth = camera.focal * camera.eye / (v - camera.horizon)
        across = (np.arange(camera.width, dtype=np.float32) + 0.5 - camera.centre) / camera.focal
        a = (across[None, :] * depth[:, None] + camera.x - x) / reach[0]
        b = (depth[:, None] - z) / reach[1]
        mask = (a * a + b * b < 1) & (self.label[rows] <= CLASS_INDEX["sidewalk"])
        self.image[rows][mask] *= share


def _pixels(start: float, stop: float, size: int) -> tuple[slice, Floats]:
    """Find the pixels whose centres lie in start..stop: their slice and their centres."""
    low = min(max(ceil(start - 0.5), 0), size)
    high = max(min(floor(stop - 0.5) + 1, size), low)
    return slice(low, high), np.arange(low, high, dtype=np.float32) + np.float32(0.5)


@dataclass(frozen=True, slots=True)
class Patch:
    """A flat piece of the world on the canvas, with coordinates in metres for each of its pixels.

    a, b: broadcast to the patch's [h, w]; on upright patches b is height above the ground. depth: metres, likewise.
    """

    canvas: Canvas
    view: tuple[slice, slice]
    a: Floats
    b: Floats
    depth: Floats

    def fill(self, mask: Bools, name: str, colour: Floats) -> None:
        """Paint and label the pixels of the mask that nothing nearer hides; colour [3] or [h, w, 3]."""
        canvas = self.canvas
        seen = mask & (self.depth <= canvas.depth[self.view])
        canvas.image[self.view][seen] = colour if colour.ndim == 1 else np.broadcast_to(colour, (*seen.shape, 3))[seen]
        canvas.label[self.view][seen] = CLASS_INDEX[name]
        canvas.depth[self.view][seen] = np.broadcast_to(self.depth, seen.shape)[seen]

    def tag(self, mask: Bools, name: str) -> None:
        """Label the pixels of the mask that nothing nearer hides, and leave what is seen through them."""
        self.canvas.label[self.view][mask & (self.depth <= self.canvas.depth[self.view])] = CLASS_INDEX[name]

    def box(self, a: tuple[float, float], b: tuple[float, float]) -> Bools:
        """Mask the rectangle from a[0] to a[1], b[0] to b[1]."""
        return (self.a >= a[0]) & (self.a <= a[1]) & (self.b >= b[0]) & (self.b <= b[1])

    def disc(self, a: float, b: float, ra: float, rb: float | None = None) -> Bools:
        """Mask the ellipse around (a, b), at least a pixel wide."""
        least = 0.55 * self.depth / self.canvas.camera.focal
        s = (self.a - a) / np.maximum(ra, least)
        t = (self.b - b) / np.maximum(ra if rb is None else rb, least)
        mask: Bools = s * s + t * t <= 1
        return mask

    def stroke(self, start: tuple[float, float], end: tuple[float, float], thick: float) -> Bools:
        """Mask the straight line between two points, at least a pixel thick."""
        da, db = end[0] - start[0], end[1] - start[1]
        along = ((self.a - start[0]) * da + (self.b - start[1]) * db) / max(da * da + db * db, 1e-9)
        along = np.clip(along, 0, 1)
        s, t = self.a - start[0] - along * da, self.b - start[1] - along * db
        half = np.maximum(thick / 2, 0.55 * self.depth / self.canvas.camera.focal)
        mask: Bools = s * s + t * t <= half * half
        return mask

    def mottle(self, spots: float, offset: float = 0.0) -> Floats:
        """Give texture in 0..1 with this many spots per metre."""
        return self.canvas.noise(self.a * spots + offset, self.b * spots + 2 * offset)
