"""`trainrun compare` and `trainrun plot run`: quick, without torch, and mistakes are answered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainrun.cli.main import main


@pytest.fixture(autouse=True)
def _two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", sys.path[:])
    for number, name in enumerate(("first", "second")):
        folder = Path("outputs") / "2026-01-02" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"seed: {number}\n")
        best = {"step": 10, "metrics": {"loss": 0.5 - 0.1 * number}}
        status = {"state": "completed", "monitor": "val/loss", "name": name, "started": 1.0 + number}
        (folder / "status.json").write_text(json.dumps(status | {"best": best}))
        lines = [{"event": "train", "step": step, "loss": 1.0 / step, "lr": 0.1} for step in (1, 10)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_no_torch_is_imported_and_to_compare_no_hydra() -> None:
    code = (
        "import sys; from trainrun.cli.main import main;"
        "code = main(['compare', 'first', 'second', '--out', 'a.png']) or 'hydra' in sys.modules;"
        "sys.exit(code or main(['plot', 'run', 'last']) or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "picture: a.png" in done.stderr and "picture: run.png" in done.stderr


def test_the_table_the_curves_and_nothing_else_are_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "first", "last"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "\x1b" not in out
    lines = [line.split() for line in out.splitlines()]
    assert ["seed", "0", "1"] in lines and ["val/loss", "0.5000", "0.4000", "*"] in lines
    assert "train/loss" in out.splitlines()
    assert not list(Path().glob("*.png"))


def test_json_is_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "first", "second", "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["settings"] for record in records] == [{"seed": 0}, {"seed": 1}]
    assert [record["best_in"] for record in records] == [[], ["val/loss"]]


def test_plot_run_takes_the_last_run_where_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "run", "--out", "a.svg"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("outputs/2026-01-02/second\n") and err == "\npicture: a.svg\n"
    assert "loss: t train" not in out  # there is one curve of it
    assert main(["plot", "run", "first", "second"]) == 0
    assert capsys.readouterr().out.startswith("A  outputs/2026-01-02/first\nB  outputs/2026-01-02/second\n")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["compare", "first"], 2, "RUN: compares 2 to 26 different runs, got 1"),
        (["compare", "first", "first"], 2, "got 1"),
        (["compare", "first", "secnd"], 5, "did you mean second?"),
        (["compare", "first", "last", "--out", "a.gif"], 2, "--out: "),
        (["compare"], 2, "RUN"),
        (["plot", "run", "2026"], 2, "begins the path of 2 runs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes_are_answered(
    words: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    out, err = capsys.readouterr()
    assert text in err and not out
    assert not list(Path().glob("a.*"))


def test_a_run_without_a_record_has_nothing_to_draw(capsys: pytest.CaptureFixture[str]) -> None:
    Path("outputs/2026-01-02/second/metrics.jsonl").unlink()
    assert main(["plot", "run", "second"]) == 2
    assert "has recorded nothing yet" in capsys.readouterr().err
