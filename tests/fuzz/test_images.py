"""Image and label files that are broken, hostile or of another kind: read as they are, or refused by name."""

import io
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.hammer import EFFORTS, Within, damaged, hammer, mixgrid, tried
from trainer.data.cache import open_cache
from trainer.data.checking import check
from trainer.data.described import folders_layout
from trainer.data.folders import DataError, Layout, read_image, read_label
from trainer.spec import Folders

HEIGHT, WIDTH = 9, 7
VALUES = np.random.default_rng(0).integers(0, 3, (HEIGHT, WIDTH), dtype=np.uint8)
DATASET = Folders(name="mine", images="images", labels="labels", class_names=("a", "b", "c"), height=8, width=8)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A user's dataset of three classes."""
    return folders_layout(DATASET, tmp_path)


# --- files --------------------------------------------------------------------------------------------------------


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """An image in a format."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, depth: int = 8, color: int = 0, rows: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG by its own words."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def grey_rows(depth: int, values: np.ndarray) -> bytes:
    """Values packed into rows of a grey PNG."""
    bits = np.unpackbits(values[:, :, None], axis=2)[:, :, -depth:].reshape(len(values), -1)
    return b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)


def with_right_sums(content: bytes) -> bytes:
    """A damaged PNG whose checksums fit again, so that its insides are looked at."""
    out, at = content[:8], 8
    while at + 8 <= len(content):
        length = struct.unpack(">I", content[at : at + 4])[0]
        if length > len(content):
            return content
        out += chunk(content[at + 4 : at + 8], content[at + 8 : at + 8 + length])
        at += 12 + length
    return out


LABEL = Image.fromarray(VALUES)
COLOUR = Image.fromarray(np.stack([VALUES * 80] * 3, axis=2))
GOOD = (
    encoded(LABEL),
    encoded(LABEL, transparency=0),
    encoded(LABEL.convert("P"), transparency=0),
    encoded(COLOUR),
    encoded(COLOUR.convert("RGBA")),
    encoded(COLOUR.convert("LA")),
    encoded(LABEL.convert("1")),
    encoded(Image.fromarray(VALUES.astype(np.uint16) * 300)),
    encoded(COLOUR, "JPEG"),
    encoded(COLOUR, "WEBP", lossless=True),
    encoded(LABEL, "TIFF"),
    encoded(LABEL, "GIF"),
)
KINDS = (b"tRNS", b"PLTE", b"iCCP", b"gAMA", b"cHRM", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"pHYs", b"acTL", b"fcTL",
         b"fdAT", b"sRGB", b"bKGD", b"IHDR", b"IDAT", b"IEND")  # fmt: skip


@st.composite
def broken_images(draw: st.DrawFn) -> bytes:
    """Damaged bytes, damage under right checksums, or a strange chunk inside a good file."""
    content = draw(st.sampled_from(GOOD))
    kind = draw(st.sampled_from(["damage", "mended", "chunk"]))
    if kind == "damage" or not content.startswith(b"\x89PNG"):
        return draw(damaged(content, others=GOOD))
    if kind == "mended":
        # The size is left alone: what a large one does is asked once, below.
        return content[:24] + with_right_sums(content[:8] + draw(damaged(content[8:])))[24:]
    place = draw(st.sampled_from([33, len(content) - 12]))
    strange = chunk(draw(st.sampled_from(KINDS)), draw(st.binary(max_size=40)))
    return content[:place] + strange + content[place:]


@EFFORTS
@pytest.mark.filterwarnings("ignore")  # PIL warns of what it mends and of sizes
def test_any_file_is_an_image_or_refused_by_name(effort: int, layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "scene.png"

    def look(content: bytes) -> None:
        path.write_bytes(content)
        with Within(20):
            image, refusal = tried(lambda: read_image(path), DataError)
            assert "scene.png" in refusal if image is None else image.dtype == np.uint8
            assert image is None or (image.ndim == 3 and image.shape[2] == 3 and image.size)
            label, refusal = tried(lambda: read_label(layout, path), DataError)
            assert "scene.png" in refusal if label is None else set(np.unique(label)) <= {0, 1, 2, 255}

    hammer(look, broken_images() | st.sampled_from(GOOD), examples=250, effort=effort)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x1c\x00"])
def test_an_error_of_the_library_that_reads_is_the_files(data: bytes, layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    path.write_bytes(encoded(LABEL)[:-12] + chunk(b"iCCP", data) + chunk(b"IEND", b""))  # an IndexError in PIL
    for read in (read_image, lambda file: read_label(layout, file)):
        with pytest.raises(DataError, match=r"scene\.png cannot be read"):
            read(path)


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0), (60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**31, 1)])
@pytest.mark.parametrize("color", [0, 2, 3])
def test_sizes_of_nothing_and_beyond_measure_are_refused_by_name(
    size: tuple[int, int], color: int, layout: Layout, tmp_path: Path
) -> None:
    path = tmp_path / "scene.png"
    path.write_bytes(png(*size, color=color, rows=bytes(999)))
    with Within(2):
        for read in (read_image, lambda file: read_label(layout, file)):
            with pytest.raises(DataError, match=r"scene\.png"):
                read(path)


# --- what a label says --------------------------------------------------------------------------------------------


def test_the_same_values_in_every_lossless_form_are_the_same_label(layout: Layout, tmp_path: Path) -> None:
    forms = {
        "grey.png": encoded(LABEL),
        "palette.png": encoded(LABEL.convert("P")),
        "deep.png": encoded(Image.fromarray(VALUES.astype(np.uint16))),
        "label.tif": encoded(LABEL, "TIFF"),
        "label.bmp": encoded(LABEL, "BMP"),
        "label.gif": encoded(LABEL, "GIF"),
        "palette4.png": png(
            WIDTH, HEIGHT, depth=4, color=3, rows=grey_rows(4, VALUES), extra=chunk(b"PLTE", bytes(48))
        ),
    }
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(read_label(layout, tmp_path / name), VALUES, name)


@pytest.mark.parametrize("depth", [2, 4])
def test_values_in_few_bits_are_refused_rather_than_stretched(depth: int, layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "few.png"
    path.write_bytes(png(WIDTH, HEIGHT, depth=depth, rows=grey_rows(depth, VALUES)))
    with Image.open(path) as file:
        assert np.array(file).max() > VALUES.max()  # so PIL reads it
    with pytest.raises(DataError, match=r"few\.png stores its values in 2 or 4 bits"):
        read_label(layout, path)


def test_values_that_are_stored_inverted_are_refused(layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "inverted.tif"
    path.write_bytes(encoded(LABEL, "TIFF", tiffinfo={262: 0}))
    label, refusal = tried(lambda: read_label(layout, path), DataError)
    assert "inverted" in refusal if label is None else np.array_equal(label, VALUES)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_a_label_with_losses_is_refused_though_this_one_lost_nothing(form: str, layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "label.png"
    path.write_bytes(encoded(Image.new("L", (16, 16), 1), form, quality=100))
    with pytest.raises(DataError, match=r"label\.png cannot be read .*of another format"):
        read_label(layout, path)


@EFFORTS
def test_every_value_outside_the_classes_is_refused(effort: int, layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "label.png"

    def look(value: int, row: int, column: int) -> None:
        stored = VALUES.astype(np.uint16 if value > 255 else np.uint8)
        stored[row, column] = value
        path.write_bytes(encoded(Image.fromarray(stored)))
        label, refusal = tried(lambda: read_label(layout, path), DataError)
        if value in (0, 1, 2, 255):
            np.testing.assert_array_equal(label, stored)
        else:
            assert f"label.png holds the value {value} at 1 of 63 pixels" in refusal

    places = (st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1))
    hammer(look, st.integers(0, 65535) | st.integers(0, 300), *places, examples=60, effort=effort)


def test_a_file_that_would_be_run_to_be_read_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_words: object, **_options: object) -> None:
        pytest.fail("a program was run to read an image")

    monkeypatch.setattr(subprocess, "check_call", never)
    monkeypatch.setattr(subprocess, "Popen", never)
    path = tmp_path / "scene.png"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(%pipe%touch ran) (w) file\n%%EOF\n"
    )
    with pytest.raises(DataError, match=r"scene\.png cannot be read"):
        read_image(path)


# --- whole datasets -----------------------------------------------------------------------------------------------


def bad_pairs() -> Iterator[tuple[str, bytes, bytes]]:
    """Name, image and label of samples of which one file is bad, the good one first."""
    image, label = encoded(COLOUR), encoded(LABEL)
    yield "good", image, label
    yield "cut-image", image[:-30], label
    yield "cut-label", image, label[:-30]
    yield "empty-image", b"", label
    yield "other-size", image, encoded(LABEL.crop((0, 0, 3, 3)))
    yield "colour-label", image, image
    yield "wrong-value", image, encoded(Image.fromarray(VALUES + 7))
    yield "deep-image", encoded(Image.fromarray(VALUES.astype(np.uint16) * 300)), label
    yield "bomb-image", png(60_000, 60_000, rows=bytes(99)), label
    yield "nothing-label", image, png(0, 0)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset on disk in which all but one sample has a bad file."""
    for split in ("train", "val"):
        for name, image, label in bad_pairs():
            for kind, content in (("images", image), ("labels", label)):
                path = tmp_path / kind / split / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    return tmp_path


BAD = {f"{name}.png" for name, _, _ in bad_pairs()} - {"good.png"}


def test_checking_names_every_bad_file_once(dataset: Path, layout: Layout) -> None:
    problems = check(layout, "train")
    assert {path.name for path, _ in problems} == BAD
    assert all(path.name in message for path, message in problems)


def test_no_cache_is_built_of_bad_files_and_all_are_named(dataset: Path, layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        open_cache(layout, "train", height=8, width=8, folder=tmp_path / "cache")
    assert all(name in str(refused.value) for name in BAD)
    assert not list((tmp_path / "cache").glob("*.arrow"))


@pytest.mark.parametrize(("command", "code"), [("check", 1), ("prepare", 2)])
def test_the_commands_name_every_bad_file(command: str, code: int, dataset: Path, tmp_path: Path) -> None:
    words = ["--set", f"dataset={DATASET.model_dump_json()}", "--data", str(dataset)]
    words += ["--cache", str(tmp_path / "cache")] if command == "prepare" else []
    told = mixgrid("data", command, "demo", *words)
    assert told.code == code
    assert "Traceback" not in told.err
    assert all(name in (told.out + told.err).replace("\n", "") for name in BAD)


@EFFORTS
def test_a_damaged_cache_is_built_again_or_read_as_it_was(effort: int, tmp_path: Path, layout: Layout) -> None:
    for kind, image in (("images", COLOUR), ("labels", LABEL)):
        (tmp_path / kind / "train").mkdir(parents=True)
        (tmp_path / kind / "train" / "a.png").write_bytes(encoded(image))

    def opened() -> Any:
        return open_cache(layout, "train", height=8, width=8, folder=tmp_path / "cache")

    good = opened()
    content, pixels = good.path.read_bytes(), good.images([0]).copy()

    def look(part: bytes) -> None:
        good.path.unlink()  # the mapped file stays as it is
        good.path.write_bytes(part)
        np.testing.assert_array_equal(opened().images([0]), pixels)

    cuts = st.integers(0, len(content) - 1).map(lambda length: content[:length])
    hammer(look, cuts | st.binary(max_size=99) | st.just(arrow_file(None)), examples=40, effort=effort)
    for about in (None, {}, {"key": "x"}, {"key": "x", "rows": "many"}):
        look(arrow_file(about))


def arrow_file(about: dict[str, str] | None) -> bytes:
    """An Arrow file that is whole and no cache of ours."""
    schema = pa.schema([pa.field("name", pa.string())], metadata=about)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        for _ in range(2):
            writer.write_batch(pa.record_batch([pa.array(["a"])], schema=schema), custom_metadata={"digest": "0"})
    return bytes(sink.getvalue())
