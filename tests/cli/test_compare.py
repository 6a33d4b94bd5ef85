"""`trainrun compare` and `trainrun plot run`: quick, without torch, and mistakes are answered."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from scipy import stats
from sweeps import job, record, store

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


@pytest.fixture
def sweep() -> str:
    """Three seeds of each of two optimizers, the newest sweep."""
    pairs = [(name, seed) for name in ("adamw", "sgd") for seed in range(3)]
    jobs = [
        job(n, {"optimizer": name, "seed": seed}, 0.9 - n**2 / 100) for n, (name, seed) in enumerate(pairs)
    ]
    store(Path("outputs/multirun/mine"), record(jobs))
    return "mine"


def test_one_sweep_is_shown_with_all_metrics(sweep: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "last"]) == 0
    by_last = capsys.readouterr().out
    assert main(["compare", sweep]) == 0
    out, err = capsys.readouterr()
    assert out == by_last and err == "" and "\x1b" not in out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "optimizer adamw sgd" in lines and "jobs 3 3" in lines
    assert "setting 1 minus setting 2, over the same seeds and folds (paired t-test)" in lines
    first, second = (0.9, 0.89, 0.86), (0.81, 0.74, 0.65)
    truth = stats.ttest_rel(first, second)
    line = next(line for line in lines if line.startswith("val/accuracy 3 +0.15"))
    assert line.endswith(f"{truth.statistic:.3g} {truth.pvalue:.2g}")
    assert main(["compare", sweep, "--pair", "2", "1"]) == 0
    assert f" -0.15 +/- {truth.confidence_interval(0.95).high - 0.15:.2g}" in capsys.readouterr().out


def test_a_sweep_goes_into_a_paper_or_another_program(sweep: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", sweep, "--latex"]) == 0
    out, err = capsys.readouterr()
    assert (
        out.startswith("\\begin{tabular}{llrrr}\n\\toprule\n")
        and out.endswith("\\end{tabular}\n")
        and not err
    )
    assert main(["compare", sweep, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["setting"], row["optimizer"], row["metric"], row["jobs"]) for row in rows] == [
        (place, name, metric, "3")
        for place, name in (("1", "adamw"), ("2", "sgd"))
        for metric in ("val/accuracy", "test/accuracy")
    ]
    assert float(rows[0]["mean"]) == pytest.approx(0.8833333333333333)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("mine --pair 1 3", 2, "--pair: must be two settings of 1 to 2, got 1 3"),
        ("mine --pair 2 2", 2, "--pair: must be two settings of 1 to 2, got 2 2"),
        ("mine --pair 0 1", 2, "got 0 1"),
        ("mine --pair 1", 2, "expected 2 arguments"),
        ("mine --csv --latex", 2, "not allowed with argument"),
        ("mine --latex --json", 2, "--json and --out are for runs; trainrun plot sweep draws a sweep"),
        ("mine --out a.png", 2, "--json and --out are for runs"),
        ("mine first --latex", 2, "--csv, --latex and --pair are for one sweep"),
        ("first --csv", 5, "SWEEP: no sweep is called first"),
        ("begun", 2, "begun: no job has completed yet; trainrun resume outputs/multirun/begun"),
    ],
)
def test_mistakes_about_a_sweep_are_answered(
    words: str, code: int, text: str, sweep: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store(Path("outputs/multirun/begun"), record([job(1, {"seed": 0}, None, "pending")]))
    assert main(["compare", *words.split()]) == code
    out, err = capsys.readouterr()
    assert text in err and not out
    assert not list(Path().glob("a.*"))
