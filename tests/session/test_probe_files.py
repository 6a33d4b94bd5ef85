"""probes/: a folder for each step, none of a step that is computed again."""

from __future__ import annotations

from pathlib import Path

from trainrun.session.probe_files import probe_files
from trainrun.vocabulary.events import Probed, RolledBack, Started


def probed(step: int, name: str = "a") -> Probed:
    picture = {name: (b"png", (1, 1))}
    return Probed(
        step=step, numbers={}, pictures=picture, texts={"t/x": "é"}, tables={"..": [{"a": 1, "b": "x,y"}]}
    )


def test_files_have_names_without_paths_and_later_steps_go(tmp_path: Path) -> None:
    sink, folder = probe_files(tmp_path / "probes"), tmp_path / "probes"
    sink(Probed(step=3, numbers={"a": 1.0}, pictures={}, texts={}, tables={}))
    assert not folder.exists()
    for event in (probed(5, "../grid"), probed(10), probed(15)):
        sink(event)
    contents = {path.name: path.read_text() for path in (folder / "step-000000005").iterdir()}
    assert contents == {"_grid.png": "png", "t_x.txt": "é", "_.csv": 'a,b\n1,"x,y"\n'}
    sink(RolledBack(step=17, to=10, lr_factor=0.5))
    assert {path.name for path in folder.iterdir()} == {"step-000000005", "step-000000010"}
    (folder / "mine").mkdir()
    (folder / "step-mine").mkdir()
    started = Started(name="x", run_dir="x", step=5, total_steps=9, monitor="", plan=(), config="")
    sink(started)
    assert {path.name for path in folder.iterdir()} == {"step-000000005", "mine", "step-mine"}
