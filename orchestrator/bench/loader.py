"""Reading a step's images: from the memory-mapped cache, and by decoding and resizing PNGs as published codes do."""

from collections.abc import Iterator
from itertools import count, cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

from orchestrator.bench.measuring import Figure, Setting, ratio_of, spread_of, take_turns
from orchestrator.bench.plain import decode_and_resize
from orchestrator.bench.rooms import workspace
from trainer.data.cache import CachedSplit, open_cache
from trainer.data.catalog import open_layout
from trainer.data.folders import Layout
from trainer.data.streams import StreamReader
from trainer.methods.base import Stream
from trainer.spec import Folders, View

DECODING = "decode and resize PNGs"


def measure_loader(setting: Setting) -> list[Figure]:
    """Seconds a step of two images and labels, of the first step of an epoch, and of opening a cache that is there."""
    shrink, num_images = (16, 4) if setting.size == "small" else (1, 8)
    with workspace() as folder:
        layout = write_scenes(folder, num_images, 1024 // shrink, 2048 // shrink)
        height, width, samples = 512 // shrink, 1024 // shrink, cycle(layout.samples("train"))

        def open_() -> CachedSplit:
            return open_cache(layout, "train", height=height, width=width, folder=folder / "cache")

        def decode_two() -> None:
            for sample in islice(samples, 2):
                assert sample.label is not None
                decode_and_resize(sample.image, sample.label, height=height, width=width)

        within, beginning = within_epochs(open_()), beginning_epochs(open_())
        calls = {
            "cache": lambda: next(within),
            "cache, first step of an epoch": lambda: next(beginning),
            DECODING: decode_two,
            "open the cache": open_,
        }
        seconds = take_turns(calls, setting)
    decoding, cached = seconds[DECODING], seconds["cache"]
    first = seconds["cache, first step of an epoch"]
    rate = {"images_per_second": 2 / spread_of(cached).median, "decoded_per_second": 2 / spread_of(decoding).median}
    times = 1 / ratio_of(cached, decoding).median
    return [
        Figure(
            "loader",
            "cache",
            spread_of(cached),
            DECODING,
            ratio_of(cached, decoding),
            "at least 30 times as many images",
            {**rate, "times_as_many": times},
        ),
        Figure("loader", "first step of an epoch", spread_of(first), "any step", ratio_of(first, cached)),
        Figure("loader", "open the cache", spread_of(seconds["open the cache"])),
    ]


def reader_of(images: CachedSplit) -> StreamReader:
    """A stream of labelled images, two a step."""
    stream = Stream("labeled", "labeled", 2)
    return StreamReader(stream, images, range(len(images)), view=View(), seed=0)


def within_epochs(images: CachedSplit) -> Iterator[object]:
    """Read step after step; what is read is touched, as moving it to a device would."""
    reader = reader_of(images)
    for step in count():
        yield int(reader.read(step).image[0, 0, 0, 0])


def beginning_epochs(images: CachedSplit) -> Iterator[object]:
    """Read only the first step of each epoch, whose order nobody has asked for before."""
    reader = reader_of(images)
    for epoch in count(1000):
        yield int(reader.read(epoch * len(images) // 2).image[0, 0, 0, 0])


def write_scenes(folder: Path, num_images: int, height: int, width: int) -> Layout:
    """Photograph-like PNGs: smooth colours under the noise of a sensor, about two bytes a pixel, and label maps."""
    spec = Folders(name="bench", images="images", labels="labels", class_names=("a", "b"), height=height, width=width)
    rng = np.random.RandomState(0)
    for kind in ("images", "labels"):
        (folder / "bench" / kind / "train").mkdir(parents=True)
    for number in range(num_images):
        coarse = Image.fromarray(rng.randint(0, 256, (16, 32, 3)).astype(np.uint8)).resize((width, height), 3)
        noisy = np.clip(np.asarray(coarse, np.int16) + rng.randint(-3, 4, (height, width, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "bench" / "images" / "train" / f"{number}.png")
        label = np.repeat(np.repeat(rng.randint(0, 2, (16, 32)), height // 16, 0), width // 32, 1).astype(np.uint8)
        Image.fromarray(label).save(folder / "bench" / "labels" / "train" / f"{number}.png")
    return open_layout(spec, folder / "bench")


def pages_shared(images: CachedSplit) -> float:
    """The share of the mapped pages of a cache in this process that other processes hold too; nan if unknown."""
    shared = resident = 0
    mine = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if words[0].endswith(":"):
            resident += int(words[1]) if mine and words[0] == "Rss:" else 0
            shared += int(words[1]) if mine and words[0].startswith("Shared_") else 0
        else:
            mine = line.endswith(str(images.path))
    return shared / resident if resident else float("nan")
