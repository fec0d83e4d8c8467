"""Second implementations, slow and obvious, written from the sources: Python numbers and loops, nothing of `trainer`.

Maps are nested lists or anything that is indexed alike; keys are signed 64-bit integers.
"""

from collections.abc import Callable, Iterator, Sequence
from math import exp, log
from statistics import NormalDist, fmean, stdev

IGNORE = 255
_WORD = 1 << 64
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15

ClassMap = Sequence[Sequence[int]]
Chooser = Callable[[int, list[int]], set[int]]


# --- draws --------------------------------------------------------------------------------------------------------


def splitmix64_output(state: int) -> int:
    """The finalizer of splitmix64, unsigned.

    Source: Steele, Lea and Flood 2014; constants as in Vigna's splitmix64.c (Stafford's variant 13).
    """
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % _WORD
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % _WORD
    return state ^ (state >> 31)


def splitmix64_stream(seed: int, length: int) -> list[int]:
    """What the generator gives after seeding: the finalizer of seed + n x golden gamma for n = 1, 2, …"""
    return [splitmix64_output((seed + n * _GOLDEN_GAMMA) % _WORD) for n in range(1, length + 1)]


def as_signed(value: int) -> int:
    """The same 64 bits as a signed number."""
    return value - _WORD if value >= _WORD // 2 else value


def fold(key: int, data: int) -> int:
    """Hash a number into a key: the finalizer of the key crossed with the first output of the stream seeded by it."""
    return as_signed(splitmix64_output((key % _WORD) ^ splitmix64_stream(data % _WORD, 1)[0]))


def uniform(key: int) -> float:
    """The upper 53 bits of a key as a fraction of all."""
    return (key % _WORD // 2**11) / 2**53


def normal(key: int) -> float:
    """The normal number at the centre of the cell that the upper 23 bits name."""
    return NormalDist().inv_cdf((key % _WORD // 2**41 + 0.5) / 2**23)


# --- masks --------------------------------------------------------------------------------------------------------


def block_edges(length: int, blocks: int) -> list[int]:
    """k x length / blocks for k = 0..blocks, rounded half up."""
    return [(2 * k * length + blocks) // (2 * blocks) for k in range(blocks + 1)]


def block_mask(class_map: ClassMap, rows: int, columns: int, choose: Chooser) -> list[list[int]]:
    """ComplexMix by loops: in each block keep the pixels of the classes that `choose(block, present)` gives.

    Source: ComplexMix, arXiv:2101.10156, section 3.1; one block is ClassMix's mask.
    """
    height, width = len(class_map), len(class_map[0])
    mask = [[0] * width for _ in range(height)]
    row_edges, column_edges = block_edges(height, rows), block_edges(width, columns)
    for row in range(rows):
        for column in range(columns):
            ys = range(row_edges[row], row_edges[row + 1])
            xs = range(column_edges[column], column_edges[column + 1])
            present = sorted({int(class_map[y][x]) for y in ys for x in xs})
            chosen = choose(row * columns + column, present)
            for y in ys:
                for x in xs:
                    mask[y][x] = int(int(class_map[y][x]) in chosen)
    return mask


def choose_by_hash(key: int, block: int, candidates: Sequence[int], num_classes: int, count: int) -> set[int]:
    """The `count` candidate classes of smallest hash; each block and class has a number of its own."""
    return set(sorted(candidates, key=lambda name: fold(key, block * num_classes + name))[:count])


def zero_box(mask: Sequence[Sequence[float]]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the zeros of a mask; AssertionError unless they are one solid box."""
    zeros = [(y, x) for y, row in enumerate(mask) for x, value in enumerate(row) if value == 0]
    ys, xs = sorted({y for y, _ in zeros}), sorted({x for _, x in zeros})
    assert zeros == [(y, x) for y in range(ys[0], ys[-1] + 1) for x in range(xs[0], xs[-1] + 1)]
    return ys[0], xs[0], len(ys), len(xs)


def french_box(height: int, width: int, draws: Sequence[float]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the box of three draws.

    Source: French et al., cutmix-semisup-seg, mask_gen.py: y_props = exp(u ln 0.5), x_props = 0.5 / y_props.
    """
    y_share = exp(draws[0] * log(0.5))
    box_height, box_width = round(height * y_share), round(width * 0.5 / y_share)
    top, left = round((height - box_height) * draws[1]), round((width - box_width) * draws[2])
    return top, left, box_height, box_width


def classmix_box(height: int, width: int, draws: Sequence[float]) -> tuple[int, int, int, int]:
    """The same by ClassMix's transformmasks.py: a whole width in [W/2, W], the height that makes it half the area."""
    widths = range(width // 2, width + 1)
    box_width = widths[int(draws[0] * len(widths))]
    box_height = min(height, round(height * width / 2 / box_width))
    tops, lefts = range(height - box_height + 1), range(width - box_width + 1)
    return tops[int(draws[1] * len(tops))], lefts[int(draws[2] * len(lefts))], box_height, box_width


def cow_mask(height: int, width: int, key: int, sigma: float, proportion: float) -> list[list[int]]:
    """Smooth noise above mean + sqrt(2) erfinv(1 - 2 proportion) std, the Gaussian normalised at the border.

    Source: CowMix, arXiv:2003.12022, section 3; the quantile of a normal with this mean and std.
    """
    noise = [[normal(fold(fold(key, 1), y * width + x)) for x in range(width)] for y in range(height)]
    down, across = _gaussian_rows(height, sigma), _gaussian_rows(width, sigma)
    smooth = [
        [
            sum(down[y][i] * across[x][j] * noise[i][j] for i in range(height) for j in range(width))
            for x in range(width)
        ]
        for y in range(height)
    ]
    flat = [value for row in smooth for value in row]
    threshold = NormalDist(fmean(flat), stdev(flat)).inv_cdf(1 - proportion)
    return [[int(value > threshold) for value in row] for row in smooth]


def _gaussian_rows(length: int, sigma: float) -> list[list[float]]:
    rows = [[exp(-((i - j) ** 2) / (2 * sigma**2)) for j in range(length)] for i in range(length)]
    return [[weight / sum(row) for weight in row] for row in rows]


# --- losses, metrics, averages ------------------------------------------------------------------------------------


def _pixels(shape: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    samples, height, width = shape
    return ((n, y, x) for n in range(samples) for y in range(height) for x in range(width))


def cross_entropy_at(scores: Sequence[float], truth: int) -> float:
    """Minus the logarithm of the soft-max of one pixel's scores at its true class."""
    largest = max(scores)
    return log(sum(exp(score - largest) for score in scores)) + largest - scores[truth]


def mean_cross_entropy(logits: list[list[list[list[float]]]], label: list[list[list[int]]]) -> float:
    """Mean over the pixels [N, H, W] whose label is not ignored; 0 where all are. Logits are [N, C, H, W]."""
    losses = [
        cross_entropy_at([plane[y][x] for plane in logits[n]], label[n][y][x])
        for n, y, x in _pixels((len(label), len(label[0]), len(label[0][0])))
        if label[n][y][x] != IGNORE
    ]
    return sum(losses) / len(losses) if losses else 0.0


def ious_by_counting(
    prediction: list[list[list[int]]], label: list[list[list[int]]], num_classes: int
) -> list[float | None]:
    """Intersection over union of each class by looking at every pixel; None for a class that is in neither."""
    ious: list[float | None] = []
    for name in range(num_classes):
        both = either = 0
        for n, y, x in _pixels((len(label), len(label[0]), len(label[0][0]))):
            if label[n][y][x] != IGNORE:
                both += prediction[n][y][x] == name and label[n][y][x] == name
                either += prediction[n][y][x] == name or label[n][y][x] == name
        ious.append(both / either if either else None)
    return ious


def averaged(values: Sequence[float], ema_decay: float, *, warm_up: bool, start: float) -> list[float]:
    """The average after each of the student's values: decay min(1 - 1 / (k + 1), ema_decay), k counted from 0."""
    average, averages = start, []
    for k, value in enumerate(values):
        decay = min(1 - 1 / (k + 1), ema_decay) if warm_up else ema_decay
        average = decay * average + (1 - decay) * value
        averages.append(average)
    return averages


def poly_rate(step: int, num_steps: int, power: float) -> float:
    """(1 - step / num_steps) to the power, by logarithms."""
    left = (num_steps - step) / num_steps
    return exp(power * log(left)) if left > 0 else 0.0


def repeated_sgd(
    value: Sequence[float],
    momentum: Sequence[float],
    gradient: Sequence[float],
    *,
    rate: float,
    decay: float,
    repeats: int,
    friction: float = 0.9,
) -> tuple[list[float], list[float]]:
    """So many explicit SGD steps, one after another, with the same gradient; returns the new values and momenta."""
    values, momenta = list(value), list(momentum)
    for _ in range(repeats):
        for i, slope in enumerate(gradient):
            momenta[i] = friction * momenta[i] + slope + decay * values[i]
            values[i] = values[i] - rate * momenta[i]
    return values, momenta
