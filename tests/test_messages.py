"""The words that users read: every message is found, and none speaks the dialect."""

from __future__ import annotations

import re
from functools import cache

import messages
import pytest

# Pattern -> how many texts of the package still have it. These may only fall.
DIALECT = (
    r"\bwants ",
    r", for [^,;\n]* (is|are|has|have|was|were|would)\b",
    r", too[.]?$",
    r"\bof torch's\b",
    r"\bwould be ignored\b",
)


@cache
def all_messages() -> list[messages.Message]:
    return messages.messages()


@pytest.mark.parametrize("pattern", DIALECT)
def test_no_text_speaks_the_dialect(pattern: str) -> None:
    spoken = [text for text in messages.literals() if re.search(pattern, text.text)]
    listed = "\n".join(map(str, spoken))
    assert not spoken, f"{len(spoken)} texts say {pattern!r}:\n{listed}"


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("trainrun/cli/stored_run.py", "a path, the beginning of one, a name, or last"),
        ("trainrun/cli/show.py", "no such topic; did you mean "),
        ("trainrun/cli/main.py", "no such command, but there is a file of that name"),
    ],
)
def test_known_messages_are_found(file: str, words: str) -> None:
    assert any(message.file == file and words in message.text for message in all_messages())


def test_nearly_every_place_that_speaks_is_read() -> None:
    """A place whose text cannot be followed is one that the test above does not see."""
    assert len(all_messages()) > 900
    assert len({(message.file, message.line) for message in all_messages()}) > 450


def test_a_text_is_followed_through_variables_functions_and_constants(tmp_path, monkeypatch) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made/part.py").write_text(
        "from made.other import reason\nWHY = 'in a constant'\n"
        "def f(x):\n    text = f'in a variable {x}'\n"
        "    raise ConfigError.of('key', text, 'fix=1')\n"
        "def g(x):\n    raise DataError(reason(x) if x else WHY)\n"
        "def h(x):\n    say('joined to ' + helper(x))\n"
        "def helper(x):\n    return 'what is returned'\n"
    )
    (tmp_path / "made/other.py").write_text("def reason(x):\n    return f'{x}: in another module'\n")
    (tmp_path / "made/errors.py").write_text(
        "class TrainrunError(Exception): ...\nclass DataError(TrainrunError): ..."
    )
    monkeypatch.setattr(messages, "PACKAGE", tmp_path / "made")
    modules = [messages.Module(file) for file in sorted((tmp_path / "made").glob("*.py"))]
    monkeypatch.setattr(messages, "MODULES", {module.name: module for module in modules})
    assert {message.text for message in messages.messages()} == {
        *("in a variable {...}", "in a constant", "{...}: in another module", "joined to what is returned"),
    }
