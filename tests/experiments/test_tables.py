"""The declared tables: their cells, that trials once run stay theirs, and that each published deviation is applied."""

from collections import Counter
from fractions import Fraction
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from experiments import TABLES
from experiments.table import Cell, Deviation, find_table
from experiments.table1 import ROWS, dst_cbc_lengths
from orchestrator.lint import findings
from trainer.build import bare_network, build_method
from trainer.spec import (
    DSTCBC,
    NO_AUGMENTATION,
    Adam,
    BoxMask,
    ComplexMask,
    Constant,
    Mix,
    StrongAugmentation,
    TrialSpec,
)

TABLE1 = find_table("table1", TABLES)
PUBLISHED = find_table("table1_as_published", TABLES)
ABLATION = find_table("ablation_blocks", TABLES)

# What table1 had before the other rows came: finished trials must stay its cells.
EARLIER = {
    "DeepLab-V2@1/30#0": "supervised-a651f925669d",
    "DeepLab-V2@1/8#0": "supervised-cf0d217c83be",
    "DeepLab-V2@1/4#0": "supervised-7cb348defe8d",
    "DeepLab-V2@1/2#0": "supervised-e4254a2fab29",
    "DeepLab-V2@1#0": "supervised-44136fa355b3",
    "ClassMix@1/30#0": "classmix-3fae9c82b3c3",
    "ClassMix@1/8#0": "classmix-d7490b9722f2",
    "ClassMix@1/4#0": "classmix-2b8b0b815f65",
    "ClassMix@1/2#0": "classmix-bdda6b25d012",
    "ComplexMix@1/30#0": "complexmix-c08f746e12d3",
    "ComplexMix@1/8#0": "complexmix-5831b38f324a",
    "ComplexMix@1/4#0": "complexmix-2bf61e592a25",
    "ComplexMix@1/2#0": "complexmix-34be9448e416",
}


def cell_of(name: str) -> Cell:
    return next(cell for cell in PUBLISHED.cells() if cell.name == name)


def value_at(spec: TrialSpec, path: str) -> Any:
    value: Any = spec
    for word in path.split("."):
        value = getattr(value, word)
    return value.model_dump() if isinstance(value, BaseModel) else value


def test_the_papers_frame_is_the_default_spec() -> None:
    cell = TABLE1.cells()[0]
    assert cell.spec == TrialSpec(label_fraction="1/30", seed=0)


def test_table1_has_the_papers_fractions_and_five_seeds() -> None:
    assert [str(fraction) for fraction in TABLE1.fractions] == ["1/30", "1/8", "1/4", "1/2", "1"]
    assert TABLE1.seeds == (0, 1, 2, 3, 4)


def test_table1_has_145_cells_in_the_papers_order_of_rows() -> None:
    counts = Counter(cell.row for cell in TABLE1.cells())
    assert list(counts.items()) == [
        ("DeepLab-V2", 25),
        ("Adversarial", 20),
        ("s4GAN", 20),
        ("DST-CBC", 20),
        ("French et al. (CutMix)", 20),
        ("ClassMix", 20),
        ("ComplexMix", 20),
    ]


def test_the_trials_of_the_earlier_table1_are_still_its_cells() -> None:
    ids = {cell.name: cell.trial_id for cell in TABLE1.cells()}
    assert {name: ids[name] for name in EARLIER} == EARLIER


def test_every_row_of_every_table_is_valid_at_each_of_its_fractions() -> None:
    for name in TABLES:
        table = find_table(name, TABLES)
        cells = table.selected(rows="all").cells()
        assert len({cell.row for cell in cells}) == len(table.rows)
        assert len({cell.trial_id for cell in cells}) == len(cells)


@pytest.mark.parametrize("name", ["table1", "table1_as_published", "ablation_blocks", "demo_methods"])
def test_every_row_can_be_built(name: str) -> None:
    table = find_table(name, TABLES).selected(rows="all", seeds="0")
    specs = [cell.spec for cell in table.cells()]
    for spec in {(spec.network, spec.initial_weights): spec for spec in specs}.values():
        with torch.device("meta"):
            network, _ = bare_network(spec, 19)
        assert network.backbone_parameters()
    assert all(build_method(spec, 19).streams for spec in specs)


def test_every_mixing_row_of_the_controlled_table_has_jitter_and_blur() -> None:
    mixing = [row.method for row in ROWS if isinstance(row.method, Mix)]
    assert len(mixing) == 7
    assert {method.augmentation for method in mixing} == {StrongAugmentation()}


def test_complexmix_reads_section_3_1_literally() -> None:
    method = next(row.method for row in TABLE1.rows if row.label == "ComplexMix")
    assert isinstance(method, Mix)
    assert method.mask == ComplexMask(block_counts=(4, 16, 64, 128), grid="per_side", classes="of_all")


def test_block_counts_of_every_table_fit_its_images() -> None:
    for name in TABLES:
        found = findings(find_table(name, TABLES), data="data", weights=None)
        assert not [note for note in found if "block counts" in note.text]


# --- as published -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", PUBLISHED.rows, ids=lambda row: row.label)
def test_each_published_deviation_has_a_source_and_reaches_the_spec(row: Any) -> None:
    table = PUBLISHED.selected(rows=row.label, seeds="0")
    for cell in table.cells():
        frame = TrialSpec(label_fraction=cell.label_fraction, method=row.method)
        for path, value, source in row.declared_at(cell.label_fraction):
            assert source
            found = value_at(cell.spec, path)
            assert path == "optimizer.repeats_backbone" or found != value_at(frame, path), path
            if isinstance(value, dict):
                assert {name: found[name] for name in value} == value
            else:
                assert found == value


def test_rows_are_run_at_the_fractions_they_were_published_for() -> None:
    at = {row.label: [str(fraction) for fraction in PUBLISHED.fractions_of(row)] for row in PUBLISHED.included_rows}
    assert at["Adversarial"] == ["1/8", "1/4", "1/2"]
    assert at["s4GAN"] == ["1/8", "1/4"]
    assert at["DST-CBC"] == at["French et al. (CutMix)"] == ["1/30", "1/8", "1/4"]
    assert at["ClassMix"] == at["ComplexMix"] == ["1/30", "1/8", "1/4", "1/2"]
    assert len(PUBLISHED.cells()) == 120


def test_french_as_published_trains_and_is_judged_as_card_7_says() -> None:
    spec = cell_of("French et al. (CutMix)@1/8#0").spec
    assert isinstance(spec.method, Mix)
    assert isinstance(spec.optimizer, Adam)
    assert spec.schedule == Constant()
    assert spec.optimizer.learning_rate * spec.optimizer.head_multiplier == pytest.approx(3e-5)
    assert (spec.method.mask, spec.method.loss, spec.method.augmentation) == (BoxMask(), "squared", NO_AUGMENTATION)
    row = next(row for row in PUBLISHED.rows if row.label.startswith("French"))
    assert (row.reported_network, row.selection) == ("teacher", None)


@pytest.mark.parametrize(
    ("labeled", "epochs", "start", "steps"),
    [(100, 330, 4125, 40_075), (372, 170, 7905, 40_455), (744, 120, 11_160, 39_060)],
)
def test_dst_cbc_is_as_long_as_its_epochs_say(labeled: int, epochs: int, start: int, steps: int) -> None:
    lengths = dst_cbc_lengths(Fraction(1, 8), labeled=labeled, epochs=epochs)
    assert [deviation.value for deviation in lengths] == [start, steps]


def test_dst_cbc_as_published_shares_its_steps_among_five_rounds() -> None:
    for cell in PUBLISHED.selected(rows="DST-CBC", seeds="0").cells():
        assert isinstance(cell.spec.method, DSTCBC)
        assert (cell.spec.num_steps - cell.spec.method.supervised_start) % 5 == 0
        assert (cell.spec.dataset.height, cell.spec.dataset.width) == (513, 1025)
    assert next(row for row in PUBLISHED.rows if row.label == "DST-CBC").selection == "best"


def test_complexmix_as_published_says_that_classmix_stands_in() -> None:
    row = next(row for row in PUBLISHED.rows if row.label == "ComplexMix")
    assert all("8A" in Deviation(*given).source for given in row.deviations)


# --- ablation -----------------------------------------------------------------------------------------------------


def test_each_row_of_the_ablation_changes_one_field_of_complexmix() -> None:
    methods = {row.label: row.method for row in ABLATION.rows}
    reference = methods.pop("ComplexMix").model_dump()
    del methods["ClassMix"]
    for label, method in methods.items():
        content = method.model_dump()
        mask = {f"mask.{name}" for name, value in content.pop("mask").items() if value != reference["mask"][name]}
        changed = mask | {name for name, value in content.items() if value != reference[name]}
        assert changed == {"mask.grid", "mask.classes"} if label.endswith("all: half of present") else len(changed) == 1


def test_the_ablation_shares_its_reference_trials_with_table1() -> None:
    everything = {cell.trial_id for cell in TABLE1.selected(rows="all").cells()}
    shared = Counter(cell.row for cell in ABLATION.cells() if cell.trial_id in everything)
    assert set(shared) == {"ClassMix", "ComplexMix", "p blocks in all: half of present", "gate per pixel"}
    assert len(ABLATION.cells()) == 17 * 3
