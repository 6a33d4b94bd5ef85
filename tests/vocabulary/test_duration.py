"""Durations in every unit against cases computed by hand."""

from __future__ import annotations

import pytest

from trainrun.vocabulary.duration import Duration, Pace, parse, respelled, to_steps

# 100 samples in windows of 12: 8 full windows and one of 4, so 9 steps an epoch.
RAGGED = Pace(window=12, samples_per_epoch=100, total_steps=180)
STREAM = Pace(window=12, samples_per_epoch=None, total_steps=1000)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        *[("10ep", 10, "ep"), ("500step", 500, "step"), ("60000sample", 60000, "sample"), ("5%", 5, "%")],
        *[("30s", 30, "s"), ("5min", 5, "min"), ("2h", 2, "h"), ("0.5ep", 0.5, "ep"), (" 3 ep ", 3, "ep")],
    ],
)
def test_every_unit_is_read(text: str, value: float, unit: str) -> None:
    assert parse(text) == Duration(value, unit)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("1ep", 9),
        ("20ep", 180),
        ("0.5ep", 5),  # 4.5
        ("7step", 7),
        ("1sample", 1),
        ("12sample", 1),
        ("13sample", 2),
        ("100sample", 9),  # the epoch's last window holds 4
        ("112sample", 10),
        ("250sample", 2 * 9 + 5),  # two epochs and 50 samples: 4 windows of 12 and a begun one
        ("5%", 9),
        ("50%", 90),
        ("0.1%", 1),  # 0.18: what was asked for is never nothing
        ("100%", 180),
    ],
)
def test_steps_as_computed_by_hand(text: str, steps: int) -> None:
    assert to_steps(parse(text), RAGGED) == steps


def test_percentages_do_not_gain_a_step_by_rounding() -> None:
    pace = Pace(window=1, samples_per_epoch=1000, total_steps=1000)
    for share in range(1, 101):  # 0.07 * 1000 is 70.00000000000001 in binary
        assert to_steps(parse(f"{share}%"), pace) == 10 * share


@pytest.mark.parametrize(("text", "steps"), [("13sample", 2), ("24sample", 2), ("3step", 3), ("10%", 100)])
def test_a_stream_counts_samples_and_steps(text: str, steps: int) -> None:
    assert to_steps(parse(text), STREAM) == steps
    assert STREAM.steps_per_epoch is None


@pytest.mark.parametrize(
    ("text", "pace", "said"),
    [
        ("2ep", STREAM, "no epochs on a stream"),
        ("5%", Pace(12, 100), "share of itself"),
        ("30s", RAGGED, "clock unit"),
        ("5min", RAGGED, "clock unit"),
        ("2h", RAGGED, "clock unit"),
    ],
)
def test_a_unit_without_meaning_is_refused_with_the_reason(text: str, pace: Pace, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        to_steps(parse(text), pace)


@pytest.mark.parametrize(
    "text", ["", "ep", "-5step", "10epochs", "1e3step", "5 % of it", "nanstep", None, True]
)
def test_what_is_no_duration_is_refused_with_the_forms(text: object) -> None:
    with pytest.raises(ValueError, match="20ep, 500step, 60000sample or 5%"):
        parse(text)


def test_a_bare_number_is_offered_its_units() -> None:
    with pytest.raises(ValueError, match="write 10step or 10ep"):
        parse(10)


def test_durations_print_as_they_are_typed() -> None:
    assert [str(parse(text)) for text in ("10ep", "0.5ep", "5%")] == ["10ep", "0.5ep", "5%"]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        *[
            ("10epochs", "10ep"),
            ("3e", "3ep"),
            ("2 Epoch", "2ep"),
            ("100steps", "100step"),
            ("5iters", "5step"),
        ],
        *[("60000samples", "60000sample"), ("0.5 percent", "0.5%"), ("2hours", "2h"), ("10 min", "10min")],
        *[("10x", None), ("epochs", None), ("10", None), ("", None), (None, None), ("1e3step", None)],
    ],
)
def test_a_unit_spelt_otherwise_is_understood(text: object, right: str | None) -> None:
    assert respelled(text) == right
    if right:
        assert str(parse(right)) == right
