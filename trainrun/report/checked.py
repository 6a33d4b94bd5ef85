"""What a check found, as lines for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_LABEL = 16


def report(plan: Sequence[tuple[str, str]], sections: Sequence[Any], line: str | None) -> list[str]:
    """The plan, a paragraph for each question, then what was found and the command that mends it."""
    lines = _paragraph("plan", plan)
    for section in sections:
        if section.lines:
            lines += ["", *_paragraph(section.title, section.lines)]
    findings = [finding for section in sections for finding in section.findings]
    if not findings:
        return [*lines, "", "nothing found"]
    for number, one in enumerate(findings, 1):
        lines += ["", f"found {number}: {one.name}"]
        mend = " ".join(one.mend)
        told = [("measured", one.measured), ("expected", one.expected), ("mend", mend), ("", one.advice)]
        if not mend and one.advice:
            told = [*told[:2], ("mend", one.advice)]
        lines += [f"  {label:<10} {text}" for label, text in told if text]
    return [*lines, *(["", f"  {line}"] if line else [])]


def _paragraph(title: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    return [
        title,
        *(f"  {label:<{_LABEL}} {text}" if label or text[:1] != " " else f"  {text}" for label, text in rows),
    ]
