"""The report of `trainrun check`: plan, answers, and each finding with its fix, as lines for people."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.text import Text

from trainrun.check.finding import CheckResult, CheckSection

Rows = Sequence[tuple[str, str]]  # (label, text); a text that begins with spaces is a line of a table


def report(
    plan: Rows, sections: Iterable[CheckSection], command: str | None, width: int | None
) -> list[Text]:
    """Return the plan, a paragraph for each question, then what was found and the command that fixes it.

    Lines are broken at `width` columns; None: not at all. The command never is: it is to be pasted.
    """
    lines, findings = _paragraph(Text("plan", "bold"), plan, width), list[CheckResult]()
    for section in sections:
        findings += section.findings
        if section.lines:
            lines += [Text(), *_paragraph(Text(section.title, "bold"), section.lines, width)]
    if not findings:
        return [*lines, Text(), Text("nothing found", "green")]
    for finding in findings:
        fix = [("fix", shlex.join(finding.fix)), ("", finding.advice)]
        rows = [("measured", finding.measured), ("expected", finding.expected)]
        rows += fix if finding.fix else [("fix", finding.advice)]
        title = Text(f"found: {finding.name}", "bold yellow")
        lines += [Text(), *_paragraph(title, [row for row in rows if row[1]], width)]
    if command:
        lines += map(Text, ["", "check again with these fixes:", "", f"  {command}"])
    return lines


def record(plan: Rows, sections: Sequence[CheckSection], line: str | None, code: int) -> dict[str, Any]:
    """The answers for programs; numbers that are not finite are null."""
    answers, findings = {}, []
    for section in sections:
        lines = [list(row) for row in section.lines]
        answers[section.title] = {"lines": lines, "values": _finite(section.values)}
        for finding in section.findings:
            named = {"mend" if key == "fix" else key: value for key, value in asdict(finding).items()}
            findings.append(named | {"section": section.title})
    rows = [list(row) for row in plan]
    return {"exit_code": code, "plan": rows, "sections": answers, "findings": findings, "command": line}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value


def _paragraph(title: Text, rows: Rows, width: int | None) -> list[Text]:
    indent = max(len(label) for label, _ in rows) + 4
    lines = [title]
    for label, text in rows:
        if text[:1] == " ":
            lines.append(Text(text))
            continue
        parts = textwrap.wrap(text, max(20, width - indent), break_on_hyphens=False) if width else [text]
        heads = [f"  {label}".ljust(indent), *[" " * indent] * len(parts)]
        lines += [Text.assemble((head, "dim"), part) for head, part in zip(heads, parts, strict=False)]
    return lines
