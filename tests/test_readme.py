"""The README and the guide pages: short, plain, with links that lead somewhere and settings that exist."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from trainrun.config.check import check
from trainrun.config.commands import COMMANDS
from trainrun.config.compose.composer import Composer

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
GUIDE = ROOT / "trainrun/cli/guide"
PAGES = [README, *sorted(GUIDE.glob("*.md"))]
PICTURES = sorted(file for file in GUIDE.iterdir() if file.suffix in (".svg", ".png"))
DIALECT = (
    r"\bwants\b",
    r", for (?:it|the|they|there|he)\b",
    r"[^;:], too\b",
    r"\bof torch's\b",
    r"\bjudge[sd]?\b",
)


def prose(text: str) -> list[str]:
    """The sentences of paragraphs and bullets: no code, tables or headings."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    text = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "code", text))
    lines = [line.removeprefix("- ") for line in text.splitlines() if not re.match(r"[|#!]", line)]
    return [s for s in re.split(r"(?<=[.:;!?])\s+|\n\n", "\n".join(lines)) if len(s.split()) > 2]


def test_the_readme_is_short() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 200
    assert statistics.median(len(sentence.split()) for sentence in prose(text)) <= 12
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith("|"))


def test_the_readme_has_its_sections_in_order() -> None:
    assert re.findall(r"^## (.*)$", README.read_text(), re.M) == [
        *("Why not ...", "Install", "A run in 20 lines", "Examples", "Your own code", "Sweeps", "Results"),
        *("From Lightning, Transformers, timm or Keras", "Security", "Links"),
    ]


NEW = ("commands", "files", "sweeps", "python", "export", "failures", "gpus", "cluster", "trust")


@pytest.mark.parametrize("page", ["README", *NEW])
def test_new_pages_have_no_dialect_and_short_sentences(page: str) -> None:
    file = README if page == "README" else GUIDE / f"{page}.md"
    sentences = prose(file.read_text())
    for sentence in sentences:
        assert not any(re.search(pattern, sentence) for pattern in DIALECT), sentence
        assert len(sentence.split()) <= 35, sentence
    assert statistics.median(len(sentence.split()) for sentence in sentences) <= 13


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_are_there(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)]*)\)", text):
        assert (page.parent / target).is_file(), target


def test_every_new_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"trainrun/cli/guide/(\w+)\.md", README.read_text()))
    assert linked >= {
        "commands",
        "files",
        "sweeps",
        "python",
        "export",
        "failures",
        "gpus",
        "cluster",
        "trust",
    }


def test_pictures_are_small_and_fetch_nothing() -> None:
    assert {picture.name for picture in PICTURES} == {"run.svg", "compare.png"}
    for picture in PICTURES:
        assert picture.stat().st_size < 100_000
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", (GUIDE / "run.svg").read_text()))
    assert addresses <= {"http://www.w3.org/2000/svg", "https://www.textualize.io"}


def test_what_others_call_it_is_a_setting_that_composes() -> None:
    rows = re.findall(r"^\| (?:Lightning|Transformers|timm|Keras)[^|]* \| (.*) \|$", README.read_text(), re.M)
    assert len(rows) >= 8
    composer = Composer()
    for cell in rows:
        for code in re.findall(r"`([^`]*)`", cell):
            words = [word.strip("'") for word in code.removeprefix("trainrun ").split()]
            if words[0] in COMMANDS:
                continue
            job = composer.compose(words)
            assert not check(job.settings, job.explicit, job.choices), code
