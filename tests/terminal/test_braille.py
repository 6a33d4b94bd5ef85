"""Braille curves, read back dot by dot."""

from __future__ import annotations

from trainrun.terminal.braille import curve, path


def dots(lines: list[str]) -> set[tuple[int, int]]:
    """(column, row from the bottom) of every dot, by Unicode's numbering of braille."""
    offsets = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
    places = set()
    for row, line in enumerate(lines):
        for column, character in enumerate(line):
            for bit, (x, y) in enumerate(offsets):
                if ord(character) - 0x2800 >> bit & 1:
                    places.add((2 * column + x, 4 * len(lines) - 1 - 4 * row - y))
    return places


def test_a_ramp_is_a_diagonal() -> None:
    assert dots(curve([i / 7 for i in range(8)], 4, 2, 1.0)) == {(i, i) for i in range(8)}


def test_a_jump_is_joined() -> None:
    drawn = dots(curve([0.0, 0.0, 1.0, 1.0], 2, 1, 1.0))
    assert drawn == {(0, 0), (1, 0), (2, 1), (2, 2), (2, 3), (3, 3)}


def test_the_size_is_as_asked_for_whatever_the_values() -> None:
    for values in ([0.0], [1.0] * 1000, [0.5, float(2)]):
        lines = curve(values, 13, 3, 1.0)
        assert [len(line) for line in lines] == [13] * 3


def test_a_path_joins_its_places_and_is_cut_at_the_edges() -> None:
    across = [(0.0, 0.0), (7.0, 7.0), (7.0, 3.0)]
    drawn = dots(path(across, 4, 2, (0, 7), (0, 7)))
    assert drawn == {(i, i) for i in range(8)} | {(7, i) for i in range(3, 8)}
    assert dots(path([(-7.0, -7.0), (14.0, 14.0)], 4, 2, (0, 7), (0, 7))) == {(i, i) for i in range(8)}
    assert dots(path([(1e9, 1e9), (2.0, 1e9)], 4, 2, (0, 7), (0, 7))) == set()
