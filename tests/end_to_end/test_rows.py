"""Every command of rows.md, the README and the guides, pasted into bash and zsh, means the same and runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from waiting import HANG_S, wait_until

from tests.end_to_end.conftest import write_photos

HERE = Path(__file__).parent
GUIDE = HERE.parents[1] / "trainrun/cli/guide"
# Those with blocks and commands of Markdown, to be pasted from a forge. The others, which are printed by
# `show` alone, are composed by tests/cli/test_show.py.
PAGES = {"README": HERE.parents[1] / "README.md"} | {
    file.stem: file
    for file in sorted(GUIDE.glob("*.md"))
    if re.search(r"^```|\| `trainrun ", file.read_text(), re.M)
}
REFUSED = {"trainrun data=breast_cancer loss=bce": 2}  # with the reason
FINDS = {"trainrun check model=cnn model.norm=batch batch_size=4": 3}
TEXTS = ("experiment=gpt_stdlib", "experiment=transformer_lm", "experiment=masked_lm")
UNSHORTENED = (
    "trainrun new",
    "trainrun show",
    "trainrun plot",
    "trainrun resume",
    "trainrun eval",
    "trainrun predict",
    "trainrun export",
    "trainrun runs",
    "trainrun doctor",
    "trainrun compare",
    "trainrun name=",
    "trainrun runtime.profile=",
)


def rows() -> list[tuple[str, list[str]]]:
    """(row, its commands) of rows.md."""
    found = []
    for line in (HERE / "rows.md").read_text().splitlines():
        if match := re.match(r"\| (\w+) \| [^|]* \| (.*) \|$", line):
            found.append((match[1], re.findall(r"`([^`]+)`", match[2])))
    return [row for row in found if row[0] != "row"]


def blocks(page: str, language: str) -> list[str]:
    """Fenced blocks of a page in one language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page].read_text(), re.S)


def page_commands(page: str) -> list[str]:
    """Every command in a page's tables of commands and in its shell blocks, in order."""
    text = re.sub(r"```text\n.*?```", "", PAGES[page].read_text(), flags=re.S)  # what a terminal showed
    found = re.findall(r"^\| [^|]* \| `(trainrun[^`]*)` \|$|^((?:torchrun .*)?trainrun .*)$", text, re.M)
    return [cell or line for cell, line in found]


def paste(shell: str, line: str, folder: Path) -> list[str]:
    """The words that a pasted line hands to its program, according to the shell itself."""
    stub = folder / "bin"
    stub.mkdir(exist_ok=True)
    for name in ("trainrun", "tensorboard", "torchrun"):
        body = f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"
        (stub / name).write_text(body)
        (stub / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{stub}{os.pathsep}{os.environ['PATH']}"}
    flags = ["-f"] if shell == "zsh" else ["--norc", "--noprofile"]
    done = subprocess.run(
        [shell, *flags, "-c", line], capture_output=True, text=True, env=environment, cwd=folder
    )
    assert done.returncode == 0, f"{shell}: {line}\n{done.stderr}"
    words: list[str] = json.loads(done.stdout)
    return words


def shortened(line: str, words: list[str]) -> list[str]:
    """Two steps, of a text a short one: reading and judging the library's sources takes most of a minute."""
    if line.startswith(UNSHORTENED):
        return words
    fewer = ["sweep.trials=3"] if "sweep.trials" in line or "my_search" in line else []
    is_text = any(word in line for word in ("data=text", *TEXTS)) and "data.path" not in line
    return [*words, "budget=2step", *fewer, *([f"data.path={HERE / 'rows.md'}"] if is_text else [])]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_commands_mean_the_same_in_every_shell(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    import shlex

    shell_blocks = [block for page in PAGES for block in blocks(page, "bash")]
    assert "#" not in "".join(shell_blocks)  # an interactive zsh takes comments for arguments
    lines = [line for _, commands in rows() for line in commands]
    lines += [line for page in PAGES for line in page_commands(page)]
    for line in dict.fromkeys(lines):
        assert paste(shell, line, tmp_path) == shlex.split(line)[1:], line


@pytest.mark.parametrize(("row", "lines"), rows(), ids=[row for row, _ in rows()])
def test_a_row_works_as_printed(
    row: str,
    lines: list[str],
    server: Callable,
    small_mnist: Callable,
    small_cifar: Callable,
    tmp_path: Path,
) -> None:
    if row == "J7":
        small_cifar(tmp_path / "data")
    if row in ("J1", "J5", "A15"):
        small_mnist(tmp_path / "data" / "MNIST")
        small_mnist(tmp_path / "data" / "FashionMNIST")
    if row == "K1":
        shutil.copy(HERE / "houses.csv", tmp_path)
    if row == "K2":
        write_photos(tmp_path / "photos")
    if row == "K5":
        inputs, labels = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
        np.savez(tmp_path / "x.npz", x=inputs, y=labels)
        np.save(tmp_path / "inputs.npy", inputs)
        np.save(tmp_path / "labels.npy", labels)
    if row == "K3":
        small_cifar(tmp_path / "cifar")
        _small_svhn(tmp_path / "svhn")
    if row in ("G3", "G5", "I3", "I5"):
        assert server(["budget=2step"], tmp_path).code == 0
    for line in lines:
        if line.startswith("tensorboard"):
            _tensorboard_serves(paste("bash", line, tmp_path), tmp_path)
            continue
        if line.startswith("torchrun"):
            _torchrun_trains(shortened(line, paste("bash", line, tmp_path)), tmp_path)
            continue
        done = server(shortened(line, paste("bash", line, tmp_path)), tmp_path)
        assert done.code == (REFUSED | FINDS).get(line, 0), f"{line}\n{done}"
        assert "Traceback" not in done.err
        if row == "D11":
            assert (done.out + done.err).count("\n  caution") == 1
        if row == "A11":
            assert "512 / 256" in done.err  # the arithmetic is printed
        if line in REFUSED:
            assert "logits" in done.err
            assert "loss=bce_with_logits" in done.err


@pytest.mark.parametrize("page", [page for page in PAGES if page_commands(page)])
def test_a_pages_own_code_and_commands_work(
    page: str, server: Callable, small_cifar: Callable, tmp_path: Path
) -> None:
    for language in ("python", "yaml"):
        for block in blocks(page, language):
            if match := re.match(r"# (\S+\.(?:py|yaml))\n", block):
                file = tmp_path / match[1]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.partition("\n")[2])  # Hydra reads `# @package` in the first line alone
    shutil.copy(HERE / "houses.csv", tmp_path)
    write_photos(tmp_path / "photos")
    small_cifar(tmp_path / "cifar")
    is_adaptable = find_spec("peft") is not None
    for line in page_commands(page):
        if line.startswith("torchrun"):  # rows.md starts one
            continue
        if ("lora" in line or "adapted" in line) and not is_adaptable:  # an extra
            continue
        done = server(shortened(line, paste("bash", line, tmp_path)), tmp_path)
        assert done.code == 0, f"{line}\n{done}"


def test_the_pages_hold_commands() -> None:
    counts = {page: len(page_commands(page)) for page in PAGES}
    assert counts["README"] >= 15
    assert counts["commands"] >= 25
    assert counts["sweeps"] >= 7
    assert {"export", "failures", "files", "gpus", "python"} <= {page for page in counts if counts[page]}


@pytest.mark.parametrize("page", ["README", "python"])
def test_a_pages_python_works(page: str, tmp_path: Path) -> None:
    code = "".join(block for block in blocks(page, "python") if block.startswith("import trainrun"))
    code = textwrap.dedent(code).replace("budget=3ep", "budget=3step")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    folder, accuracy = done.stdout.splitlines()[0].split()
    assert (tmp_path / folder / "status.json").is_file()
    assert 0 <= float(accuracy) <= 1


def test_the_readmes_mistakes_are_answered_as_it_says(server: Callable, tmp_path: Path) -> None:
    block = next(block for block in blocks("README", "text") if block.startswith("$ trainrun"))
    line, _, answer = block.partition("\n")
    done = server(line.split()[2:], tmp_path)
    assert done.code == 2
    assert done.err.strip() == answer.strip()
    assert not list(tmp_path.glob("outputs"))


def _small_svhn(folder: Path) -> None:
    """Twenty random pictures a file."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for file in ("train_32x32.mat", "test_32x32.mat"):
        pixels = random.integers(0, 256, (32, 32, 3, 20)).astype(np.uint8)
        savemat(folder / file, {"X": pixels, "y": np.arange(20)[:, None] % 10 + 1})


def _torchrun_trains(words: list[str], folder: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run"]
    done = subprocess.run([*launcher, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "32 x 2 ranks = 64 samples a step" in done.stderr
    assert done.stderr.count("finished in") == 1
    (status,) = (json.loads(file.read_text()) for file in folder.glob("outputs/*/*/status.json"))
    assert (status["state"], status["step"]) == ("completed", 2)


def _tensorboard_serves(words: list[str], folder: Path) -> None:
    """Start it on a free port, wait until it answers with the run's scalars, stop it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *words, "--port", "0"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr
        url = None
        for line in process.stderr:
            if match := re.search(r"http://localhost:\d+/", line):
                url = match[0]
                break
        assert url, "tensorboard did not start"

        def runs() -> list[str]:
            with urllib.request.urlopen(f"{url}data/runs", timeout=HANG_S) as response:
                return json.load(response)

        wait_until(runs)
        assert any(run.endswith("tensorboard") for run in runs())
    finally:
        process.terminate()
        process.wait(HANG_S)
        if process.stderr:
            process.stderr.close()
