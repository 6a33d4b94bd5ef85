"""`trainrun show`: complete, true, and every command on its pages can be pasted and composes."""

from __future__ import annotations

import itertools
import math
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import yaml
from imports import run_counted

from trainrun.cli import show
from trainrun.cli.guide import pages as guide
from trainrun.cli.main import main
from trainrun.cli.plot_choices import choices
from trainrun.config.check import check
from trainrun.config.commands import COMMANDS
from trainrun.config.compose.composer import Composer, parse_arguments
from trainrun.config.paths import CONF
from trainrun.config.show import dials, option
from trainrun.config.suggest import REFUSED
from trainrun.terminal import layout
from trainrun.vocabulary.errors import ConfigError

OPTIONS = sorted(
    (file.parent.name, file.stem) for file in CONF.glob("*/*.yaml") if file.parent.name not in ("hydra",)
)
GROUPS = sorted({group for group, _ in OPTIONS})
TOPICS = [*GROUPS, *show.TOPICS, *(f"{group}/{name}" for group, name in OPTIONS)]
GUIDE_TOPICS = [file.stem for file in Path(guide.__file__).parent.glob("*.md")]
COMMAND = re.compile(r"(?:^| {2,})(trainrun(?: \S.*?)?)(?= {2,}|$)", re.MULTILINE)


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Every page, by topic; the overview under the empty name."""
    pages_by_topic = {topic: "\n".join(show._page(topic)) for topic in TOPICS}
    return {"": "\n".join(show._overview()), **pages_by_topic}


@pytest.fixture(scope="module")
def commands(pages: dict[str, str]) -> list[str]:
    """Every command that a page shows."""
    return sorted({command for text in pages.values() for command in COMMAND.findall(text)})


@pytest.mark.parametrize("file", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_recipes_page_holds_all_of_its_head(file: Path, pages: dict[str, str]) -> None:
    head = itertools.takewhile(lambda line: line.startswith("#"), file.read_text().splitlines()[1:])
    words = " ".join(line.removeprefix("#") for line in head).split()
    assert len(words) > 10
    assert " ".join(words) in " ".join(pages[f"experiment/{file.stem}"].split())


def test_every_command_shown_composes_and_passes_the_check(
    pages: dict[str, str], commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = ModuleSpec("wandb", None, origin="wandb")  # the optional package, as if it were installed
    monkeypatch.setattr("trainrun.config.rules.find_spec", lambda name: there)
    assert len(commands) > 60
    lines = [shlex.split(command)[1:] for command in commands]
    for words in lines:
        if words and words[0] == "show":
            assert show._page(words[1])
        if words and words[0] == "plot" and words[1] not in ("run", "sweep"):
            assert choices(words[1], list(itertools.takewhile(lambda word: word[:2] != "--", words[2:])))[0]
    composer = Composer()
    run_elsewhere = ("batches", "python", "logging", "new", "gan", "migrating")  # by end_to_end/test_rows.py
    own_code = "\n".join(pages[topic] for topic in run_elsewhere)
    own = [shlex.split(line)[1:] for line in COMMAND.findall(own_code)]
    trains = [w for w in lines if w not in own and not (w and (w[0] in COMMANDS or w[0].endswith(".yaml")))]
    for words in _joined(trains):
        arguments = parse_arguments(words)
        compose = composer.compose_sweep if arguments.multirun else lambda texts: [composer.compose(texts)]
        for job in compose(arguments.overrides):
            assert not check(job.settings, job.explicit, job.choices), words


def _joined(lines: list[list[str]]) -> Iterator[list[str]]:
    """Fewer lines, for composing takes its time: options of groups that do not touch each other share one."""
    apart = ("optimizer", "scheduler", "init", "regularization", "precision", "logger")
    first = [(words[0].split("=")[0] if words else "", words) for words in lines]
    simple = {g: [w for group, w in first if group == g and len(w) < 3 and "[" not in w[0]] for g in apart}
    for cells in itertools.zip_longest(*simple.values(), fillvalue=[]):
        yield [word for words in cells for word in words]
    yield from (words for words in lines if not any(words in cells for cells in simple.values()))


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_commands_mean_the_same_in_both_shells(shell: str, commands: list[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    script = "trainrun() { printf '%s\\0' trainrun \"$@\"; printf '\\n'; }\n" + "\n".join(commands)
    done = subprocess.run([shell], input=script, capture_output=True, text=True, check=True)
    received = [line.split("\0")[:-1] for line in done.stdout.splitlines()]
    assert received == [shlex.split(command) for command in commands], done.stderr


def test_prose_holds_commands_in_backticks_alone() -> None:
    """On a forge they are then in the letters of code; elsewhere they would be read as words."""
    begins = re.compile(rf"\btrainrun (?:{'|'.join(COMMANDS)}|-|[a-z_.]+=)")
    for topic in GUIDE_TOPICS:
        for block in guide.read(topic):
            if block.kind in ("paragraph", "bullet", "heading"):
                assert not begins.search(re.sub(r"`[^`]*`", "", block.text)), block.text


def test_every_page_that_is_no_group_is_listed_with_its_meaning(pages: dict[str, str]) -> None:
    files = set(GUIDE_TOPICS) - set(GROUPS) - {"groups", "examples"}
    assert files == set(show.GUIDES)
    for topic, meaning in show.GUIDES.items():
        assert re.search(rf"^  trainrun show {topic} +{re.escape(meaning)}$", pages[""], re.MULTILINE)


def test_a_page_is_printed_without_the_marks_of_markdown(pages: dict[str, str]) -> None:
    for topic in show.GUIDES:
        assert not re.search(
            r"```|\]\(|^#|^\|", pages[topic].replace("#!", "").replace("#SBATCH", ""), re.MULTILINE
        )
    assert "\n  # my_parts.py\n" in pages["python"]
    assert "\n          self.num_samples, self.noise" in pages["python"]  # code keeps its indentation


def test_the_overview_lists_every_option_once(pages: dict[str, str]) -> None:
    listed: list[tuple[str, str]] = []
    group = ""
    for line in pages[""].splitlines():
        if match := re.match(r"(\w+):", line):
            group = match[1]
        elif (match := re.match(r"  (\w+)( \*)?  ", line)) and group in GROUPS:
            listed.append((group, match[1]))
    assert sorted(listed) == OPTIONS


def test_the_overview_marks_what_a_plain_run_takes(pages: dict[str, str]) -> None:
    choices = Composer().compose([]).choices
    taken = {group: name for group, name in choices.items() if isinstance(name, str) and "/" not in group}
    marked = set(re.findall(r"^  (\w+) \*", pages[""], re.MULTILINE))
    assert marked == {*(taken[group] for group in GROUPS if group in taken), "console", "tensorboard"}


@pytest.mark.parametrize("topic", ["", *TOPICS])
def test_pages_are_plain_and_fit(topic: str, pages: dict[str, str], commands: list[str]) -> None:
    text = pages[topic]
    assert text.isascii()
    assert not re.search(r"[^\x20-\x7e\n]", text)
    for line in text.splitlines():
        assert (len(line) <= 110 or line.strip() in commands) and line == line.rstrip(), line
    assert "\n\n\n" not in text


def test_a_narrow_terminal_gets_narrow_pages(monkeypatch: pytest.MonkeyPatch, commands: list[str]) -> None:
    monkeypatch.setattr(layout, "width", lambda: 80)
    for topic in ("optimizer", "optimizer/adamw", "symptoms", "tuning", "scheduler", "loss", "dials"):
        for line in show._page(topic):
            is_code = line.strip() in map(str.strip, guide.own_part(topic))
            assert len(line) <= 80 or line.strip() in commands or is_code, line


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_a_page_has_every_setting_of_the_file_with_its_default(group: str, name: str) -> None:
    tree = yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    node = (
        tree.get(group, {}) if "# @package _global_" in (CONF / group / f"{name}.yaml").read_text() else tree
    )
    shown = {argument.name: yaml.safe_load(argument.default) for argument in option(group, name).arguments}
    expected = dict(_leaves(node or {}))
    assert {key: shown[key] for key in shown if not key.endswith("_target_")} == expected


def _leaves(node: dict[str, object], path: str = "") -> Iterator[tuple[str, object]]:
    """Settings by dotted name; a mapping that calls nothing is one value."""
    for key, value in node.items():
        if isinstance(value, dict) and "_target_" in value:
            yield from _leaves(value, f"{path}{key}.")
        elif key != "_target_":
            yield f"{path}{key}", value


@pytest.mark.parametrize(
    ("topic", "row"),
    [
        ("optimizer/adamw", ("lr", "2.0e-3", "a number greater than 0", "learning rate")),
        ("optimizer/adamw", ("lr_scaling", "none", "none, linear or sqrt", "none, linear or sqrt: scales")),
        ("scheduler/step", ("every", "30%", "a duration above 0 in ep, step, sample", "distance between")),
        ("loop/default", ("clip.norm", "null", "a number greater than 0 or null", "largest L2 norm")),
        ("regularization/dropout", ("p", "0.3", "a number in [0, 1)", "share of units dropped")),
        ("data/dataset", ("train", "needed", "anything", "{_target_: my_data.Pairs, ...}")),
    ],
)
def test_an_argument_is_named_typed_and_explained(
    topic: str, row: tuple[str, ...], pages: dict[str, str]
) -> None:
    name, default, takes, meaning = map(re.escape, row)
    assert re.search(rf"^  {name} +{default} +{takes}.* {{2,}}{meaning}", pages[topic], re.MULTILINE)


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("optimizer/adam", "Kingma and Ba, 2015"),
        ("init/kaiming_normal", "He et al., 2015"),
        ("scheduler/cosine", "Loshchilov and Hutter, 2017"),
        ("optimizer/adamw", "trainrun.optimizer.adamw"),
        ("data/diabetes", "also sets  task=regression, loss=mse, model=mlp"),
        ("regularization/ema", "each set as regularization.ema.NAME=VALUE"),
    ],
)
def test_a_page_names_its_source(topic: str, words: str, pages: dict[str, str]) -> None:
    assert words in pages[topic]


@pytest.mark.parametrize(
    ("topic", "truth"),
    [
        ("optimizer", "with lr (1 - beta)"),
        ("optimizer", "first step is about lr"),
        ("scheduler", "does not rise again"),
        ("scheduler", "stepped once per accumulated update, never reaches its end"),
        ("init", "is not Xavier"),
        ("init", "no meaning for 1-D parameters"),
        ("init", "says nothing of vanishing gradients"),
        ("loss", "A softmax before it"),
        ("regularization/dropout", "p is the share dropped"),
        ("regularization/l2", "weight_decay of twice the strength"),
        ("regularization/l1", "not exact zeros"),
        ("regularization/early_stopping", "NaN is never the best"),
        ("loop", "Clipping can harm"),
        ("loop", "no more negatives to a contrastive loss"),
        ("runtime", "PYTHONHASHSEED, set inside a running process, does nothing"),
        ("data", "on the test split makes its figure worthless"),
        ("symptoms", "lowering it makes this worse"),
        ("symptoms", "dropout and smoothing, on in training only"),
    ],
)
def test_where_guides_err_the_page_says_what_is_true(topic: str, truth: str, pages: dict[str, str]) -> None:
    """Columns of a table are read cell by cell, so a wrapped cell is looked for in its source."""
    sources = [" ".join(pages[topic].split())]
    sources += [cell for block in guide.read(topic) for row in block.rows for cell in row]
    assert any(truth in source for source in sources)


def test_state_per_parameter_is_what_is_kept() -> None:
    torch = pytest.importorskip("torch")
    from trainrun import optimizer as ours

    torch.set_num_threads(1)
    size = 1000
    classes = {"sgd": "SGD", "momentum": "SGD", "nesterov": "SGD", "lbfgs": "LBFGS", "adam": "Adam"} | {
        name.lower(): name for name in ("AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam")
    }
    classes["adafactor"] = "Adafactor"
    newer: dict[str, Callable[[object], torch.optim.Optimizer]] = {
        "lion": lambda p: ours.lion(p, 1e-3, (0.9, 0.99), 0.0),
        "muon": lambda p: ours.Muon(p, 1e-3, 0.9, 5, 0.0),
        "schedule_free": lambda p: ours.schedule_free_adamw(p, 1e-3, (0.9, 0.99), 1e-8, 0.0),
        "sam": lambda p: ours.sam(p, lambda q, lr, wd: ours.momentum(q, lr, 0.9, wd), 1e-3, 0.0, 0.05, False),
    }
    extra: dict[str, dict[str, object]] = {
        "momentum": {"momentum": 0.9},
        "nesterov": {"momentum": 0.9, "nesterov": True},
        "lbfgs": {"history_size": option_tree("optimizer", "lbfgs")["history_size"]},
    }

    def numbers(value: object) -> int:
        if torch.is_tensor(value):
            return value.numel() * value.element_size() if value.numel() == size else 0
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return sum(map(numbers, inner))

    measured = {}
    makers = {
        name: lambda p, name=name, cls=cls: getattr(torch.optim, cls)(p, lr=1e-3, **extra.get(name, {}))
        for name, cls in classes.items()
    }
    for name, make in (makers | newer).items():
        weight = torch.nn.Parameter(torch.linspace(-1, 1, size).view(40, 25))
        optimizer = make([{"params": [weight]}])

        def loss(weight: torch.nn.Parameter = weight, optimizer: torch.optim.Optimizer = optimizer) -> object:
            optimizer.zero_grad()
            value = (torch.linspace(0.1, 1, size) * weight.flatten() ** 4).sum()
            value.backward()
            return value

        for _ in range(2):
            optimizer.step(loss)
        measured[name] = numbers(dict(optimizer.state)) / size
    assert {row["optimizer"]: float(row["state"]) for row in guide.table("optimizer")} == measured


def option_tree(group: str, name: str) -> dict[str, object]:
    tree: dict[str, object] = yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8"))
    return tree


def test_the_loss_table_has_just_the_pairs_that_are_accepted() -> None:
    stands = {
        "regression": ["data=diabetes"],
        "binary": ["data=breast_cancer"],
        "classification": ["data=wine"],
        "multilabel": ["data=synthetic_table", "data.kind=labels", "task=multilabel"],
        "language_model": ["data=text"],
        "masked_lm": ["data=text", "task=masked_lm", "model=transformer"],
    }
    losses = {
        name: option_tree("loss", name) for group, name in OPTIONS if group == "loss" and name != "auto"
    }
    composer, accepted = Composer(), set()
    for task, words in stands.items():
        job = composer.compose(words)
        for loss, tree in losses.items():
            given = {"teacher": "last"} if "teacher" in tree else {}
            if not check({**job.settings, "loss": {**tree, **given}}):
                accepted.add((task, loss))
    rows = guide.table("loss")
    assert {(row["task"], loss) for row in rows for loss in row["loss"].split(", ")} == accepted


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_number_formats_are_as_torch_describes_them(precision: str) -> None:
    torch = pytest.importorskip("torch")
    info = torch.finfo({"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision])
    row = next(row for row in guide.table("precision") if row["precision"] == precision)
    fraction = round(-math.log2(info.eps))
    assert row["exponent, fraction bits"] == f"{info.bits - 1 - fraction}, {fraction}"
    assert float(row["largest"]) == pytest.approx(info.max, rel=0.02)


@pytest.mark.parametrize("row", [row for row in guide.table("init") if "fan" in row["weights of a layer"]])
def test_inits_have_the_variance_the_table_says(row: dict[str, str]) -> None:
    torch = pytest.importorskip("torch")
    from trainrun.config.call import call
    from trainrun.config.injection import SLOTS

    torch.manual_seed(0)
    fans = {"fan_in": 300, "fan_out": 500}
    formula = row["weights of a layer"].removeprefix("variance ")
    hidden = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "selu": torch.nn.SELU}
    activation = hidden.get(row["activation"].split(",")[0], torch.nn.Identity)
    for name in row["init"].split(" or "):
        if row["activation"].startswith("none") and name.startswith("xavier"):
            continue  # good enough there, and not of that variance
        layer = torch.nn.Linear(300, 500)
        call(option_tree("init", name), "init", SLOTS["init"], {})(
            torch.nn.Sequential(layer, activation(), torch.nn.Linear(500, 1))
        )
        assert layer.weight.var().item() == pytest.approx(eval(formula, {}, fans), rel=0.02), name


def test_pytorchs_default_init_is_as_described(pages: dict[str, str]) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    text = " ".join(pages["init/default"].split())
    assert (
        "Linear and Conv: Kaiming-uniform with a = sqrt(5), that is U(-1/sqrt(fan_in), 1/sqrt(fan_in))"
        in text
    )
    assert "RNN, LSTM, GRU: U(-1/sqrt(hidden), 1/sqrt(hidden))" in text
    layers = {
        400: torch.nn.Linear(400, 300).weight,
        8 * 9: torch.nn.Conv2d(8, 256, 3).weight,
        64: torch.nn.LSTM(10, 64).weight_ih_l0,  # hidden, not fan_in
    }
    for fan, weight in layers.items():
        assert 0.99 / math.sqrt(fan) < weight.abs().max().item() <= 1 / math.sqrt(fan)
        assert weight.var().item() == pytest.approx(1 / (3 * fan), rel=0.1)  # uniform


def test_dials_are_those_of_the_run() -> None:
    plain = Composer().compose([]).settings
    assert {argument.key: yaml.safe_load(argument.default) for argument in dials()} == {
        key: value for key, value in plain.items() if key not in GROUPS
    }
    assert all(argument.meaning and argument.takes for argument in dials())


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("optimzer", "optimizer"),
        ("adamv", "optimizer/adam"),
        ("optimizer/adm", "optimizer/adam"),
        ("symptom", "symptoms"),
        ("not_offered", "not-offered"),
    ],
)
def test_an_unknown_topic_names_the_nearest(
    word: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", word]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert nearest in err and f"\n  trainrun show {nearest}" in err


@pytest.mark.parametrize("word", ["adamw", "optimizer=adamw", "optimizer/adamw/"])
def test_an_option_is_found_however_it_is_named(word: str, pages: dict[str, str]) -> None:
    assert "\n".join(show._page(word)) == pages["optimizer/adamw"]


def test_a_name_in_two_groups_is_asked_back() -> None:
    with pytest.raises(ConfigError, match=r"loss/l1 or regularization/l1"):
        show._page("l1")


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of the user's own, whose module cannot be imported."""
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(
        "# My own net.\n_target_: my_model.Net\nwidth: 32  # units\nsizes:  # of the kernels\n  - 3\n  - 5\n"
    )
    (tmp_path / "my_model.py").write_text(
        "raise SystemExit('imported')\nclass Net:\n"
        "    def __init__(self, num_outputs: int, width: int, sizes: list[int], bias: bool = True): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_your_own_option_is_listed_and_described_without_running_it(own_folder: Path) -> None:
    assert re.search(r"^  mine +My own net\. \(yours\)$", "\n".join(show._overview()), re.MULTILINE)
    text = "\n".join(show._page("model/mine"))
    assert "model=mine  (yours)" in text
    assert re.search(r"^  width +32 +a whole number +units$", text, re.MULTILINE)
    assert re.search(r"^  sizes +\[3,5\] +a list, each a whole number", text, re.MULTILINE)
    assert "from run   num_outputs" in text
    assert "also takes bias; set with +model.NAME=VALUE" in text


def test_a_broken_file_of_yours_is_named_with_its_line(own_folder: Path) -> None:
    (own_folder / "conf" / "model" / "mine.yaml").write_text("# My own net.\nwidth: 1\nwidth: [\n")
    assert "My own net. (yours)" in "\n".join(show._page("model"))
    with pytest.raises(ConfigError, match=r"mine\.yaml:\d+: is not valid YAML"):
        show._page("model/mine")


@pytest.mark.parametrize("words", [[], ["optimizer"], ["optimizer/adamw"], ["tuning"]])
def test_show_imports_little_and_neither_torch_nor_hydra(words: list[str]) -> None:
    done = run_counted("show", *words)
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
    assert not done.modules & {"torch", "hydra", "omegaconf", "numpy"}
    assert len(done.modules) < 215  # 203 today, 33 of them Python's own at its start, 52 ours


@pytest.mark.parametrize(
    ("topic", "meant"),
    [
        ("trainer", "loop"),
        ("lr", "optimizer"),
        ("epochs", "dials"),
        ("seed", "dials"),
        ("schedulers", "scheduler"),
        ("warmup", "scheduler"),
        ("adm", "optimizer/adam"),
        ("early", "regularization/early_stopping"),
        ("model/cn", "model/cnn"),
        ("zebra", None),
        ("training_loop_of_mine", None),
    ],
)
def test_a_topic_by_another_name_is_answered_with_its_page(
    topic: str, meant: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", topic]) == 2
    err = capsys.readouterr().err
    assert ("did you mean" in err) is (meant is not None)
    if meant:
        assert err.splitlines()[-1] == f"  trainrun show {meant}"
        assert main(["show", meant]) == 0


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("PPO", "Stable-Baselines3"),
        ("newton", "optimizer=lbfgs"),
        ("k-fac", "gpauloski/kfac-pytorch"),
        ("kfac", "gpauloski/kfac-pytorch"),
        ("pipeline", "DeepSpeed"),
    ],
)
def test_a_guides_word_for_what_is_not_offered_leads_to_what_to_use(word: str, instead: str) -> None:
    text = "\n".join(show._page(word))
    assert instead in text
    assert len(text.splitlines()) < 8  # its own row, not the whole table


def test_every_choice_that_is_not_offered_has_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    for (group, name), (reason, _) in REFUSED.items():
        if reason.startswith("is not offered"):
            assert main([f"{group}={name}"]) == 2
            assert f"trainrun show {name}" in capsys.readouterr().err
            assert main(["show", name]) == 0
