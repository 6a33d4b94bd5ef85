"""Initial weights against the distributions they claim, by layer type."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from trainrun import init
from trainrun.init import Init
from trainrun.model.mlp import MLP
from trainrun.model.resnet import ResidualBlock, ResNet
from trainrun.vocabulary.errors import ConfigError

CONF = Path(__file__).resolve().parents[1] / "conf" / "init"
OPTIONS = sorted(path.stem for path in CONF.glob("*.yaml"))


def from_yaml(option: str, **changes: Any) -> Init:
    node = yaml.safe_load((CONF / f"{option}.yaml").read_text()) | changes
    built: Init = getattr(init, node.pop("_target_").rpartition(".")[2])(**node)
    return built


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def hidden(layer: nn.Module, activation: nn.Module | None = None) -> nn.Module:
    """A model in which `layer` is a hidden one, followed by `activation`."""
    return nn.Sequential(layer, activation or nn.ReLU(), nn.Linear(2, 2))


# Layers large enough to measure: (layer, fan_in, fan_out), fans counted by hand.
LAYERS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "linear": (lambda: nn.Linear(300, 200), 300, 200),
    "conv1d": (lambda: nn.Conv1d(40, 100, 5), 40 * 5, 100 * 5),
    "conv2d": (lambda: nn.Conv2d(30, 60, 3), 30 * 9, 60 * 9),
    "conv3d": (lambda: nn.Conv3d(10, 20, 3), 10 * 27, 20 * 27),
}
RELU, TANH, SELU = math.sqrt(2), 5 / 3, 3 / 4  # gains
LEAKY = math.sqrt(2 / (1 + 0.01**2))

# (scheme, its standard deviation from the fans, its bound in standard deviations or None: normal)
SCHEMES: list[tuple[str, dict[str, Any], Callable[[int, int], float], float | None]] = [
    ("xavier_uniform", {}, lambda i, o: math.sqrt(2 / (i + o)), math.sqrt(3)),
    ("xavier_normal", {}, lambda i, o: math.sqrt(2 / (i + o)), None),
    ("xavier_normal", {"gain": TANH}, lambda i, o: TANH * math.sqrt(2 / (i + o)), None),
    ("kaiming_uniform", {}, lambda i, o: math.sqrt(2 / i), math.sqrt(3)),
    ("kaiming_uniform", {"mode": "fan_out"}, lambda i, o: math.sqrt(2 / o), math.sqrt(3)),
    ("kaiming_normal", {}, lambda i, o: math.sqrt(2 / i), None),
    ("kaiming_normal", {"mode": "fan_out"}, lambda i, o: math.sqrt(2 / o), None),
    ("kaiming_normal", {"nonlinearity": "linear"}, lambda i, o: math.sqrt(1 / i), None),
    ("kaiming_normal", {"nonlinearity": "tanh"}, lambda i, o: TANH / math.sqrt(i), None),
    ("kaiming_normal", {"nonlinearity": "selu"}, lambda i, o: SELU / math.sqrt(i), None),
    ("kaiming_normal", {"nonlinearity": "leaky_relu"}, lambda i, o: LEAKY / math.sqrt(i), None),
    ("lecun_normal", {}, lambda i, o: math.sqrt(1 / i), None),
    ("normal", {"std": 0.02}, lambda i, o: 0.02, None),
    ("auto", {}, lambda i, o: math.sqrt(2 / i), None),
]


def assert_distribution(weight: Tensor, std: float, bound: float | None) -> None:
    """Mean 0, the standard deviation to 3 %, and the tails of a uniform or of a normal."""
    values = weight.detach().flatten()
    assert len(values) >= 5000
    assert abs(float(values.mean())) < 4 * std / math.sqrt(len(values))
    assert float(values.std()) == pytest.approx(std, rel=0.03)
    farthest = float(values.abs().max()) / std
    if bound is None:
        inside = float((values.abs() < std).float().mean())
        assert inside == pytest.approx(0.6827, abs=0.02) and farthest > 3
    else:
        assert 0.99 * bound < farthest <= 1.000001 * bound


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("name", "changes", "std", "bound"), SCHEMES, ids=[f"{name}-{changes}" for name, changes, _, _ in SCHEMES]
)
def test_a_scheme_has_the_distribution_it_claims(
    name: str, changes: dict[str, Any], std: Callable[[int, int], float], bound: float | None, layer: str
) -> None:
    make, fan_in, fan_out = LAYERS[layer]
    scheme = make()
    from_yaml(name, **changes)(hidden(scheme))
    assert_distribution(scheme.get_parameter("weight"), std(fan_in, fan_out), bound)
    assert not scheme.get_parameter("bias").any()


@pytest.mark.parametrize("make", [lambda: nn.Linear(200, 50), lambda: nn.Linear(50, 200)])
@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_orthogonal_matrices_are_orthogonal(make: Callable[[], nn.Linear], gain: float) -> None:
    layer = make()
    from_yaml("orthogonal", gain=gain)(hidden(layer))
    w = layer.weight.detach()
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    torch.testing.assert_close(gram, gain**2 * torch.eye(50), atol=1e-4, rtol=0)


def test_orthogonal_kernels_are_matrices_of_out_by_rest() -> None:
    layer = nn.Conv2d(8, 16, 3)
    from_yaml("orthogonal")(hidden(layer))
    w = layer.weight.detach().reshape(16, 72)
    torch.testing.assert_close(w @ w.T, torch.eye(16), atol=1e-5, rtol=0)


def test_truncated_normal_ends_at_two_standard_deviations() -> None:
    layer = nn.Linear(300, 200)
    from_yaml("truncated_normal", std=0.05)(hidden(layer))
    values = layer.weight.detach()
    assert 0.0995 < float(values.abs().max()) <= 0.1
    # The variance of a standard normal cut at 2 is 1 - 4 phi(2) / (2 Phi(2) - 1).
    cut = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
    assert float(values.std()) == pytest.approx(0.05 * math.sqrt(cut), rel=0.02)


@pytest.mark.parametrize(("option", "value"), [("zeros", 0.0), ("constant", 0.01)])
def test_demonstrations_make_every_weight_alike(option: str, value: float) -> None:
    layer = nn.Linear(5, 4)
    from_yaml(option)(hidden(layer))
    assert torch.equal(layer.weight.detach(), torch.full((4, 5), value))


# ---- by layer type

NORMS: dict[str, Callable[[], nn.Module]] = {
    "batch": lambda: nn.BatchNorm2d(6),
    "layer": lambda: nn.LayerNorm(6),
    "layer of two dimensions": lambda: nn.LayerNorm([4, 6]),
    "group": lambda: nn.GroupNorm(2, 6),
    "instance": lambda: nn.InstanceNorm2d(6, affine=True),
    "rms": lambda: nn.RMSNorm(6),
    "without weights": lambda: nn.BatchNorm2d(6, affine=False),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("option", [option for option in OPTIONS if option != "default"])
def test_norms_begin_with_weight_1_and_bias_0(option: str, norm: str) -> None:
    layer = NORMS[norm]()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    from_yaml(option)(nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 4)))
    for name, parameter in layer.named_parameters():
        assert torch.equal(parameter.detach(), torch.full_like(parameter, 1.0 if name == "weight" else 0.0))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_initialises_every_kind_of_layer(option: str) -> None:
    """Also the odd ones; and leaves 1-D weights that are no norm's, as PReLU's, alone."""
    model = nn.ModuleList(
        [
            nn.Linear(4, 4, bias=False),
            nn.Conv2d(4, 4, 3),
            nn.ConvTranspose3d(4, 4, 3),
            nn.Bilinear(4, 4, 4),
            nn.LSTM(4, 4, 2, bidirectional=True),
            nn.GRUCell(4, 4),
            nn.BatchNorm1d(4),
            nn.PReLU(4),
            nn.Linear(4, 4),
        ]
    )
    from_yaml(option)(model)
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    assert torch.equal(model.get_parameter("7.weight").detach(), torch.full((4,), 0.25))
    assert torch.equal(model.get_parameter("6.weight").detach(), torch.ones(4))


def test_default_leaves_the_layers_as_torch_made_them() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Linear(64, 3), nn.LSTM(3, 5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    from_yaml("default")(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_default_is_what_its_docstring_says() -> None:
    """Kaiming-uniform with a = sqrt(5) is U(-1/sqrt(fan_in), +), not Xavier; RNNs U(-1/sqrt(hidden), +)."""
    for layer, bound in (
        (nn.Linear(400, 100), 1 / math.sqrt(400)),
        (nn.Conv2d(16, 64, 5), 1 / math.sqrt(16 * 25)),
        (nn.LSTM(50, 100), 1 / math.sqrt(100)),
    ):
        from_yaml("default")(hidden(layer))
        for name, parameter in layer.named_parameters():
            farthest = float(parameter.detach().abs().max())
            assert farthest <= bound
            if name.startswith("weight"):
                assert farthest > 0.99 * bound
                assert float(parameter.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert float(nn.Embedding(200, 50).weight.detach().std()) == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize(
    ("make", "gates"),
    [
        (lambda: nn.LSTM(60, 100), 4),
        (lambda: nn.GRU(60, 100), 3),
        (lambda: nn.RNN(60, 100), 1),
        (lambda: nn.LSTMCell(60, 100), 4),
        (lambda: nn.GRUCell(60, 100), 3),
        (lambda: nn.LSTM(60, 100, proj_size=60), 4),
    ],
    ids=["lstm", "gru", "rnn", "lstm cell", "gru cell", "lstm with projection"],
)
def test_each_gate_of_a_recurrent_layer_is_a_matrix_of_its_own(
    make: Callable[[], nn.Module], gates: int
) -> None:
    layer = make()
    from_yaml("orthogonal")(hidden(layer))
    for name, parameter in layer.named_parameters():
        if "bias" in name:
            assert not parameter.any()
            continue
        for gate in parameter.detach().chunk(1 if "hr" in name else gates):
            assert gate.shape[0] == (60 if "hr" in name else 100)
            gram = gate @ gate.T if gate.shape[0] <= gate.shape[1] else gate.T @ gate
            torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-4, rtol=0)


def test_the_fans_of_a_gate_are_its_own() -> None:
    layer = nn.LSTM(60, 100)
    from_yaml("xavier_normal")(hidden(layer))
    assert_distribution(layer.weight_ih_l0, math.sqrt(2 / (60 + 100)), None)
    assert_distribution(layer.weight_hh_l0, math.sqrt(2 / (100 + 100)), None)


# ---- what follows a layer

HE = lambda i, o: math.sqrt(2 / i)  # noqa: E731
LECUN = lambda i, o: math.sqrt(1 / i)  # noqa: E731
XAVIER = lambda i, o: math.sqrt(2 / (i + o))  # noqa: E731


@pytest.mark.parametrize(
    ("activation", "std", "bound"),
    [
        (nn.ReLU(), HE, None),
        (nn.GELU(), HE, None),
        (nn.SiLU(), HE, None),
        (nn.ELU(), HE, None),
        (nn.SELU(), LECUN, None),
        (nn.Tanh(), XAVIER, math.sqrt(3)),
        (nn.Sigmoid(), XAVIER, math.sqrt(3)),
        (nn.Identity(), HE, None),  # F.relu and its kin cannot be seen
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_auto_fits_the_activation_and_the_output_layer(
    activation: nn.Module, std: Callable[[int, int], float], bound: float | None
) -> None:
    inner, head = nn.Linear(400, 100), nn.Linear(400, 100)
    from_yaml("auto")(nn.Sequential(inner, activation, head))
    assert_distribution(inner.weight, std(400, 100), bound)
    assert_distribution(head.weight, LECUN(400, 100), None)  # no activation follows


def test_auto_kaiming_gives_the_output_layer_gain_1() -> None:
    inner, head = nn.Linear(400, 100), nn.Linear(400, 100)
    from_yaml("kaiming_normal")(nn.Sequential(inner, nn.Tanh(), head))
    assert_distribution(inner.weight, TANH / math.sqrt(400), None)
    assert_distribution(head.weight, 1 / math.sqrt(400), None)


@pytest.mark.parametrize(("activation", "named"), [(nn.SELU, "selu"), (nn.Tanh, "tanh"), (nn.GELU, "relu")])
def test_the_activation_is_the_one_that_most_layers_have(activation: type[nn.Module], named: str) -> None:
    model = nn.Sequential(nn.Sigmoid(), nn.Linear(2, 2), activation(), nn.Linear(2, 2), activation())
    assert init.activation_of(model) == named


@pytest.mark.parametrize(
    ("activation", "option"), [("relu", "kaiming_normal"), ("selu", "lecun_normal"), ("relu", "auto")]
)
def test_a_fitting_scheme_keeps_the_variance_through_depth(activation: Any, option: str) -> None:
    """The guides' point of He and LeCun: 20 layers on, the signal is neither gone nor exploded."""
    model = MLP((256,), 10, 256, 20, activation, "none", 0.0, False)
    from_yaml(option)(model)
    with torch.no_grad():
        variance = float(model.body(torch.randn(64, 256)).pow(2).mean())
        from_yaml("normal", std=0.01)(model)
        lost = float(model.body(torch.randn(64, 256)).pow(2).mean())
    assert 0.1 < variance < 10
    assert lost < 1e-9


# ---- one parameter, as a rule names it


class Parts(nn.Module):
    """A matrix, kernel or vector of every kind of owner."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(400, 100, padding_idx=3)
        self.attention = nn.MultiheadAttention(100, 2)
        self.memory = nn.LSTM(100, 400)
        self.body = nn.Sequential(nn.Linear(400, 100), nn.ReLU(), nn.BatchNorm1d(100))
        self.token = nn.Parameter(torch.zeros(400, 100))
        self.scale = nn.Parameter(torch.ones(()))
        self.head = nn.Linear(400, 100)


NAMES = [name for name, _ in Parts().named_parameters()]


@pytest.mark.parametrize("name", NAMES)
def test_one_parameter_is_filled_whatever_it_belongs_to_and_no_other_changes(name: str) -> None:
    model = Parts()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    from_yaml("constant", value=7.0).initialize_parameter(model, name, before[name])
    after = model.state_dict()
    assert [other for other in before if not torch.equal(before[other], after[other])] == [name]
    expected = torch.full_like(after[name], 7.0)
    if name == "embed.weight":
        expected[3] = 0  # padding stays nothing
    assert torch.equal(after[name], expected)


@pytest.mark.parametrize(
    ("name", "std"),
    [
        ("body.0.weight", math.sqrt(2 / 400)),
        ("head.weight", 1 / math.sqrt(400)),  # no activation follows
        ("token", 1 / math.sqrt(100)),
        ("memory.weight_ih_l0", 5 / 3 / math.sqrt(100)),  # an LSTM's is tanh, gate by gate
    ],
)
def test_one_matrix_fits_what_follows_it(name: str, std: float) -> None:
    model = Parts()
    from_yaml("kaiming_normal").initialize_parameter(model, name, torch.empty(0))
    assert_distribution(model.get_parameter(name), std, None)


def test_one_parameter_of_the_default_goes_back_to_what_its_layer_gave_it() -> None:
    model = Parts()
    default = model.get_parameter("body.0.weight").detach().clone()
    from_yaml("zeros")(model)
    from_yaml("default").initialize_parameter(model, "body.0.weight", default)
    assert torch.equal(model.get_parameter("body.0.weight"), default)
    assert not model.get_parameter("head.weight").any()


@pytest.mark.parametrize("option", ["auto", "xavier_uniform", "kaiming_normal", "lecun_normal", "orthogonal"])
@pytest.mark.parametrize(("name", "shape"), [("head.bias", r"\(100,\)"), ("scale", r"\(\)")])
def test_a_scheme_that_needs_a_fan_in_is_refused_for_a_vector(option: str, name: str, shape: str) -> None:
    with pytest.raises(ConfigError, match=f"parameters.rules: init of {name}, shape {shape}: .*no fan_in"):
        from_yaml(option).initialize_parameter(Parts(), name, torch.empty(0))


# ---- residual branches


def test_zero_residual_makes_a_resnet_block_the_identity() -> None:
    block = ResidualBlock(8, 8, 1, "batch", 0.0)
    x = torch.rand(2, 8, 6, 6)
    from_yaml("kaiming_normal", zero_residual=False)(block)
    assert not torch.equal(block(x), x)
    from_yaml("kaiming_normal", zero_residual=True)(block)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("option", ["default", "auto"])
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_zero_residual_makes_an_mlps_blocks_the_identity_that_can_still_learn(option: str, norm: Any) -> None:
    model = MLP((6,), 2, 8, 3, "gelu", norm, 0.0, True)
    from_yaml(option, zero_residual=True)(model)
    block, x = model.body[2], torch.randn(5, 8)
    assert torch.equal(block(x), x)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):
        nn.functional.cross_entropy(model(torch.randn(8, 6)), torch.arange(8) % 2).backward()
        optimizer.step()
    assert not torch.equal(block(x), x)


def test_zero_residual_begins_every_block_of_a_resnet_and_nothing_else() -> None:
    model = ResNet((1, 8, 8), 3, 8, 4, "batch", 0.0)
    from_yaml("auto", zero_residual=True)(model)
    zero = [name for name, p in model.named_parameters() if name.endswith("weight") and not p.any()]
    assert zero == [f"body.{i}.branch.5.weight" for i in range(3)]


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_zero_residual_is_refused_where_the_block_could_never_learn(activation: Any) -> None:
    model = MLP((6,), 2, 8, 3, activation, "layer", 0.0, True)
    with pytest.raises(ConfigError, match=r"init\.zero_residual: .*do not end in (ReLU|Sigmoid)"):
        from_yaml("auto", zero_residual=True)(model)


def test_zero_residual_without_a_residual_branch_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"init\.zero_residual: has no effect"):
        from_yaml("auto", zero_residual=True)(nn.Linear(2, 2))


def test_the_same_seed_gives_the_same_weights() -> None:
    for option in OPTIONS:
        drawn = []
        for _ in range(2):
            torch.manual_seed(3)
            model = MLP((6,), 2, 8, 3, "relu", "batch", 0.0, False)
            from_yaml(option)(model)
            drawn.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        assert torch.equal(*drawn), option


# ---- LSUV


def test_lsuv_gives_every_layers_outputs_unit_variance() -> None:
    """Measured layer by layer by hand, where the activations would let the variance vanish."""
    layers = [nn.Linear(20, 30), nn.Linear(30, 40), nn.Linear(40, 3)]
    model = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Dropout(0.5), nn.Sigmoid(), layers[2])
    lsuv, inputs = from_yaml("lsuv"), 0.01 * torch.randn(64, 20)
    lsuv(model)
    directions = torch.nn.functional.normalize(layers[1].weight.detach(), dim=1)
    lsuv.scale(model, inputs)  # type: ignore[attr-defined]
    assert model.training
    with torch.no_grad():
        first = layers[0](inputs)
        second = layers[1](first.tanh())
        third = layers[2](second.sigmoid())
    for outputs in (first, second, third):
        assert float(outputs.var()) == pytest.approx(1, abs=0.1)
    direction = torch.nn.functional.normalize(layers[1].weight.detach(), dim=1)
    torch.testing.assert_close(direction, directions, rtol=1e-4, atol=1e-5)  # only the scale changes


def test_lsuv_leaves_alone_what_cannot_be_scaled_and_running_statistics() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    lsuv = from_yaml("lsuv")
    lsuv(model)
    nn.init.zeros_(model[2].weight)  # type: ignore[arg-type]
    lsuv.scale(model, torch.randn(16, 4))  # type: ignore[attr-defined]
    assert not model[2].weight.any()  # type: ignore[union-attr,operator]
    assert not model[1].running_mean.any()  # type: ignore[union-attr,operator]
