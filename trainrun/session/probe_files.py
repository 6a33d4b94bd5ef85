"""probes/step-N/ of a run: what probes returned, as PNG, text and CSV files."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainrun.vocabulary.events import Event, Probed, RolledBack, Started


def probe_files(folder: Path) -> Callable[[Event], None]:
    """A sink that writes them; those after the step that training goes on from are removed."""

    def probes(event: Event) -> None:
        match event:
            case Started(step=step) | RolledBack(to=step):
                for path in folder.glob("step-" + "[0-9]" * 9):
                    if int(path.name.removeprefix("step-")) > step:
                        shutil.rmtree(path)
            case Probed():
                target = folder / f"step-{event.step:09d}"
                for name, content in _files(event):
                    target.mkdir(parents=True, exist_ok=True)
                    (target / name).write_bytes(content)

    return probes


def _files(event: Probed) -> Iterator[tuple[str, bytes]]:
    for name, (png, _) in event.pictures.items():
        yield f"{_plain(name)}.png", png
    for name, text in event.texts.items():
        yield f"{_plain(name)}.txt", text.encode()
    for name, rows in event.tables.items():
        yield f"{_plain(name)}.csv", _as_csv(rows).encode()


def _plain(name: str) -> str:
    """A name without what paths give a meaning to."""
    return re.sub(r"[^\w.+=-]+", "_", name).lstrip(".") or "_"


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
