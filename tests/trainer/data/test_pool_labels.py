"""Labels of the pool: small, exact, and refused where they are something else."""

import numpy as np
import pytest

from trainer.data.folders import DataError
from trainer.data.pool_labels import PoolLabels, pack, read_pool_labels


def some_labels() -> PoolLabels:
    """Two different label maps."""
    maps = {name: np.arange(24, dtype=np.uint8).reshape(4, 6) + place for place, name in enumerate(("b/x", "a"))}
    return PoolLabels(4, 6, {name: pack(label) for name, label in maps.items()}, {"label_ratio": 0.2})


def test_what_was_packed_comes_back() -> None:
    again = read_pool_labels(some_labels().to_bytes(), {"label_ratio": 0.2})
    assert again == some_labels()
    assert again.label("b/x").tolist() == np.arange(24).reshape(4, 6).tolist()
    assert again.label("a")[0, 0] == 1


def test_the_bytes_do_not_depend_on_the_order_in_which_ranks_came() -> None:
    labels = some_labels()
    turned = PoolLabels(4, 6, dict(reversed(list(labels.packed.items()))), {})
    assert turned.to_bytes() == labels.to_bytes()
    assert turned.digest == labels.digest


def test_label_maps_take_a_fraction_of_their_pixels() -> None:
    label = np.repeat(np.arange(16, dtype=np.uint8), 512 * 64).reshape(512, 1024)
    assert len(pack(label)) < label.size / 30


def test_an_image_outside_the_pool_has_no_label() -> None:
    with pytest.raises(KeyError):
        some_labels().label("c")


@pytest.mark.parametrize("content", [b"", b"junk", some_labels().to_bytes()[:-40]])
def test_something_else_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="no labels of a pool"):
        read_pool_labels(content, {})
