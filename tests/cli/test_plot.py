"""`trainrun plot`: options with values of their own, what is refused, and where the pictures go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sweeps import job, record, store

from trainrun.cli.main import main
from trainrun.cli.plot import run
from trainrun.cli.plot_choices import PlotChoice, choices, compose
from trainrun.vocabulary.errors import ConfigError


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_options_take_values_by_position_and_by_name() -> None:
    words = ["zeros,normal(0.5)", "model.width=8", "kaiming_normal(fan_out,nonlinearity=tanh)"]
    options, overrides = choices("init", words)
    assert options == [
        PlotChoice("zeros", ("init=zeros",)),
        PlotChoice("normal(0.5)", ("init=normal", "init.std=0.5")),
        PlotChoice(
            "kaiming_normal(fan_out,nonlinearity=tanh)",
            ("init=kaiming_normal", "init.mode=fan_out", "init.nonlinearity=tanh"),
        ),
    ]
    assert overrides == ["model.width=8"]


def test_brackets_keep_a_list_together() -> None:
    (first, other), _ = choices("optimizer", ["adam(0.1, betas=[0.5,0.9]),sgd"])
    assert first.overrides == ("optimizer=adam", "optimizer.lr=0.1", "optimizer.betas=[0.5,0.9]")
    assert other.label == "sgd"
    (composed,) = compose("optimizer", [first], []).values()
    assert composed.settings["optimizer"]["betas"] == [0.5, 0.9]


def test_without_an_option_it_is_the_runs_own() -> None:
    assert list(compose("optimizer", [], ["optimizer.lr=0.1"])) == ["adamw"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["optimizer", "adm"], "did you mean adam"),
        (["optimizer", "adam(rl=1)"], "optimizer.rl: adam takes no 'rl'"),
        (["optimizer", "adam(0.1"], "got adam(0.1"),
        (["optimizer", "adam(-1)"], "optimizer.lr: "),
        (["optimizer", "sgd(1,2,none,8,5)"], "sgd takes 4 values"),
        (["optimizer", "adam", "model=mlp"], "model: has no effect"),
        (["optimizer", "adam", "optimizer.lr_scaling=linear"], "optimizer.lr_scaling: has no effect"),
        (["optimizer", "adam", "--steps", "0"], "--steps: "),
        (["optimizer", "muon"], "muon finds no hidden matrix"),
        (["optimizer", "adam", "--out", "nowhere/a.png"], "--out: "),
        (["optimizer", "adam", "--out", "a.jpeg"], "--out: "),
        (["scheduler", "cosine", "--at", "0"], "--at: "),
        (["init", "zeros", "--depth", "two"], "model.depth: "),
        (["init", "zeros", "--activation", "tahn"], "did you mean tanh"),
        (["scheduler", "cosine", "budget=5s"], "budget: "),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_mistakes_are_answered_and_nothing_is_written(words: list[str], text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run(words)
    assert text in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["optimizer", "adam(rl=1)"], ""),
        (["optimizer", "muon"], ""),
        (["init", "zeros", "--activation", "tahn"], ""),
        (["init", "zeros", "model.actvation=tanh"], "trainrun plot init zeros model.activation=tanh"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_corrected_line_is_shown_only_where_it_corrects(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", *words]) == 2
    assert capsys.readouterr().err.partition("\n\n")[2].strip() == line


def test_without_a_kind_it_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot"]) == 2
    assert main(["plot", "init_scheme"]) == 2
    assert "scheduler" in capsys.readouterr().err


def test_schedules_with_values_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["linear,linear(min_lr=0.5),plateau", "optimizer.lr=1", "budget=10step", "--at", "1,6"]
    assert run(["scheduler", *words]) == 0
    head, first, sixth = capsys.readouterr().out.splitlines()
    assert head.split(maxsplit=3)[1:] == [
        "linear",
        "linear(min_lr=0.5)",
        "plateau, while the metric improves",
    ]
    assert first.split() == ["1", "1", "1", "1"]
    assert sixth.split() == ["6", "0.5", "0.75", "1"]


def test_a_race_at_given_and_at_searched_rates(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["optimizer", "sgd(0.0001),sgd", "--steps", "3", "--out", "race.png"]) == 0
    out, err = capsys.readouterr()
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line[:2] == "  "}
    assert rows["sgd(0.0001)"][:2] == ["0.0001", "3"]
    assert float(rows["sgd"][-2]) < float(rows["sgd(0.0001)"][-2])
    assert "of 11 from 0.0001 to 10" in out
    assert "given: sgd(0.0001)" in out
    assert err == "\npicture: race.png\n"
    assert run(["optimizer", "adam", "optimizer.lr=0.5", "--steps", "2", "--out", "race.png"]) == 0
    out = capsys.readouterr().out
    assert "lr: as given" in out
    assert "adam, lr 0.5" in out
    assert [file.name for file in tmp_path.iterdir()] == ["race.png"]


def test_initial_weights_of_the_runs_own_model_or_of_a_deep_mlp(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["init", "zeros,normal(0.01)", "--depth", "3", "--activation", "tanh", "model.width=400"]) == 0
    title, _, _, head, *rows = capsys.readouterr().out.splitlines()
    assert title == "MLP for digits before training, a batch of 32"
    assert head.split() == ["layer", "zeros", "normal(0.01)"]
    std = [line.split()[2:] for line in rows[rows.index("  std") + 1 :][:4]]
    assert [zero for zero, _ in std] == ["0"] * 4
    small = [float(text) for _, text in std]
    assert small[2] / small[1] == pytest.approx(0.01 * 400**0.5, rel=0.15)  # the root of the width x std
    assert (tmp_path / "init.png").is_file()
    assert run(["init", "model=linear"]) == 0
    assert capsys.readouterr().out.startswith("Linear for digits")


def _sweep(name: str, jobs: list[dict[str, Any]], time_s: int = 1000) -> None:
    folder = store(Path("outputs/multirun") / name, record(jobs))
    os.utime(folder / "sweep.json", (time_s, time_s))


def test_a_sweep_is_ranked_on_stdout_and_drawn_the_last_where_none_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _sweep("older", [job(n, {"optimizer.lr": 10**-n}, 0.1 * n) for n in range(3)])
    _sweep("newer", [job(n, {"batch_size": 2**n}, 0.1 * n) for n in range(3)], time_s=2000)
    assert main(["plot", "sweep", "--out", "a.svg"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("outputs/multirun/newer  3 jobs: 3 completed\n")
    assert "\x1b" not in out and err == "\npicture: a.svg\n"
    assert "batch_size" in (tmp_path / "a.svg").read_text()
    for word in ("last", "old", "outputs/multirun/older"):
        assert main(["plot", "sweep", word]) == 0
        assert capsys.readouterr().out.startswith(
            f"outputs/multirun/{'newer' if word == 'last' else 'older'} "
        )
    assert (tmp_path / "sweep.png").is_file()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["nothing"], 5, "SWEEP: no sweep is called nothing; the newest: "),
        (["goood"], 5, "did you mean good?"),
        (["damaged"], 5, "outputs/multirun/damaged/sweep.json: is damaged: "),
        (["f"], 2, "SWEEP: f begins the name of 2 sweeps"),
        (["good", "failed"], 2, "SWEEP: one at a time is drawn, got 2"),
        (["failed"], 2, "no job has a value yet; its jobs: 2 failed, 1 pending"),
        (["fixed"], 2, "its jobs differ in nothing that was swept"),
        (["good", "--out", "a.gif"], 2, "--out: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_drawn_of_sweeps_is_answered(
    words: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _sweep("good", [job(n, {"seed": n}, 0.1 * n) for n in range(3)])
    states = ("failed", "failed", "pending")
    _sweep("failed", [job(n, {"seed": n}, None, state) for n, state in enumerate(states)])
    _sweep("fixed", [job(0, {"seed": 0}, 0.5)])
    _sweep("damaged", [])
    Path("outputs/multirun/damaged/sweep.json").write_text("{")
    assert main(["plot", "sweep", *words]) == code
    out, err = capsys.readouterr()
    assert text in err and not out and "Traceback" not in err
    assert not list(Path().glob("*.png"))


def test_a_sweep_is_drawn_without_torch_or_a_word_of_missing_letters() -> None:
    _sweep("good", [job(n, {"模型.lr": n, "seed": n % 2}, 0.1 * n) for n in range(9)])
    code = (
        "import sys; from trainrun.cli.main import main;"
        "sys.exit(main(['plot', 'sweep', 'good']) or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "\npicture: sweep.png\n")
