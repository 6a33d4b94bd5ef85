"""What is drawn of a run, in the terminal and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainrun.report.compare import ComparedRun
from trainrun.report.panels import charts, decisive, panels_of, picture

LOSS = [(step, 100.0 / step) for step in range(1, 101)]
CURVES: dict[str, Any] = {
    "train/loss": LOSS,
    "val/loss": [(50, 2.0), (100, 1.0)],
    "val/accuracy": [(50, 0.5), (100, 0.75)],
    "lr": [(1, 0.1), (100, 0.0)],
    "train/grad_norm": [(1, 2.0), (100, 1.0)],
    "speed/samples_per_s": [(1, 100.0), (100, 110.0)],
}


def run(mark: str, **curves: Any) -> ComparedRun:
    path = Path("outputs") / mark
    return ComparedRun(mark, path, "$x_1$", "completed", "val/accuracy", {}, {}, CURVES | curves)


def test_there_is_a_panel_for_each_quantity_that_was_recorded() -> None:
    curves = {panel.title: list(panel.curves.values()) for panel in panels_of([run("A")])}
    assert curves == {
        "loss": ["train/loss", "val/loss"],
        "accuracy": ["val/accuracy"],
        "learning rate": ["lr"],
        "gradient norm": ["train/grad_norm"],
        "throughput, samples/s": ["speed/samples_per_s"],
    }
    grouped = panels_of([run("A", **{"lr/head": [(1, 0.1)], "lr/body": [(1, 0.2)]})])
    rates = next(panel for panel in grouped if panel.title == "learning rate")
    assert rates.curves == {"group body": "lr/body", "group head": "lr/head"}
    assert panels_of([ComparedRun("A", Path("a"), None, "died", "", {}, {}, {})]) == []


def test_one_run_shares_a_chart_and_several_have_a_letter_each() -> None:
    alone = [line.plain for line in charts(panels_of([run("A")]), [run("A")], 80, 4)]
    assert "loss: t train, v val, logarithmic" in alone
    assert {"t", "v"} <= set("".join(alone[2:6]))
    both = [run("A"), run("B", **{"train/loss": [(1, 50.0), (100, 50.0)]})]
    several = [line.plain for line in charts(panels_of(both), both, 80, 4)]
    assert {"loss, train, logarithmic", "loss, val, logarithmic"} <= set(several)
    line_number = several.index("loss, train, logarithmic")
    assert {"A", "B"} <= set("".join(several[line_number + 1 : line_number + 5]))
    assert max(map(len, alone + several)) <= 80
    assert [panel.title for panel in decisive(both)] == ["val/accuracy", "train/loss"]


def test_the_picture_is_a_png_for_one_run_and_for_many(tmp_path: Path) -> None:
    for runs in ([run("A")], [run("A"), run("B")]):
        picture(panels_of(runs), runs, tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_every_axis_of_the_picture_is_labelled_and_each_run_is_named(tmp_path: Path) -> None:
    runs = [run("A"), run("B")]
    picture(panels_of(runs), runs, tmp_path / "a.svg")  # an axis label is a comment there
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn.count("<!-- optimizer step -->") == 5
    for words in ("loss", "accuracy", "learning rate", "gradient norm", "throughput, samples/s"):
        assert f"<!-- {words} -->" in drawn
    assert drawn.count("outputs/A") == drawn.count("outputs/B") == 1
