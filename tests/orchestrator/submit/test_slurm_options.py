"""Options for Slurm: what is refused before anything is queued, time limits, what a small second job needs."""

import pytest

from orchestrator.submit.request import SubmitError
from orchestrator.submit.slurm_options import SlurmOptions, asks_for_gpus, of_whoever_pays, seconds_of


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("--time=1:00:00", "say --time TIME without --sbatch"),
        ("-t 10", "say --time TIME without --sbatch"),
        ("--signal=USR2@60", "say --grace-seconds instead"),
        ("--array=0-3", "choose cells with --rows"),
        ("-a0-3", "choose cells with --rows"),
        ("--job-name=mine", "found by the name"),
        ("-Jmine", "found by the name"),
        ("-o log.txt", "mixgrid logs --job"),
        ("--clusters=other", "export SLURM_CLUSTERS"),
        ("partition=gpu", "say it as in --sbatch --qos=high"),
        ("--qos=high\n#SBATCH --array=1", "say it as in --sbatch --qos=high"),
    ],
)
def test_an_option_that_would_break_the_job_is_refused(line: str, why: str) -> None:
    with pytest.raises(SubmitError, match=why):
        SlurmOptions(lines=(line,))


def test_other_options_pass() -> None:
    lines = ("--qos=high", "-p gpu", "--gres=gpu:2", "--timeout-is-mine=3", "--constraint=a100&ib", "--mail-type=END")
    assert SlurmOptions(lines=lines).lines == lines


def test_an_option_of_sbatch_is_no_line_of_shell() -> None:
    with pytest.raises(SubmitError, match="say --sbatch '--qos=high'"):
        SlurmOptions(setup=("#SBATCH --qos=high",))


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("8:00:00", 28800),
        ("2-12", 216000),
        ("2-12:30", 217800),
        ("2-12:30:15", 217815),
        ("UNLIMITED", None),
        ("soon", None),
    ],
)
def test_a_time_is_read_as_sbatch_reads_it(time: str, seconds: int | None) -> None:
    assert seconds_of(time) == seconds


@pytest.mark.parametrize(("time", "grace"), [("00:05:00", 300), ("5", 301), ("1-0", 0), ("1-0", -1), ("9-0", 65536)])
def test_a_warning_comes_after_the_start_and_before_the_end(time: str, grace: int) -> None:
    with pytest.raises(SubmitError, match=f"--grace-seconds {grace} with --time {time}"):
        SlurmOptions(time=time, grace_seconds=grace)


def test_a_warning_shorter_than_the_time_passes_and_so_does_none_at_all() -> None:
    assert SlurmOptions(time="00:05:01", grace_seconds=300).grace_seconds == 300
    assert SlurmOptions(time="UNLIMITED").grace_seconds == 300


def test_lines_say_who_pays_and_which_gpus() -> None:
    options = SlurmOptions(lines=("--gres=gpu:1", "-A papers", "--qos=high", "--constraint=a100", "-pgpu"))
    assert of_whoever_pays(options) == ["-A papers", "--qos=high", "-pgpu"]
    assert asks_for_gpus(options)
    assert not asks_for_gpus(SlurmOptions(lines=("--gres=tmpdisk:1", "--constraint=gpu")))
