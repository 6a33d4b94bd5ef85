"""Own parts in the plain form: what `trainrun show GROUP` prints of each group trains as it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import trainrun
from trainrun.cli import show
from trainrun.cli.guide import pages
from trainrun.config.paths import COMBINES, groups

GROUPS = sorted(file.stem for file in (Path(pages.__file__).parent / "own").glob("*.md"))
SHORT = ["budget=4step", "batch_size=16", "loop.log_every=1step", "runtime.threads=1", "seed=3"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_disk: None) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def _write(code: str, **options: str) -> None:
    """my.py, and an option for each KEY `GROUP__NAME`."""
    Path("my.py").write_text(f"import torch\nfrom torch import nn\n{code}\n")
    for key, text in options.items():
        file = Path("conf", *key.split("__")).with_suffix(".yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def _train(*words: str) -> Any:
    model = [] if any(word.startswith("model=") for word in words) else ["model=mlp", "model.width=8"]
    logger = [] if any(word.startswith("logger=") for word in words) else ["logger=none"]
    return trainrun.train([*model, *logger, *SHORT, *words])


def _records(run: Any, event: str) -> list[dict[str, Any]]:
    lines = (run.run_dir / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == event]


def test_every_group_where_it_makes_sense_shows_an_own_part() -> None:
    without = {"checkpoint", "experiment", "loop", "parallel", "parameters", "runtime", "sweep"}
    assert set(GROUPS) == set(groups()) - without
    for group in GROUPS:
        page = "\n".join(show._page(group))
        assert all(line in page for line in pages.own_part(group))


@pytest.mark.parametrize("group", GROUPS)
def test_what_a_page_shows_trains_as_it_stands(group: str) -> None:
    text = "\n".join(pages.own_part(group))
    for name, content in re.findall(r"^# (\S+\.(?:py|yaml))\n(.*?)(?=^# \S+\.yaml\n|\Z)", text, re.M | re.S):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)
    result = _train(f"{group}=[mine]" if group in COMBINES else f"{group}=mine")
    assert (result.state, result.step) == ("completed", 4)
    assert trainrun.evaluate("last")["loss"] == pytest.approx(result.metrics["val"]["loss"])
    if group == "logger":
        lines = [line.split() for line in (result.run_dir / "notes.txt").read_text().splitlines()]
        told = {split: float(loss) for _, split, loss in lines}
        assert told == {split: metrics["loss"] for split, metrics in result.metrics.items()}


def test_a_schedule_of_the_step_or_of_progress_is_the_factor() -> None:
    code = "halved = lambda step: 0.5**step\ndef line(progress, end): return 1 - (1 - end) * progress"
    _write(code, scheduler__mine="_target_: my.halved", scheduler__line="_target_: my.line\nend: 0.2")
    rates = [record["lr"] for record in _records(_train("scheduler=mine", "optimizer.lr=0.1"), "train")]
    assert rates == pytest.approx([0.1, 0.05, 0.025, 0.0125])
    rates = [record["lr"] for record in _records(_train("scheduler=line", "optimizer.lr=0.1"), "train")]
    assert rates == pytest.approx([0.1, 0.08, 0.06, 0.04])
    _write("def fall(step, total_steps): return 1 - step / total_steps", scheduler__fall="_target_: my.fall")
    rates = [record["lr"] for record in _records(_train("scheduler=fall", "optimizer.lr=0.1"), "train")]
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_an_own_schedule_resumes_to_the_same_bits() -> None:
    _write("def halved(step): return 0.5**step", scheduler__mine="_target_: my.halved")
    whole, half = _train("scheduler=mine"), _train("scheduler=mine", "loop.stop_at=null", "budget=2step")
    resumed = trainrun.resume(str(half.run_dir), ["budget=4step"])
    weights = [trainrun.load(str(run.run_dir), "last").state_dict() for run in (whole, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_loss_function_is_the_mean_over_samples() -> None:
    code = "def mean(outputs, targets): return nn.functional.cross_entropy(outputs, targets)"
    torchs = "_target_: torch.nn.functional.cross_entropy"
    _write(code, loss__mean="_target_: my.mean", loss__torchs=torchs)
    expected = _train().metrics["test"]["loss"]
    assert _train("loss=torchs").metrics["test"]["loss"] == pytest.approx(expected, abs=1e-6)
    assert _train("loss=mean").metrics["test"]["loss"] == pytest.approx(expected, abs=1e-6)


def test_a_training_step_as_a_function_is_the_same_training() -> None:
    code = (
        "def step(model, batch):\n    outputs = model(batch.inputs)\n"
        "    hits = (outputs.argmax(1) == batch.targets).float().mean()\n"
        "    return {'loss': nn.functional.cross_entropy(outputs, batch.targets), 'accuracy': hits}"
    )
    _write(code, task__mine="_target_: my.step")
    expected, with_own = _train(), _train("task=mine", "loss=cross_entropy")
    for name in ("loss", "accuracy"):
        assert with_own.metrics["test"][name] == pytest.approx(expected.metrics["test"][name], abs=1e-6)


def test_an_init_is_called_with_the_model_or_with_its_layers() -> None:
    code = (
        "def whole(model):\n    for p in model.parameters(): nn.init.constant_(p, 0.25)\n"
        "def layer(m):\n    if isinstance(m, nn.Linear): nn.init.constant_(m.weight, 0.5)\n"
    )
    _write(code, init__whole="_target_: my.whole", init__layer="_target_: my.layer")
    for name, value in (("whole", 0.25), ("layer", 0.5)):
        _train(f"init={name}", "optimizer=sgd", "optimizer.lr=1e-30")
        weight = next(trainrun.load("last").parameters())
        assert torch.equal(weight, torch.full_like(weight, value))


def test_regularisers_as_functions_do_what_they_say() -> None:
    code = (
        "def penalty(model, strength): return strength * sum(p.abs().sum() for p in model.parameters())\n"
        "def change(model): model.register_buffer('mark', torch.ones(3))\n"
        "def batch(inputs, targets): return 0 * inputs, targets\n"
    )
    options = {name: f"_target_: my.{name}" for name in ("penalty", "change", "batch")}
    options["penalty"] += "\nstrength: 0.001"
    _write(code, **{f"regularization__{name}": text for name, text in options.items()})
    run = _train("regularization=[penalty,change,batch]")
    assert all(record["penalty"] > 0 for record in _records(run, "train"))
    assert "mark" in trainrun.load("last").state_dict()
    assert _train("regularization=[penalty]").metrics != run.metrics


def test_an_augmentation_draws_by_the_seed_alone_and_spares_evaluation() -> None:
    code = "def noise(batch, std): return batch + std * torch.randn_like(batch)"
    flip = "_target_: torchvision.transforms.v2.RandomHorizontalFlip\np: 0.5"
    _write(code, augment__mine="_target_: my.noise\nstd: 0.5", augment__flip=flip)
    for name in ("mine", "flip"):
        first, again, plain = (_train(f"augment={name}"), _train(f"augment={name}"), _train())
        assert first.metrics == again.metrics
        assert first.metrics["val"] != plain.metrics["val"]
        assert trainrun.evaluate("last") == pytest.approx(dict(plain.metrics["val"]))


def test_a_torchvision_transform_and_a_function_of_a_batch_that_do_the_same_train_the_same() -> None:
    code = (
        "from torchvision.transforms import v2\n"
        "def flipped(batch): return batch.flip(-1)\ndef same(batch): return batch\n"
        "def twice(p): return v2.Compose([v2.RandomHorizontalFlip(p), v2.RandomHorizontalFlip(p)])\n"
    )
    flip = "_target_: torchvision.transforms.v2.RandomHorizontalFlip\np: 1.0"
    options = {"flipped": "_target_: my.flipped", "same": "_target_: my.same", "flip": flip}
    options["twice"] = "_target_: my.twice\np: 1.0"
    _write(code, **{f"augment__{name}": text for name, text in options.items()})
    losses = {name: _train(f"augment={name}").metrics["val"]["loss"] for name in options}
    assert losses["flip"] == pytest.approx(losses["flipped"], abs=1e-6)
    assert losses["twice"] == pytest.approx(losses["same"], abs=1e-6)
    assert abs(losses["flip"] - losses["same"]) > 1e-4


def test_an_optimizer_may_be_a_function() -> None:
    code = "def plain(params, lr): return torch.optim.SGD(params, lr=lr)"
    _write(code, optimizer__plain="_target_: my.plain\nlr: 0.05")
    expected = _train("optimizer=sgd", "optimizer.lr=0.05", "optimizer.weight_decay=0")
    assert _train("optimizer=plain").metrics["val"]["loss"] == expected.metrics["val"]["loss"]


def test_loggers_are_functions_or_objects_and_one_that_fails_stops_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    code = (
        "def mine(event): print('told', type(event).__name__)\n"
        "class Kept:\n    def __init__(self, run_dir, word): self.text = f'{word} {run_dir}'\n"
        "    def __call__(self, event): print(self.text)\n"
        "def broken(event): event['x']\n"
    )
    options = {"mine": "_target_: my.mine", "broken": "_target_: my.broken"}
    options["kept"] = "_target_: my.Kept\nword: hello"
    _write(code, **{f"logger__{name}": text for name, text in options.items()})
    run = _train("logger=[mine,kept,broken]")
    printed = capfd.readouterr()
    assert "told StepsLogged" in printed.out
    assert f"hello {run.run_dir}" in printed.out
    assert "broken failed: TypeError" in printed.err
    assert "my.py:7" in printed.err


def test_a_logger_receives_every_event_in_order() -> None:
    code = (
        "names = []\ndef every(event): names.append(type(event).__name__)\n"
        "def probe(model, batches, step): return {'x': step}\n"
    )
    _write(code, logger__every="_target_: my.every")
    _train("logger=[every,tensorboard]", "loop.eval_every=2step", "loop.probes=[my.probe]")
    names = [name for name in sys.modules["my"].names if name not in ("Progressed", "CheckpointSaved")]
    logged = ["StepsLogged", "StepsLogged", "Evaluated", "Probed"]
    assert names == ["Started", *logged, *logged, "Evaluated", "Finished"]
    assert "CheckpointSaved" in sys.modules["my"].names


MISTAKES: dict[str, tuple[str, str, str]] = {
    "scheduler: it returns nothing": ("def f(step): step", "scheduler", "lack a return"),
    "scheduler: it fails": ("def f(step): return 1 / 0", "scheduler", r"ZeroDivisionError.*my.py:3"),
    "scheduler: below 0": ("def f(step): return -1", "scheduler", "learning rate's factor"),
    "scheduler: too many": ("def f(step, end): return 1", "scheduler", "scheduler.end"),
    "augment: another shape": ("def f(batch): return batch[:1, :, :3]", "augment", "same shape"),
    "augment: no tensor": ("def f(batch): return None", "augment", "same shape"),
    "augment: it fails": ("def f(batch): return batch.nothing", "augment", "AttributeError.*my.py:3"),
    "logger: not callable": ("class f: ...", "logger", "cannot be called"),
    "loss: no tensor": ("def f(outputs, targets): return 0.5", "loss", "must return a tensor"),
    "loss: one argument": ("def f(outputs): return outputs", "loss", "loss.outputs|not a"),
    "init: nothing changes": ("def f(model): pass", "init", "changed no parameter"),
    "task: no loss": ("def f(model, batch): return {'accuracy': 1}", "task", "must return the loss"),
    "regularization: no number": ("def f(model): return 'x'", "regularization", "one number"),
    "regularization: no pair": ("def f(inputs, targets): return inputs", "regularization", "a pair"),
    "precision: fp16": ("def f(device): return torch.float16", "precision", "fp16"),
    "precision: nothing": ("def f(device): return 3", "precision", "not a"),
    "data: a list": ("def f(): return [1, 2]", "data", "not a Data or a Dataset"),
    "optimizer: no optimizer": ("def f(params, lr): return 3", "optimizer", "not a"),
    "model: no module": ("def f(num_outputs): return 3", "model", "not a"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_in_an_own_part_are_told_before_a_folder_exists(case: str) -> None:
    code, group, message = MISTAKES[case]
    _write(code, **{f"{group}__mine": "_target_: my.f" + ("\nlr: 0.1" if group == "optimizer" else "")})
    with pytest.raises(trainrun.TrainrunError, match=f"(?s){message}") as raised:
        _train(f"{group}=[mine]" if group in COMBINES else f"{group}=mine")
    assert str(raised.value).startswith(group)
    assert not Path("outputs").exists()


def test_channels_last_is_left_out_where_the_model_fails_with_it(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "class Net(nn.Module):\n"
        "    def __init__(self, num_outputs):\n        super().__init__()\n"
        "        self.conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3))\n"
        "        self.head = nn.Linear(64, num_outputs)\n"
        "    def forward(self, x):\n        x = self.conv(x)\n        return self.head(x.view(len(x), -1))\n"
    )
    _write(code, model__mine="_target_: my.Net")
    for more in ([], ["regularization=[ema]"]):
        words = ["model=mine", "logger=console", *more]
        plain = _train(*words, "runtime.channels_last=false")
        assert "channels_last" not in capfd.readouterr().err
        assert _train(*words, "runtime.channels_last=true").metrics == plain.metrics
        assert "channels_last" in capfd.readouterr().err


def test_code_that_imports_torchvision_loads_beside_any_build_of_torch() -> None:
    Path("my_net.py").write_text("import torchvision\nfrom torch import nn\nclass Net(nn.Module): ...\n")
    Path("my_other.py").write_text("from torch import nn\nclass Net(nn.Module): ...\n")
    script = (
        "import sys\n"
        "sys.path.insert(0, '.')\n"
        "from trainrun.config.call import misfit\n"
        "from trainrun.config.injection import SLOTS\n"
        "print(misfit('my_other.Net', SLOTS['model']), 'torchvision' in sys.modules)\n"
        "print(misfit('my_net.Net', SLOTS['model']), 'torchvision' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["None False", "None True"], done.stderr
