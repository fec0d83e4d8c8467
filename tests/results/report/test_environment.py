"""What attempts ran on, counted."""

from results.report.environment import environment_of
from tests.results.builders import TableStub, put_done, read, spec_of
from trainer.storage import Storage


def test_each_thing_is_one_line_with_counts_where_attempts_differ(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    for seed, code in ((0, "aa" * 32), (1, "aa" * 32), (2, "bb" * 32)):
        put_done(storage, spec_of("Supervised", seed=seed), code=code)
    facts = {fact.name: fact.values for fact in environment_of(read(storage, TableStub()).attempts)}
    assert facts["code digest"] == (("aaaaaaaaaaaa", 2), ("bbbbbbbbbbbb", 1))
    assert facts["device"] == (("cpu", 3),)
    assert facts["torch"] == (("2.11.0", 3),)


def test_nothing_has_run_on_nothing(tmp_path) -> None:
    assert list(environment_of(read(Storage(str(tmp_path)), TableStub()).attempts)) == []
