"""The learning rates before and after a change, side by side."""

from __future__ import annotations

from trainrun.session.restore import lr_table


def test_what_remains_is_shown_before_and_now() -> None:
    before = [(80, 8.54e-07)]
    after = [(81, 0.00108), (101, 0.000675), (121, 0.000323), (140, 9.27e-05), (160, 2.14e-07)]
    assert lr_table(before, after).splitlines() == [
        "  of what remains   before              now",
        "  0 %               step 80: 8.54e-07   step 81: 0.00108",
        "  25 %                                  step 101: 0.000675",
        "  50 %                                  step 121: 0.000323",
        "  75 %                                  step 140: 9.27e-05",
        "  100 %                                 step 160: 2.14e-07",
    ]


def test_of_a_schedule_that_follows_a_metric_only_the_next_rate_is_shown() -> None:
    rows = lr_table([(1, 0.1), (2, 0.1), (3, 0.1), (4, 0.1), (5, 0.1)], [(1, 0.05)]).splitlines()
    assert rows[1] == "  0 %               step 1: 0.1   step 1: 0.05"
    assert rows[5] == "  100 %             step 5: 0.1"
