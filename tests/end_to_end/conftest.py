"""`command("trainrun", ...)` in a folder of its own, and small files in place of big downloads."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.out}\n{self.err}"


Command = Callable[..., Done]


@pytest.fixture(scope="session")
def server() -> Iterator[Callable[[list[str], Path], Done]]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "20000"}
    file = Path(__file__).with_name("server.py")
    process = subprocess.Popen(
        [sys.executable, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdin and process.stdout
    assert process.stdout.readline() == "ready\n"
    stdin, stdout = process.stdin, process.stdout

    def run(words: list[str], cwd: Path) -> Done:
        stdin.write(json.dumps({"words": words, "cwd": str(cwd), "environment": {}}) + "\n")
        stdin.flush()
        return Done(**json.loads(stdout.readline()))

    yield run
    stdin.close()
    process.wait(30)
    stdout.close()


@pytest.fixture
def command(server: Callable[[list[str], Path], Done], tmp_path: Path) -> Command:
    """Run `trainrun WORDS` in the test's own folder; `code` is the exit code that is expected."""

    def run(*words: str, code: int = 0) -> Done:
        done = server(list(words), tmp_path)
        assert done.code == code, done
        assert "Traceback" not in done.err, done
        return done

    return run


@pytest.fixture
def small_mnist() -> Callable[..., None]:
    return write_small_mnist


def write_small_mnist(folder: Path, num_train: int = 300, num_test: int = 60) -> None:
    """IDX files in torchvision's layout whose pictures show their class as a bright row."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, count in (("train", num_train), ("t10k", num_test)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = generator.integers(0, 64, (count, 28, 28), dtype=np.uint8)
        images[np.arange(count), 2 * labels + 4] = 255
        (raw / f"{name}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 0x803, count, 28, 28) + images.tobytes()
        )
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())


@pytest.fixture
def small_cifar() -> Callable[[Path], None]:
    return write_small_cifar


def write_small_cifar(folder: Path) -> None:
    """CIFAR-10 in its binary form: twenty random pictures a file."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for file in (*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"):
        labels, pixels = np.arange(20)[:, None] % 10, generator.integers(0, 256, (20, 3072))
        np.hstack([labels, pixels]).astype(np.uint8).tofile(folder / file)


def write_photos(folder: Path) -> None:
    """Ten small pictures of each of two classes: noise, brighter in one than in the other."""
    random = np.random.default_rng(0)
    for name, brightness in (("day", 100), ("night", 0)):
        (folder / name).mkdir(parents=True)
        for n in range(10):
            pixels = random.integers(0, 128, (20 + n, 24, 3)) + brightness
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{n}.png")
