"""A run whose processes are killed, any number of times and anywhere, ends as one that never was."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torture.harness import Ended, Run, assert_finishes_identical, assert_whole
from torture.scenarios import SCENARIOS
from torture.settings import KILLS, SEED

# Where to strike: anywhere, or at what is rare enough to be missed by chance.
PLACES = ("", "", "", "checkpoints/", "rename", "fsync", "metrics.jsonl", "remove|rmdir", "judge", "train")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_random(
    scenario: str,
    straight: Callable[[str], Run],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    expected = straight(scenario)
    rng = random.Random(f"{SEED} {scenario}")
    left, number = -(-KILLS // len(SCENARIOS)), 0
    while left > 0:
        number += 1
        run = expected.new(tmp_path / str(number))
        suffered: list[str] = []
        try:
            while left > 0:
                blow = drawn(rng, expected.lasts_s)
                ended = run.go_on(**blow)
                suffered.append(f"{blow} -> {ended.code}")
                if ended.code == 0:
                    break
                assert_interrupted(run, ended)
                left -= 1
            assert_finishes_identical(run, expected)
        except AssertionError as error:
            story = "\n".join(suffered)
            raise AssertionError(f"seed {SEED}, {run.folder}, after\n{story}\n{error}") from error
    record_property("kills", -(-KILLS // len(SCENARIOS)))
    record_property("identical", number)


def drawn(rng: random.Random, lasts_s: float) -> dict[str, Any]:
    """Three in four a kill, else a polite signal; half of them at an instant, half at an operation."""
    signal = rng.choice(["SIGKILL", "SIGKILL", "SIGKILL", "SIGTERM"])
    if rng.random() < 0.5:
        return {"signal": signal, "after_s": round(rng.uniform(0, lasts_s), 4)}
    return {"strikes": [{"what": signal, "of": rng.choice(PLACES), "nth": int(rng.expovariate(1 / 12))}]}


def assert_interrupted(run: Run, ended: Ended) -> None:
    """Dead without a word, or with a word that is true."""
    assert ended.code in (-9, -15, 143), ended
    assert_whole(run)
    if ended.code == 143:
        status = run.status()
        assert (status["state"], status["exit_code"], status["resumable"]) == ("interrupted", 143, True)
        assert status["step"] == int(run.checkpoint().name[5:])


def test_the_scenarios_do_what_their_names_say(straight: Callable[[str], Run]) -> None:
    """Else it would prove nothing to kill them."""
    counters = {name: straight(name).state()["counters"] for name in SCENARIOS}
    skipped = {name: counts["step"] - counts["applied"] for name, counts in counters.items()}
    assert skipped.pop("fp16 that skips") > 0 and set(skipped.values()) == {0}
    assert counters["early stopping"]["stop_reason"] == "early_stopping"
    assert straight("plateau").state()["schedule"]["state"]["scale"] < 1
    assert straight("average").status()["best"]["step"] < counters["average"]["step"]
    assert counters["accumulation, clipping"]["step"] == 4 * 4  # 15 micro-batches an epoch, in fours


# Where it hurts, each on purpose

AIMED: dict[str, list[tuple[str, int]]] = {
    "three times inside one epoch": [("train", 7), ("train", 2), ("train", 3)],
    "in every epoch": [("train", 9), ("train", 14), ("train", 14), ("train", 14)],
    "at start-up, again and again": [("", 1), ("", 3), ("", 9), ("", 15), ("", 19), ("", 25), ("", 29)],
    "when starting again": [("train", 30), ("", 1), ("", 2), ("", 3), ("", 4), ("", 6), ("", 9)],
    "during evaluations": [("judge", 0), ("judge", 1), ("judge", 2), ("judge", 1)],
    "during saves": [("write.*state.pt", 0), ("fsync.*manifest", 0), ("rename.*tmp-step", 1), ("fsync", 9)],
    "during retention": [("rename.*-old", 0), ("remove", 0), ("remove", 1), ("rmdir", 0), ("remove", 3)],
    "while the record is written": [("write metrics", 2), ("write metrics", 0), ("fsync metrics", 1)],
    "after the last save": [
        ("write metrics.jsonl", 27),
        ("judge", 0),
        ("status.json", 3),
        ("status.json", 5),
    ],
}


@pytest.mark.parametrize("where", AIMED)
def test_killed_where_it_hurts(where: str, straight: Callable[[str], Run], tmp_path: Path) -> None:
    expected = straight("average")
    run = expected.new(tmp_path / "run")
    codes = [run.go_on(strikes=[{"what": "SIGKILL", "of": of, "nth": nth}]).code for of, nth in AIMED[where]]
    assert codes.count(-9) >= 3, codes  # else it proves less than its name
    assert_finishes_identical(run, expected)
