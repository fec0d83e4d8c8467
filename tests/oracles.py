"""Second implementations, slow and obvious, written from the sources: Python numbers and loops, nothing of `trainer`.

Maps are nested lists or anything that is indexed alike; keys are signed 64-bit integers.
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from math import exp, log
from statistics import NormalDist, fmean, stdev

IGNORE = 255
_WORD = 1 << 64
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15

ClassMap = Sequence[Sequence[int]]
ScoreMap = Sequence[Sequence[float]]
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


# --- data ---------------------------------------------------------------------------------------------------------


def majority_label(label: ClassMap, height: int, width: int) -> list[list[int]]:
    """The most frequent value of each cell, of equal ones the smallest; a cell without a pixel takes its first one.

    Source: French et al., cutmix-semisup-seg, convert_cityscapes.py: arg-max over counts of values in each block.
    """
    old_height, old_width = len(label), len(label[0])
    row_edges, column_edges = block_edges(old_height, height), block_edges(old_width, width)
    small = []
    for i in range(height):
        ys = range(row_edges[i], row_edges[i + 1]) or [min(row_edges[i], old_height - 1)]
        small.append([0] * width)
        for j in range(width):
            xs = range(column_edges[j], column_edges[j + 1]) or [min(column_edges[j], old_width - 1)]
            votes = [int(label[y][x]) for y in ys for x in xs]
            small[i][j] = min(votes, key=lambda value: (-votes.count(value), value))
    return small


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


def window_starts(length: int, window: int, overlap: Fraction) -> list[int]:
    """The fewest evenly spaced windows that cover a side and share `overlap` of the window: found by trying."""
    for steps in range(length):
        gaps = [Fraction(i * (length - window), max(steps, 1)) for i in range(steps + 1)]
        starts = [int(gap + Fraction(1, 2)) for gap in gaps]
        strides = [after - before for before, after in pairwise(starts)]
        reaches_end = starts[-1] + window == length
        if reaches_end and all(stride <= max(1, int(window * (1 - overlap))) for stride in strides):
            return starts
    raise AssertionError("a window at every pixel covers everything")


def mean_over_windows(
    height: int, width: int, window: tuple[int, int], overlap: Fraction, prob: Callable[[int, int, int, int], float]
) -> list[list[float]]:
    """At each pixel (y, x) the mean of `prob(top, left, y, x)` over all windows at (top, left) that hold it."""
    window_height, window_width = min(window[0], height), min(window[1], width)
    tops = window_starts(height, window_height, overlap)
    lefts = window_starts(width, window_width, overlap)
    means = [[0.0] * width for _ in range(height)]
    for y in range(height):
        for x in range(width):
            seen = [
                prob(top, left, y, x)
                for top in tops
                for left in lefts
                if top <= y < top + window_height and left <= x < left + window_width
            ]
            means[y][x] = fmean(seen)
    return means


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


# --- discriminators -----------------------------------------------------------------------------------------------

Planes = list[list[list[float]]]


def convolved(planes: Planes, weight: list[Planes], bias: list[float], *, stride: int, padding: int) -> Planes:
    """A convolution of [C, H, W] by loops; what lies outside counts as 0."""
    height, width, size = len(planes[0]), len(planes[0][0]), len(weight[0][0])
    rows, columns = ((length + 2 * padding - size) // stride + 1 for length in (height, width))
    result = [[[bias[place]] * columns for _ in range(rows)] for place in range(len(weight))]
    for place, (row, column) in ((p, at) for p in range(len(weight)) for at in _grid(rows, columns)):
        for source, (i, j) in ((s, at) for s in range(len(planes)) for at in _grid(size, size)):
            y, x = row * stride - padding + i, column * stride - padding + j
            if 0 <= y < height and 0 <= x < width:
                result[place][row][column] += weight[place][source][i][j] * planes[source][y][x]
    return result


def _grid(rows: int, columns: int) -> list[tuple[int, int]]:
    return [(y, x) for y in range(rows) for x in range(columns)]


def leaky(planes: Planes, slope: float) -> Planes:
    """Values as they are, those below zero times the slope."""
    return [[[value if value > 0 else slope * value for value in row] for row in plane] for plane in planes]


def resized(plane: list[list[float]], height: int, width: int) -> list[list[float]]:
    """Bilinear, the corners of both maps on each other."""

    def at(place: int, length: int, wanted: int) -> tuple[int, int, float]:
        exact = place * (length - 1) / (wanted - 1)
        first = min(int(exact), length - 1)
        return first, min(first + 1, length - 1), exact - first

    result = []
    for y in range(height):
        top, bottom, down = at(y, len(plane), height)
        row = []
        for x in range(width):
            left, right, across = at(x, len(plane[0]), width)
            upper = plane[top][left] * (1 - across) + plane[top][right] * across
            lower = plane[bottom][left] * (1 - across) + plane[bottom][right] * across
            row.append(upper * (1 - down) + lower * down)
        result.append(row)
    return result


def sigmoid(score: float) -> float:
    """1 / (1 + exp(-score))."""
    return 1 / (1 + exp(-score))


def judged(score: float, target: int) -> float:
    """Binary cross-entropy of one score: minus the logarithm of the probability it gives the target, 1 real, 0 fake."""
    return -log(sigmoid(score) if target == 1 else 1 - sigmoid(score))


def mean_judged(scores: Sequence[ScoreMap], target: int, label: Sequence[ClassMap] | None = None) -> float:
    """Mean over all pixels [N, H, W] of scores, or over those whose label is not ignored; 0 where all are."""
    shape = len(scores), len(scores[0]), len(scores[0][0])
    losses = [judged(scores[n][y][x], target) for n, y, x in _pixels(shape) if not label or label[n][y][x] != IGNORE]
    return sum(losses) / len(losses) if losses else 0.0


# --- rounds of self-training --------------------------------------------------------------------------------------


def softmax(scores: Sequence[float]) -> list[float]:
    """Probabilities of one pixel."""
    powers = [exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


def class_threshold(confidences: Sequence[float], ratio: Fraction) -> float:
    """The greatest confidence below which all but the share `ratio` of a class lies; 1 for a class without any.

    Source: DST-CBC (docs/methods.md, card 6): of n values in falling order the one behind the first floor(ratio n).
    """
    falling = sorted(confidences, reverse=True)
    return falling[ratio * len(falling) // 1] if falling else 1.0


def pool_thresholds(images: Sequence[Planes], ratio: Fraction, every: int) -> list[float]:
    """Thresholds of all classes from every so-manieth pixel of each image's probabilities [C, H, W]."""
    sampled: dict[int, list[float]] = {name: [] for name in range(len(images[0]))}
    for planes in images:
        pixels = [[plane[y][x] for plane in planes] for y, x in _grid(len(planes[0]), len(planes[0][0]))]
        for probs in pixels[::every]:
            sampled[probs.index(max(probs))].append(max(probs))
    return [class_threshold(values, ratio) for values in sampled.values()]


def label_by_thresholds(probs: Sequence[float], thresholds: Sequence[float]) -> int:
    """The class that exceeds its threshold most, ignored where none reaches it."""
    excess = [prob / threshold for prob, threshold in zip(probs, thresholds, strict=True)]
    return excess.index(max(excess)) if max(excess) >= 1 else IGNORE


def dynamic_loss(logits: list[Planes], label: Sequence[ClassMap], num_labeled: int, gamma: float) -> float:
    """Mean cross-entropy over all valid pixels, of pseudo-labelled images times probability ** gamma."""
    total, count = 0.0, 0
    for n, y, x in _pixels((len(label), len(label[0]), len(label[0][0]))):
        if label[n][y][x] != IGNORE:
            scores = [plane[y][x] for plane in logits[n]]
            weight = 1.0 if n < num_labeled else softmax(scores)[label[n][y][x]] ** gamma
            total, count = total + weight * cross_entropy_at(scores, label[n][y][x]), count + 1
    return total / max(count, 1)
