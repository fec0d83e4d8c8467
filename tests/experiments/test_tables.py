"""The declared tables: what the paper's frame is, and that block counts fit the image size."""

from experiments import TABLES
from experiments.table import find_table
from orchestrator.lint import findings
from trainer.spec import ComplexMask, Mix, TrialSpec

TABLE1 = find_table("table1", TABLES)


def test_the_papers_frame_is_the_default_spec() -> None:
    cell = TABLE1.cells()[0]
    assert cell.spec == TrialSpec(label_fraction="1/30", seed=0)


def test_table1_has_the_papers_fractions_and_five_seeds() -> None:
    assert [str(fraction) for fraction in TABLE1.fractions] == ["1/30", "1/8", "1/4", "1/2", "1"]
    assert TABLE1.seeds == (0, 1, 2, 3, 4)


def test_complexmix_reads_section_3_1_literally() -> None:
    method = next(row.method for row in TABLE1.rows if row.label == "ComplexMix")
    assert isinstance(method, Mix)
    assert method.mask == ComplexMask(block_counts=(4, 16, 64, 128), grid="per_side", classes="of_all")


def test_block_counts_of_every_table_fit_its_images() -> None:
    for name in TABLES:
        assert not [note for note in findings(find_table(name, TABLES), data="data", weights=None) if "block" in note]
