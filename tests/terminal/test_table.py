"""Tables are set in terminal columns, not in characters."""

from __future__ import annotations

from trainrun.terminal.table import cut, heading, laid_out, row_of, side_by_side

CAT = "\N{CJK UNIFIED IDEOGRAPH-732B}"  # two columns wide


def test_words_begin_and_figures_end_at_one_column() -> None:
    lines = laid_out([["name", "n"], ["a", "100"], [CAT * 3, "7"]])
    assert [line.plain for line in lines] == ["  name      n", "  a       100", f"  {CAT * 3}    7"]
    assert {line.cell_len for line in lines} == {13}
    assert [bool(line.spans) for line in lines] == [True, False, False]  # only the heads are dim


def test_a_cell_is_cut_where_its_column_is_narrower() -> None:
    assert row_of(["abcdef", "12"], [4, 3], {0}) == "abc\N{HORIZONTAL ELLIPSIS}   12"
    assert cut("abcd", 4) == "abcd"
    for width in range(2, 9):
        from rich.cells import cell_len

        assert cell_len(cut(CAT * 5, width)) <= width


def test_columns_that_do_not_fit_stand_in_further_tables() -> None:
    first, columns = ["", "row"], [["A", "1"], ["B", "22"], ["C", "3"]]
    tables = [[line.plain for line in table] for table in side_by_side(first, columns, 12)]
    assert tables == [["       A   B", "  row  1  22"], ["       C", "  row  3"]]
    assert [len(side_by_side(first, columns, width)) for width in (1, 99)] == [3, 1]


def test_a_heading_stands_apart() -> None:
    assert [line.plain for line in heading("title")] == ["", "title"]
    assert [line.plain for line in heading("")] == [""]
