"""What a search for the batch size tells: tables, curves, the command, JSON, a picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from trainrun.report.throughput import lines, picture, record, rivals
from trainrun.tune.batch import BatchSearchResult, TriedSize
from trainrun.tune.batch_search import BatchSearch
from trainrun.tune.trial import Survey

SURVEY = Survey(
    batch_size=32,
    window=32,
    samples_per_step=32,
    is_full=False,
    scales_lr=False,
    split="val",
    split_size=270,
    eval_batch_size=1024,
    device="cpu",
    on_gpu=False,
    has_batch_norm=False,
    built_bytes=380_000_000,
    device_bytes=None,
)


def of(size: int, rate: float, megabytes: int) -> TriedSize:
    return TriedSize(size, 32 // size, True, samples_per_s=rate, peak_bytes=megabytes * 10**6)


SMALL, LARGE = of(8, 1900, 400), of(16, 2000, 500)
TOO_LARGE = TriedSize(32, 1, False, "takes more than the limit")
JUDGED = replace(of(16, 9000, 410), size=64, pieces=5)
SEARCH = BatchSearch(
    survey=SURVEY,
    limit="700 MB a process",
    train=BatchSearchResult((SMALL, LARGE, TOO_LARGE), LARGE),
    evaluation=BatchSearchResult((JUDGED,), JUDGED),
    no_evaluation="",
    whole=of(16, 0.0, 600),
    overrides=["batch_size=16", "loop.accumulate=2", "data.eval_batch_size=64"],
    command="trainrun model=cnn batch_size=16 loop.accumulate=2 data.eval_batch_size=64",
    notes=[("batch norm", "sees 16 samples at a time and not 32, so this is not the same run")],
)


def test_every_size_has_a_line_and_the_command_is_the_last() -> None:
    text = [line.plain for line in lines(SEARCH, 80)]
    assert any(line.split()[:5] == ["8", "4", "1,900", "400", "MB"] for line in text)
    assert any(line.split()[:5] == ["16", "2", "2,000", "500", "MB"] and "largest" in line for line in text)
    assert any(line.split()[:4] == ["32", "1", "-", "-"] and "takes more" in line for line in text)
    assert text[-1].strip() == SEARCH.command
    assert "batch norm: sees 16 samples" in " ".join(" ".join(text).split())


def test_lines_fit_the_terminal_and_end_in_no_blank() -> None:
    for width in (80, 120):
        for line in lines(SEARCH, width)[:-1]:
            assert line.cell_len <= width
            assert line.plain == line.plain.rstrip() and "\N{BRAILLE PATTERN BLANK}" not in line.plain


def test_a_smaller_size_is_told_as_fast_or_faster_by_its_rate() -> None:
    assert rivals(SEARCH) == [
        "batch_size=8 loop.accumulate=4 is as fast, within noise: 1,900 to 2,000 samples/s, "
        "with 400 MB to 500 MB"
    ]
    faster = replace(SMALL, samples_per_s=4000)
    search = replace(SEARCH, train=BatchSearchResult((faster, LARGE), LARGE))
    assert "is faster: 4,000 to 2,000" in rivals(search)[0]
    slower = replace(SMALL, samples_per_s=1000)
    assert rivals(replace(SEARCH, train=BatchSearchResult((slower, LARGE), LARGE))) == []


def test_memory_that_a_gpu_has_reserved_has_a_column_of_its_own() -> None:
    reserved = replace(LARGE, reserved_bytes=650 * 10**6)
    search = replace(
        SEARCH, train=BatchSearchResult((reserved,), reserved), survey=replace(SURVEY, on_gpu=True)
    )
    text = [line.plain for line in lines(search, 80)]
    assert any("reserved" in line for line in text) and any("650 MB" in line for line in text)


def test_without_an_evaluation_the_reason_stands_in_its_place() -> None:
    search = replace(SEARCH, evaluation=None, no_evaluation="there is no validation or test split")
    assert any("evaluation: there is no validation" in line.plain for line in lines(search, 80))
    assert record(search)["eval_batch_size"] is None


def test_the_record_holds_what_the_lines_say() -> None:
    recorded = json.loads(json.dumps(record(SEARCH)))
    assert (recorded["batch_size"], recorded["accumulate"], recorded["eval_batch_size"]) == (16, 2, 64)
    assert [trial["fits"] for trial in recorded["train"]] == [True, True, False]
    assert recorded["run"]["peak_bytes"] == 600_000_000 and recorded["command"] == SEARCH.command


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    picture(SEARCH, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    picture(replace(SEARCH, evaluation=None), tmp_path / "b.png")
    assert (tmp_path / "b.png").stat().st_size > 5000
