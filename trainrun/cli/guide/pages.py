"""What to choose when, and where guides err: a Markdown file per topic beside this one, and their reader.

A file holds paragraphs, `#` and `##` headings, `-` bullets, tables, and commands in indented lines. Fenced
blocks are printed as they stand, links without their address, pictures not at all. A bullet that begins
with `OPTION: ` is about that option, and its page repeats it. In a table the column `command` holds whole
commands, several apart by <br>, with or without backticks.
"""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

from trainrun.doctor.diagnosis import DEFAULTS, filled
from trainrun.doctor.symptoms import SYMPTOMS, Symptom
from trainrun.terminal.layout import PageBlock

_FOLDER = Path(__file__).parent
_PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
_CODE = re.compile(r"`[^`]*`")
UNBROKEN = "\xa0"  # a space inside backticks, where no line may end
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def read(topic: str) -> list[PageBlock]:
    """The blocks of a topic's file, in order; none where it has no file."""
    file = _FOLDER / f"{topic}.md"
    blocks: list[PageBlock] = []
    is_apart, is_fenced = True, False  # after an empty line, within a fence
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        if line.startswith("```"):
            is_fenced = not is_fenced
            if is_fenced and blocks and blocks[-1].kind == "command":
                blocks.append(PageBlock("command"))
        elif is_fenced:
            if line or blocks[-1].text:  # one empty line is enough
                blocks.append(PageBlock("command", line))
            is_apart = not line
        else:
            kind, text = _kind(line)
            _add(blocks, kind, text, is_apart)
            is_apart = not text
    if topic == "symptoms":
        head = ["what you see", "likely cause", "fix", "command"]
        blocks.append(PageBlock("table", rows=[head, *map(_symptom, SYMPTOMS)]))
    return blocks


def _add(blocks: list[PageBlock], kind: str, text: str, is_apart: bool) -> None:
    """Add a line to the last block, or as a block of its own."""
    if kind == "table":
        if is_apart or blocks[-1].kind != "table":
            blocks.append(PageBlock("table"))
        rows, row = blocks[-1].rows, [cell.strip() for cell in text.strip("|").split("|")]
        if set("".join(row)) - set("-: "):
            rows.append(row)
        if rows and rows[0][-1] == "command":
            row[-1] = row[-1].replace("`", "")  # printed on lines of their own
    elif text and kind == "paragraph" and not is_apart and blocks[-1].kind in ("paragraph", "bullet"):
        blocks[-1].text += f" {text}"
    elif text:
        blocks.append(PageBlock(kind, text))


def table(topic: str) -> list[dict[str, str]]:
    """The first table of a topic, a dictionary per row."""
    head, *rows = _first_table(topic)
    return [dict(zip(head, row, strict=True)) for row in rows]


def _first_table(topic: str) -> list[list[str]]:
    return next((block.rows for block in read(topic) if block.kind == "table"), [[]])


def rows_about(topic: str, word: str) -> list[list[str]]:
    """The rows of a topic's first table whose first cell has a word, below its head; none without one."""
    head, *rows = _first_table(topic)
    wanted = _plain(word)
    matching = [row for row in rows if f" {wanted} " in f" {_plain(row[0])} "] if wanted.strip() else []
    return [head, *matching] if matching else []


def _plain(text: str) -> str:
    """Lower case, with a space between words: "K-FAC" and "kfac" are one."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower().replace("-", "").replace("'s", "")).strip()


def own_part(group: str) -> list[str]:
    """The files of an own part of a group, line by line; none where it has no guide."""
    file = _FOLDER / "own" / f"{group}.md"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    lines = [line for line in text.splitlines() if not line.startswith("```")]
    return [line for before, line in pairwise(["", *lines]) if before or line]  # one empty line is enough


def files_of(topic: str) -> dict[str, str]:
    """The files that a topic's fenced blocks hold, each without its first line, which is `# NAME`."""
    text = (_FOLDER / f"{topic}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w+\n# (\S+\.\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return dict(blocks)


def about(topic: str, option: str) -> list[str]:
    """The bullets of a topic that are about one option."""
    mark = f"{option}: "
    return [b.text.removeprefix(mark) for b in read(topic) if b.kind == "bullet" and b.text.startswith(mark)]


def _symptom(symptom: Symptom) -> list[str]:
    """A row of the table that `doctor` goes by."""
    remedies = [filled(remedy, DEFAULTS) for remedy in symptom.remedies]
    helps = "; ".join(dict.fromkeys(remedy.what for remedy in remedies))
    commands = [["trainrun", r.needs, *map(shlex.quote, r.overrides)] for r in remedies]
    lines = [" ".join(filter(None, words)) for words in commands]
    sign = f"{symptom.sign} ({symptom.name})" if symptom.rule else symptom.sign
    return [sign, symptom.cause, helps, "<br>".join(lines)]


def _kind(line: str) -> tuple[str, str]:
    if line.startswith("    "):
        return "command", line.strip()
    text = _LINK.sub(r"\1", _PICTURE.sub("", line.strip()))
    text = _CODE.sub(lambda code: code[0].replace(" ", UNBROKEN), text)
    if text.startswith("|"):
        return "table", text
    if match := re.match(r"##? (.*)", text):
        return "heading", match[1]
    if text.startswith("- "):
        return "bullet", text[2:]
    return "paragraph", text
