"""Makes the pictures of the README and the guide again: `python tests/pictures.py`, a minute on two cores.

run.svg is what a terminal of 110 columns shows of a run, compare.png what `trainrun compare` draws.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

GUIDE = Path(__file__).resolve().parents[1] / "trainrun/cli/guide"
TRAINRUN = [sys.executable, "-m", "trainrun"]
COLUMNS = 110
FONT = "Menlo, Consolas, DejaVu Sans Mono, monospace"  # of the reader's machine: nothing is fetched


def shown(words: list[str], folder: Path) -> str:
    """What stands on a terminal at the end of a command, with its colours."""
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
        os.chdir(folder)
        os.environ.pop("NO_COLOR", None)
        os.environ["TERM"] = "xterm-256color"
        os.execv(TRAINRUN[0], [*TRAINRUN, *words])
    received = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # Linux's end of file of a terminal
            break
        if not part:
            break
        received += part
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit(received.decode())
    return settled(received.decode())


def settled(text: str) -> str:
    """The lines that stay: what was erased or written over is left out."""
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        for _ in range(line.count("\x1b[1A")):
            lines.pop()
        last = re.split(r"\x1b\[2?K|\r", line)[-1]
        lines.append(re.sub(r"\x1b\[\?25[lh]|\x1b\[1A", "", last))
    return "\n".join(lines)


def terminal_picture(command: str, text: str) -> str:
    """An SVG of a terminal in which the command was typed."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", "bold"))
    console.print(Text.from_ansi(text.strip("\n")))
    svg = console.export_svg(title=command, theme=MONOKAI)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S)
    return re.sub(r"font-family: Fira Code, monospace", f"font-family: {FONT}", svg)


def main() -> None:
    """Write both pictures beside the guide's pages."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        svg = terminal_picture("trainrun budget=10ep", shown(["budget=10ep"], folder))
        (GUIDE / "run.svg").write_text(svg, encoding="utf-8")
        for name, rate in (("small", "0.0002"), ("large", "0.002")):
            words = [f"name={name}", f"optimizer.lr={rate}", "budget=10ep", "-q"]
            subprocess.run([*TRAINRUN, *words], cwd=folder, check=True)
        words = ["compare", "small", "large", "--out", str(GUIDE / "compare.png")]
        subprocess.run([*TRAINRUN, *words], cwd=folder, check=True)


if __name__ == "__main__":
    main()
