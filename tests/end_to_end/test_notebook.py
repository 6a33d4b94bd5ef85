"""A real Jupyter kernel: a run leaves its summary below the cell and nothing else; errors are their text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs pip install nbconvert ipykernel")
preprocessors = pytest.importorskip("nbconvert.preprocessors", reason="needs pip install nbconvert")
pytest.importorskip("ipykernel", reason="needs pip install ipykernel")

CELLS = [
    "import trainrun\n"
    "result = trainrun.train(['model=mlp', 'budget=2ep', 'data.limit=300', 'loop.log_every=1step'])\n"
    "print('my own line')",
    "trainrun.train(['optimzer=adam'])",
    "trainrun.Run(result.run_dir).predictions('test')[0]['index'], len(result.history()['train/loss'])",
    "trainrun.resume('last', ['budget=3ep']).step",
]


@pytest.mark.filterwarnings("ignore")  # of Jupyter itself
def test_a_cell_ends_with_the_summary_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS])
    run = preprocessors.ExecutePreprocessor(timeout=120, kernel_name="python3", allow_errors=True)
    run.preprocess(notebook, {"metadata": {"path": str(tmp_path)}})
    outputs: list[list[Any]] = [cell.outputs for cell in notebook.cells]

    summary, own = outputs[0]
    assert (summary.output_type, own.output_type, own.name) == ("display_data", "stream", "stdout")
    assert own.text == "my own line\n"
    lines = summary.data["text/plain"].split("\n")
    assert re.fullmatch(r"finished in [\d.]+ s: outputs/\S+", lines[0])
    assert [line.split()[0] for line in lines[2:]] == ["val", "test"] and len(lines) == 4

    (error,) = outputs[1]
    assert error.traceback == ["trainrun: optimzer: no such setting; did you mean optimizer?"]
    assert outputs[2][-1].data["text/plain"].endswith(", 20)")  # 300 samples in batches of 32, twice
    assert outputs[3][-1].data["text/plain"] == "30"
    assert "finished in" in outputs[3][-2].data["text/plain"]
    text = "".join(str(output) for cell in outputs for output in cell)
    assert "\\x1b" not in text and "\x1b" not in text and "\\r" not in text
