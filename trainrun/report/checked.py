"""What a check found, as lines for people."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Sequence
from typing import Protocol

from rich.text import Text

Rows = Sequence[tuple[str, str]]  # (label, text); a text that begins with spaces is a line of a table


class Finding(Protocol):
    """As `trainrun.check` makes it."""

    @property
    def name(self) -> str: ...
    @property
    def measured(self) -> str: ...
    @property
    def expected(self) -> str: ...
    @property
    def mend(self) -> tuple[str, ...]: ...
    @property
    def advice(self) -> str: ...


class Section(Protocol):
    """As `trainrun.check` makes it."""

    @property
    def title(self) -> str: ...
    @property
    def lines(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def findings(self) -> Sequence[Finding]: ...


def report(plan: Rows, sections: Iterable[Section], command: str | None, width: int | None) -> list[Text]:
    """The plan, a paragraph for each question, then what was found and the command that mends it.

    Lines are broken at `width` columns; None: not at all. The command never is: it is to be pasted.
    """
    lines, findings = _paragraph(Text("plan", "bold"), plan, width), list[Finding]()
    for section in sections:
        findings += section.findings
        if section.lines:
            lines += [Text(), *_paragraph(Text(section.title, "bold"), section.lines, width)]
    if not findings:
        return [*lines, Text(), Text("nothing found", "green")]
    for one in findings:
        mend = [("mend", shlex.join(one.mend)), ("", one.advice)] if one.mend else [("mend", one.advice)]
        rows = [("measured", one.measured), ("expected", one.expected), *mend]
        title = Text(f"found: {one.name}", "bold yellow")
        lines += [Text(), *_paragraph(title, [row for row in rows if row[1]], width)]
    mended = ["", "with these mended, look again:", "", f"  {command}"] if command else []
    return [*lines, *map(Text, mended)]


def _paragraph(title: Text, rows: Rows, width: int | None) -> list[Text]:
    indent = max(len(label) for label, _ in rows) + 4
    lines = [title]
    for label, text in rows:
        if text[:1] == " ":
            lines.append(Text(text))
            continue
        head = f"  {label}".ljust(indent)
        body = (
            [text] if width is None else textwrap.wrap(text, max(20, width - indent), break_on_hyphens=False)
        )
        for part in body:
            lines.append(Text.assemble((head, "dim"), part))
            head = " " * indent
    return lines
