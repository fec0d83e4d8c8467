"""A table with all it stands on in one archive, from which it is redrawn without training, Ray or a network.

The same records, code and libraries give the same content. What is written here may be published: nothing enters that
holds a key, and what names machines and persons is said in the README, or withheld.
"""

import hashlib
import io
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from results.bundle_code import closure, environment, requirements
from results.bundle_text import readme, revealed, told, withheld
from results.frame import NOTHING_STALE
from results.redraw import PRINTED, RECORDS, SUMS_FILE, TABLE_FILE, draw
from results.table_data import PrintableTable, PrintedData, table_data
from trainer.reading import read_trial
from trainer.records import attempt_path, trial_path
from trainer.storage import Storage

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_OF_A_TRIAL = ("spec.json", "result.json", "failure.json", "accepted.json")
_OF_AN_ATTEMPT = re.compile(r"(manifest|progress|ended-\d+)\.json")
_KEY_IN_URL = re.compile(rb"[a-z][a-z0-9+.-]*://[^\s/@:\"]+:[^\s/@\"]+@", re.IGNORECASE)
_NUM_THREADS = 16


@dataclass(frozen=True, slots=True)
class Bundle:
    """The files of an archive by name (folders end in a slash), and lines on what they reveal."""

    name: str
    files: Mapping[str, bytes]
    num_done: int
    num_trials: int
    reveals: tuple[str, ...]

    def packed(self) -> bytes:
        """The archive: sorted, with one date for all."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(self.files):
                entry = zipfile.ZipInfo(f"{self.name}/{name}", _LONG_AGO)
                entry.create_system = 3  # else it tells on which system it was made
                entry.external_attr = (0o40755 if name.endswith("/") else 0o100644) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, self.files[name])
        return buffer.getvalue()


def bundle(
    storage: Storage,
    table: PrintableTable,
    files: Mapping[str, str],
    *,
    running: Iterable[str] = (),
    stale: Mapping[str, str] = NOTHING_STALE,
    is_anonymous: bool = False,
) -> Bundle:
    """Gather a table: records, the table as data and as printed, the code that redraws it, versions, a README.

    Args:
        files: names of the table's files by format.
        running, stale: as in `read_frames`; what is printed depends on them.
        is_anonymous: withhold hosts, processes, folders, persons and traces; what held them is sealed anew.
    Raises: ValueError naming a record with a key in it.
    """
    data = PrintedData(table=table_data(table), running=tuple(sorted(running)), stale=dict(stale), files=dict(files))
    trial_ids = sorted({cell.trial_id for cell in table.cells()})
    records = refuse_keys(read_records(storage, trial_ids))
    found = revealed(records)
    if is_anonymous:
        records = withheld(records)
    num_done = sum(f"{trial_path(trial_id)}/result.json" in records for trial_id in trial_ids)
    code = closure()
    text = readme(
        name=table.name,
        title=table.title,
        num_done=num_done,
        num_trials=len(trial_ids),
        sums=SUMS_FILE,
        reveals=told(found, is_anonymous=is_anonymous),
    )
    content = {
        **code,
        **{f"{RECORDS}/{name}": record for name, record in records.items()},
        **{f"{PRINTED}/{name}": drawn for name, drawn in _drawn(data, records).items()},
        TABLE_FILE: f"{data.model_dump_json(indent=1)}\n".encode(),
        "README.md": text.encode(),
        "requirements.txt": requirements(code).encode(),
        "environment.txt": environment().encode(),
    }
    content[SUMS_FILE] = _sums(content)
    reveals = () if is_anonymous else found.lines
    return Bundle(table.name, content, num_done, len(trial_ids), reveals)


def _drawn(data: PrintedData, records: Mapping[str, bytes]) -> dict[str, bytes]:
    """The table's files from just these records, as whoever redraws them will have them."""
    with tempfile.TemporaryDirectory() as folder:
        for name, record in records.items():
            path = Path(folder, name)
            (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                path.write_bytes(record)
        return draw(data, Storage(folder))


def _sums(files: Mapping[str, bytes]) -> bytes:
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files) if name[-1] != "/")
    return "".join(lines).encode()


# --- records ------------------------------------------------------------------------------------------------------


def read_records(storage: Storage, trial_ids: Sequence[str]) -> dict[str, bytes]:
    """The sealed records of trials by their path in storage, with the folders of attempts, which count by their names.

    Seals of checkpoints are among them where a trial is not done: they say how far it is.
    """
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        found = pool.map(lambda trial_id: list(_records_of(storage, trial_id)), trial_ids)
        paths = [path for of_trial in found for path in of_trial]
        contents = pool.map(lambda path: b"" if path.endswith("/") else _read(storage, path), paths)
        return {path: content for path, content in zip(paths, contents, strict=True) if content is not None}


def _read(storage: Storage, path: str) -> bytes | None:
    with suppress(FileNotFoundError):
        return storage.read(path)
    return None


def _records_of(storage: Storage, trial_id: str) -> Iterator[str]:
    yield from (trial_path(trial_id, name) for name in storage.names(trial_path(trial_id)) if name in _OF_A_TRIAL)
    for name in storage.names(trial_path(trial_id, "superseded")):
        if not name.startswith("."):
            yield trial_path(trial_id, "superseded", name)
    is_done = read_trial(storage, trial_id)[0].kind == "done"
    for attempt in storage.names(trial_path(trial_id, "attempts")):
        folder = attempt_path(trial_id, attempt)
        yield f"{folder}/"
        for name in storage.names(folder):
            if _OF_AN_ATTEMPT.fullmatch(name):
                yield f"{folder}/{name}"
            elif name.startswith("checkpoint-") and not is_done:
                yield f"{folder}/{name}/commit.json"


def refuse_keys(records: dict[str, bytes]) -> dict[str, bytes]:
    """Give records back. Raises: ValueError naming the first with a URL that holds a key."""
    for path, content in records.items():
        if _KEY_IN_URL.search(content):
            raise ValueError(
                f"{path} holds a URL with a key: a bundle may be published, so it is refused; withdraw the key, and "
                "leave the trial out (--rows, --fractions, --seeds) or train it anew"
            )
    return records
