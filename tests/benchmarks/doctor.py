"""What `trainrun doctor` says of 60 healthy runs, of others, and of runs that are broken on purpose.

    python tests/benchmarks/doctor.py FOLDER [--keep] [healthy | other | broken | NAME ...]

Trains into FOLDER what is not there yet, half an hour of one core for all, then prints a table of verdicts.
--keep: also writes what the doctor reads of those runs into tests/doctor/runs, for tests that are quick.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "end_to_end"))
from server import answer, import_everything  # noqa: E402

OPTIMIZERS = ("adamw", "momentum", "sgd")
MODELS = {
    "linear": "model=linear",
    "mlp": "model=mlp",
    "mlp-norm": "model=mlp model.norm=batch",
    "small": "model=mlp model.width=32 model.depth=3",
}
PICTURES = {
    "linear": "model=linear",
    "mlp": "model=mlp",
    "cnn": "model=cnn",
    "resnet": "model=resnet model.depth=8",
}
DATA = {"digits": PICTURES} | dict.fromkeys(("breast_cancer", "wine", "diabetes", "iris"), MODELS)
HEALTHY = {
    f"{data} {model} {optimizer}": f"data={data} {words} optimizer={optimizer}"
    for data, models in DATA.items()
    for model, words in models.items()
    for optimizer in OPTIMIZERS
}

# Data and seeds that no threshold was set on.
OTHER = {f"{name}, seed 1": f"{words} seed=1" for name, words in HEALTHY.items() if "digits" not in name}
OTHER |= {
    f"table {kind} {model} {optimizer}": f"data=synthetic_table {task} {words} optimizer={optimizer}"
    for kind, task in {
        "values": "data.kind=values",
        "classes": "data.kind=classes data.num_outputs=5 task=classification loss=cross_entropy",
    }.items()
    for model, words in MODELS.items()
    for optimizer in OPTIMIZERS
}

# name: (command, the symptoms of which one must be named)
BROKEN = {
    "lr x1000": ("optimizer.lr=2", "diverged|learning rate too high"),
    "lr x1000, mlp": ("model=mlp optimizer.lr=2", "diverged|learning rate too high"),
    "lr x0.001": ("optimizer.lr=2e-6", "learning rate too low"),
    "lr x0.001, mlp, sgd": ("model=mlp optimizer=sgd optimizer.lr=1e-4", "learning rate too low"),
    "no normalisation": (
        "data=raw model=mlp optimizer=momentum",
        "NaN|diverged|learning rate too high|loss constant",
    ),
    "zeros init": ("init=zeros", "dead units|loss constant"),
    "zeros init, mlp": ("model=mlp init=zeros", "dead units|loss constant"),
    "30 sigmoid layers": (
        "model=mlp model.depth=30 model.width=64 model.activation=sigmoid model.dropout=0",
        "vanishing gradient",
    ),
    "shuffled labels": ("data=shuffled model=mlp", "validation at chance"),
    "dead relu": ("data=digits model=dead init=default", "dead units"),
    "fp16 overflow": ("precision=fp16 precision.growth_interval=3", "fp16 overflow"),
    "batch of 1 with batch norm": ("batch_size=1 budget=2ep", "batch norm on tiny batches"),
    "memorised noise": ("data=noisy model=mlp model.dropout=0 model.width=512 budget=60ep", "overfitting"),
    "2 samples": ("data.limit=2", "validation at chance|overfitting"),
    "overfitting": (
        "data=diabetes model.dropout=0 model.width=512 budget=100ep",
        "overfitting|validation at chance",
    ),
    "clipping binds": ("model=mlp loop.clip.norm=0.01 optimizer=sgd", "clipping always binding"),
    "NaN": ("model=mlp optimizer=sgd optimizer.lr=1e6", "NaN|diverged"),
    "plateau": ("data=noisy model=linear scheduler=constant optimizer.lr=0.01 budget=200ep", "plateau"),
    "slow data": ("data=slow model=linear budget=100step", "data-starved"),
}

PARTS = """
import time
import torch
from sklearn.datasets import load_digits, load_wine
from torch import nn
from torch.utils.data import Dataset


class Table(Dataset):
    def __init__(self, inputs, targets):
        self.inputs = torch.as_tensor(inputs, dtype=torch.float32)
        self.targets = torch.as_tensor(targets)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return self.inputs[index], int(self.targets[index])


class Raw(Table):
    def __init__(self):
        super().__init__(*load_wine(return_X_y=True))


class Shuffled(Table):
    def __init__(self):
        inputs, targets = load_digits(return_X_y=True)
        order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
        super().__init__(inputs / 8 - 1, torch.as_tensor(targets)[order])


class Noisy(Table):
    def __init__(self):
        draw = torch.Generator().manual_seed(0)
        inputs = torch.randn(400, 20, generator=draw)
        targets = (inputs[:, 0] + inputs[:, 1] + 1.5 * torch.randn(400, generator=draw) > 0).long()
        super().__init__(inputs, targets)


class Slow(Noisy):
    def __getitem__(self, index):
        time.sleep(0.002)
        return super().__getitem__(index)


class Dead(nn.Module):
    def __init__(self, input_shape, num_outputs):
        super().__init__()
        size = torch.Size(input_shape).numel()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(size, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Linear(64, num_outputs)
        with torch.no_grad():
            self.body[1].bias.fill_(-10)
            self.body[3].bias.fill_(-10)

    def forward(self, x):
        return self.head(self.body(x))
"""


def main(folder: Path, *words_: str) -> int:
    """Returns how many verdicts are not the ones expected."""
    folder.mkdir(parents=True, exist_ok=True)
    write_project(folder)
    runs = {name: (words, "healthy") for name, words in (HEALTHY | OTHER).items()} | BROKEN
    groups = {"healthy": list(HEALTHY), "other": list(OTHER), "broken": list(BROKEN)}
    wanted = [word for word in words_ if word != "--keep"]
    names = [name for word in wanted or list(groups) for name in groups.get(word, [word])]
    if not all((place_of(folder, name) / "config.yaml").exists() for name in names):
        import_everything()
    wrong = 0
    for name in names:
        words, expected = runs[name]
        train(folder, name, words)
        said = judge(folder, name)
        is_right = bool(set(said) & set(expected.split("|"))) if expected != "healthy" else said == []
        wrong += not is_right
        if "--keep" in words_:
            keep(place_of(folder, name), said)
        print(f"{'  ' if is_right else '! '}{name:32} {', '.join(said) or 'healthy'}", flush=True)
    print(f"{len(names) - wrong} of {len(names)} as expected")
    return wrong


def place_of(folder: Path, name: str) -> Path:
    return folder / "outputs" / re.sub(r"[^\w.-]+", "_", name)


def train(folder: Path, name: str, words: str) -> None:
    """The run of that name, where it is not there yet."""
    place = place_of(folder, name)
    if not (place / "config.yaml").exists():
        began = time.monotonic()
        line = [*words.split(), f"run_dir={place}", "logger=none", "runtime.threads=1"]
        done = answer({"words": line, "cwd": str(folder), "environment": {"OMP_NUM_THREADS": "1"}})
        seconds = time.monotonic() - began
        print(
            f"  {name}: exit {done['code']} in {seconds:.1f} s {done['err'].strip()[-300:]}", file=sys.stderr
        )


def judge(folder: Path, name: str) -> list[str]:
    """The names of the symptoms found, the weightiest first."""
    place = place_of(folder, name)
    done = answer({"words": ["doctor", str(place), "--json"], "cwd": str(folder), "environment": {}})
    try:
        told = json.loads(done["out"])
        symptoms = [one["symptom"] for one in told["symptoms"]]
        return symptoms if symptoms or told["healthy"] else ["cannot be judged"]
    except ValueError:
        return [f"exit {done['code']}: {done['err'].strip()[-300:]}"]


def keep(place: Path, said: list[str]) -> None:
    """The settings, the status and the records of a run in one file, numbers to five digits."""
    status = json.loads((place / "status.json").read_text())
    kept = {key: status.get(key) for key in ("state", "monitor", "step", "exit_code", "reason")}
    lines = [{"symptoms": said, "config": (place / "config.yaml").read_text(), "status": kept}]
    lines += [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    file = TESTS / "doctor" / "runs" / f"{place.name}.jsonl"
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"{json.dumps(short(line))}\n" for line in lines))


def short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: short(item) for key, item in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


def write_project(folder: Path) -> None:
    (folder / "conf" / "data").mkdir(parents=True, exist_ok=True)
    (folder / "conf" / "model").mkdir(parents=True, exist_ok=True)
    (folder / "bench_parts.py").write_text(PARTS)
    for name in ("raw", "shuffled", "noisy", "slow"):
        (folder / "conf" / "data" / f"{name}.yaml").write_text(f"_target_: bench_parts.{name.title()}\n")
    (folder / "conf" / "model" / "dead.yaml").write_text("_target_: bench_parts.Dead\n")


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1]).resolve(), *sys.argv[2:]), 1))
