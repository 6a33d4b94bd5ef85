"""Guide pages are read as blocks: paragraphs, headings, bullets, tables and commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainrun.cli.guide import pages
from trainrun.doctor.symptoms import SYMPTOMS
from trainrun.terminal.layout import PageBlock

PAGE = """# A page

A sentence that
goes on, with [a link](other.md) and `two words`.

![a picture](run.svg)

- first: a bullet
  that goes on
- second

| setting | command |
|---|---|
| one | `trainrun a=1`<br>`trainrun a=2` |
| K-FAC | `trainrun b=1` |

```bash
trainrun x=1


trainrun x=2
```

```yaml
key: 1
```

    trainrun indented=1
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[PageBlock]:
    monkeypatch.setattr(pages, "_FOLDER", tmp_path)
    (tmp_path / "page.md").write_text(PAGE)
    return pages.read("page")


def test_lines_of_a_paragraph_and_a_bullet_are_joined(page: list[PageBlock]) -> None:
    texts = [(block.kind, block.text.replace(pages.UNBROKEN, "_")) for block in page if block.kind != "table"]
    assert texts[:4] == [
        ("heading", "A page"),
        ("paragraph", "A sentence that goes on, with a link and `two_words`."),
        ("bullet", "first: a bullet that goes on"),
        ("bullet", "second"),
    ]


def test_commands_keep_one_empty_line_and_blocks_stay_apart(page: list[PageBlock]) -> None:
    commands = [block.text for block in page if block.kind == "command"]
    assert commands == ["trainrun x=1", "", "trainrun x=2", "", "key: 1", "trainrun indented=1"]


def test_a_table_is_read_by_rows_and_searched_by_word(page: list[PageBlock]) -> None:
    rows = [
        {key: text.replace(pages.UNBROKEN, " ") for key, text in row.items()} for row in pages.table("page")
    ]
    first = {"setting": "one", "command": "trainrun a=1<br>trainrun a=2"}
    assert rows == [first, {"setting": "K-FAC", "command": "trainrun b=1"}]
    assert [row[0] for row in pages.rows_about("page", "kfac")] == ["setting", "K-FAC"]
    assert pages.rows_about("page", "fac") == []


def test_bullets_about_an_option_are_found(page: list[PageBlock]) -> None:
    assert pages.about("page", "first") == ["a bullet that goes on"]
    assert pages.about("page", "none") == []


def test_a_topic_without_a_file_has_no_blocks(page: list[PageBlock]) -> None:
    assert pages.read("other") == []


def test_the_page_of_symptoms_ends_with_a_row_for_each() -> None:
    (table,) = [block.rows for block in pages.read("symptoms") if block.kind == "table"][-1:]
    assert len(table) == 1 + len(SYMPTOMS)
    assert all(line.startswith("trainrun ") for row in table[1:] for line in row[-1].split("<br>") if line)
