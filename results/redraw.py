"""Draws the table of a bundle again from its records, and compares it with the files as they were printed.

Runs in the unpacked bundle as `python -m results.redraw`; needs neither training, Ray nor a network.
"""

import hashlib
import sys
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

from results.aggregate import selections_of
from results.compute import compute_table
from results.frame import read_frames
from results.table_data import PrintedData
from results.tables import format_table
from trainer.storage import Storage

TABLE_FILE, SUMS_FILE, RECORDS, PRINTED, REDRAWN = "table.json", "SHA256SUMS", "records", "printed", "redrawn"
_MOST_LINES = 20


def redraw(folder: Path) -> dict[str, bytes]:
    """The files of the table of an unpacked bundle, from its records alone, by name.

    Raises: ValueError where the description of the table cannot be read.
    """
    data = PrintedData.model_validate_json((folder / TABLE_FILE).read_bytes())
    return draw(data, Storage(str(folder / RECORDS)))


def draw(data: PrintedData, storage: Storage) -> dict[str, bytes]:
    """The files of a table that is described as data, from the records in a storage, by name."""
    frames = read_frames(storage, data.table, running=data.running, stale=data.stale)
    selection, by_row = selections_of(data.table)
    table = compute_table(frames, data.table, selection, by_row=by_row)
    return {name: format_table(table, form).encode() for form, name in data.files.items()}


def differences(printed: bytes, redrawn: bytes) -> list[str]:
    """The first lines in which two files differ; none where they are the same bytes."""
    if printed == redrawn:
        return []
    before, now = (content.decode(errors="replace").splitlines() for content in (printed, redrawn))
    lines = list(unified_diff(before, now, "as printed", "redrawn", lineterm="", n=0))
    return lines[:_MOST_LINES] or ["the ends of lines"]


def changed_files(folder: Path) -> Iterator[str]:
    """What SHA256SUMS says and the files of an unpacked bundle do not."""
    for line in (folder / SUMS_FILE).read_text().splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file():
            yield f"{name} is gone"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            yield f"{name} was changed"


def main(folder: Path = Path()) -> int:
    """Redraw, compare, and say so; 0 where every file is what was printed, else 1."""
    problems = list(changed_files(folder))
    for problem in problems:
        print(problem)
    (folder / REDRAWN).mkdir(exist_ok=True)
    for name, content in redraw(folder).items():
        (folder / REDRAWN / name).write_bytes(content)
        lines = differences((folder / PRINTED / name).read_bytes(), content)
        print(f"{name}: {'differs from what was printed' if lines else 'identical'}")
        for line in lines:
            print(f"  {line}")
        problems += lines
    print("something differs" if problems else f"every file is identical; they were drawn into {folder / REDRAWN}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
