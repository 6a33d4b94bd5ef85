"""Initialise weights by layer type: a scheme for matrices and kernels, 1 for norm weights, 0 for biases."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Count, NonNegative, Positive

Fill = Callable[[Tensor, str], object]  # a matrix or kernel, and the activation that follows it
Mode = Literal["fan_in", "fan_out"]
Nonlinearity = Literal["auto", "linear", "relu", "leaky_relu", "tanh", "sigmoid", "selu"]

# GELU, SiLU and the like pass about what ReLU passes.
_LIKE_RELU = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.ELU, nn.PReLU)
_ACTIVATIONS: dict[type[nn.Module], str] = {
    **dict.fromkeys(_LIKE_RELU, "relu"),
    nn.LeakyReLU: "leaky_relu",
    nn.SELU: "selu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
}
LAYERS = (nn.Linear, nn.modules.conv._ConvNd, nn.Bilinear)
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


class Init:
    """Fill a model's weights in place, layer by layer.

    `fill` is the scheme; None keeps the layers' own defaults. With `zero_residual` the last norm or
    layer of every residual branch starts at 0, so that a block starts as the identity (Goyal et al., 2017).
    """

    def __init__(self, fill: Fill | None, zero_residual: bool) -> None:
        self.fill, self.zero_residual = fill, zero_residual

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        """Initialise layers of known types; others, such as embeddings, keep their weights."""
        self.initialize_layers(model)
        self.zero_branches(model)

    @torch.no_grad()
    def zero_branches(self, model: nn.Module) -> None:
        """With `zero_residual`, zero the last norm, or else the last layer, of every module's `branch`."""
        if not self.zero_residual:
            return
        candidates = [getattr(module, "branch", None) for module in model.modules()]
        branches = [list(branch) for branch in candidates if isinstance(branch, nn.Sequential)]
        if not branches:
            text = "has no effect because no module of the model has a residual `branch`"
            raise ConfigError.of("init.zero_residual", text, "init.zero_residual=false")
        for tail in branches:
            while tail and not isinstance(tail[-1], (*NORMS, *LAYERS)):
                # relu'(0) = 0, so that no gradient would ever reach the block; sigmoid(0) is not 0.
                if isinstance(last := tail.pop(), (nn.ReLU, nn.ReLU6, nn.Sigmoid)):
                    text = (
                        f"needs branches that do not end in {type(last).__name__}; use model.activation=gelu"
                    )
                    raise ConfigError.of("init.zero_residual", text)
            for parameter in tail[-1].parameters(recurse=False) if tail else ():
                nn.init.zeros_(parameter)

    def initialize_layers(self, model: nn.Module) -> None:
        """Initialise every layer of a known type."""
        if self.fill is None:
            return
        activation, last = activation_of(model), _output_layer(model)
        for layer in model.modules():
            for name, parameter in layer.named_parameters(recurse=False):
                if isinstance(layer, NORMS):
                    nn.init.constant_(parameter, 1.0 if name == "weight" else 0.0)
                elif isinstance(layer, (*LAYERS, *_RECURRENT)) and parameter.ndim > 1:
                    _fill(layer, parameter, self.fill, "linear" if layer is last else activation)
                elif isinstance(layer, (*LAYERS, *_RECURRENT)):
                    nn.init.zeros_(parameter)

    @torch.no_grad()
    def initialize_parameter(self, model: nn.Module, name: str, default: Tensor) -> None:
        """Initialise the parameter `name`, whatever layer it belongs to.

        `default` are the values that its layer gave it; the scheme "default" restores them. Raises
        ConfigError for a vector where the scheme needs a fan_in.
        """
        layer, parameter = model.get_submodule(name.rpartition(".")[0]), model.get_parameter(name)
        if self.fill is None:
            parameter.copy_(default)
            return
        hidden = isinstance(layer, LAYERS) and layer is not _output_layer(model)
        try:
            _fill(layer, parameter, self.fill, activation_of(model) if hidden else "linear")
        except ValueError:
            text = f"init of {name}, shape {tuple(parameter.shape)}: it has no fan_in; use constant or normal"
            raise ConfigError.of("parameters.rules", text) from None
        if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)) and layer.padding_idx is not None:
            parameter[layer.padding_idx] = 0


class LSUV(Init):
    """Orthogonal weights, then layers scaled one by one until outputs on a batch have variance 1."""

    def __init__(self, tolerance: float, most_passes: int, zero_residual: bool) -> None:
        super().__init__(lambda weight, _: nn.init.orthogonal_(weight), zero_residual)
        self.tolerance, self.most_passes = tolerance, most_passes

    @torch.no_grad()
    def scale(self, model: nn.Module, inputs: Any) -> None:
        """Scale layers in the order in which `inputs` pass them, in evaluation mode; not constant ones."""
        was_training, variances = model.training, dict[nn.Module, float]()

        def measure(layer: nn.Module, _: Any, outputs: Tensor) -> None:
            variances[layer] = float(outputs.float().var())

        hooks = [m.register_forward_hook(measure) for m in model.modules() if isinstance(m, LAYERS)]
        model.eval()
        try:
            model(inputs)
            for layer in list(variances):
                for _ in range(self.most_passes):
                    variance = variances[layer]
                    if not 0 < variance < math.inf or abs(variance - 1) < self.tolerance:
                        break
                    layer.get_parameter("weight").div_(math.sqrt(variance))
                    model(inputs)
        finally:
            model.train(was_training)
            for hook in hooks:
                hook.remove()


class Fitting(Init):
    """The scheme `auto`, for trainrun's models alone: calls `initialize` of those that have it."""

    def initialize_layers(self, model: nn.Module) -> None:
        if (initialize := getattr(model, "initialize", None)) is not None:
            initialize()
            return
        super().initialize_layers(model)
        if (rescale_init := getattr(model, "rescale_init", None)) is not None:
            rescale_init()


def fitted_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of known types that have weights."""
    kinds = (*LAYERS, *NORMS, *_RECURRENT)
    return [m for m in model.modules() if isinstance(m, kinds) and [*m.parameters(recurse=False)]]


def activation_of(model: nn.Module) -> str:
    """The most frequent activation of a model's modules; "relu" without any, as `F.relu` leaves no trace."""
    counts = Counter(_ACTIVATIONS[type(m)] for m in model.modules() if type(m) in _ACTIVATIONS)
    return counts.most_common(1)[0][0] if counts else "relu"


def default(zero_residual: bool) -> Init:
    """The defaults of torch's layers.

    Linear and Conv: Kaiming-uniform with a = sqrt(5), that is U(-1/sqrt(fan_in), 1/sqrt(fan_in)),
    biases the same. RNN, LSTM, GRU: U(-1/sqrt(hidden), 1/sqrt(hidden)). Embedding: N(0, 1).
    """
    return Init(None, zero_residual)


def auto(zero_residual: bool) -> Init:
    """He-normal before ReLU and the like, LeCun-normal before SELU, Xavier-uniform before tanh and sigmoid.

    The output layer, which no activation follows, is LeCun-normal. Models with a method `initialize`
    (transformer, gpt, lstm, gru) initialise themselves. A model from outside trainrun (your own,
    torchvision's, timm's) keeps the weights that it gave itself.
    """
    he_normal = _kaiming(nn.init.kaiming_normal_, "fan_in", "auto")

    def fill(weight: Tensor, activation: str) -> None:
        if activation in ("tanh", "sigmoid"):
            nn.init.xavier_uniform_(weight)
        else:
            (_lecun_normal if activation in ("selu", "linear") else he_normal)(weight, activation)

    return Fitting(fill, zero_residual)


def xavier_uniform(gain: Positive, zero_residual: bool) -> Init:
    """U(-a, a) with a = gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    return Init(lambda weight, _: nn.init.xavier_uniform_(weight, gain), zero_residual)


def xavier_normal(gain: Positive, zero_residual: bool) -> Init:
    """N(0, gain^2 2 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    return Init(lambda weight, _: nn.init.xavier_normal_(weight, gain), zero_residual)


def kaiming_uniform(mode: Mode, nonlinearity: Nonlinearity, zero_residual: bool) -> Init:
    """U(-a, a) with a = gain sqrt(3 / fan); gain sqrt(2) for ReLU (He et al., 2015)."""
    return Init(_kaiming(nn.init.kaiming_uniform_, mode, nonlinearity), zero_residual)


def kaiming_normal(mode: Mode, nonlinearity: Nonlinearity, zero_residual: bool) -> Init:
    """N(0, gain^2 / fan); gain sqrt(2) for ReLU (He et al., 2015)."""
    return Init(_kaiming(nn.init.kaiming_normal_, mode, nonlinearity), zero_residual)


def lecun_normal(zero_residual: bool) -> Init:
    """N(0, 1 / fan_in) (LeCun et al., 1998), which SELU needs (Klambauer et al., 2017)."""
    return Init(_lecun_normal, zero_residual)


def orthogonal(gain: Positive, zero_residual: bool) -> Init:
    """A random orthogonal matrix times `gain` (Saxe et al., 2014); kernels as (out, rest) matrices."""
    return Init(lambda weight, _: nn.init.orthogonal_(weight, gain), zero_residual)


def lsuv(tolerance: Positive, most_passes: Count, zero_residual: bool) -> Init:
    """Layer-sequential unit variance (Mishkin and Matas, 2016): orthogonal weights, then scaled.

    Layer by layer, until the outputs on the first training batch have variance 1.
    """
    return LSUV(tolerance, most_passes, zero_residual)


def normal(std: NonNegative, zero_residual: bool) -> Init:
    """N(0, std^2), whatever the layer's size."""
    return Init(lambda weight, _: nn.init.normal_(weight, 0.0, std), zero_residual)


def truncated_normal(std: Positive, zero_residual: bool) -> Init:
    """N(0, std^2) cut at two standard deviations, as transformers use it with std 0.02."""
    return Init(lambda weight, _: nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std), zero_residual)


def constant(value: float, zero_residual: bool) -> Init:
    """Every weight the same: a demonstration that units that start alike stay alike."""
    return Init(lambda weight, _: nn.init.constant_(weight, value), zero_residual)


def zeros(zero_residual: bool) -> Init:
    """Every weight 0: a demonstration that no gradient reaches the hidden layers."""
    return Init(lambda weight, _: nn.init.zeros_(weight), zero_residual)


def _kaiming(fill: Callable[..., Tensor], mode: Mode, nonlinearity: Nonlinearity) -> Fill:
    def scheme(weight: Tensor, activation: str) -> None:
        follows = activation if nonlinearity == "auto" else nonlinearity
        slope = 0.01 if follows == "leaky_relu" else 0.0
        fill(weight, slope, mode, follows)

    return scheme


def _lecun_normal(weight: Tensor, activation: str) -> None:
    fan_in, _ = nn.init._calculate_fan_in_and_fan_out(weight)
    nn.init.normal_(weight, 0.0, math.sqrt(1 / fan_in))


def _fill(layer: nn.Module, parameter: Tensor, fill: Fill, activation: str) -> None:
    if not isinstance(layer, _RECURRENT) or parameter.ndim < 2:
        fill(parameter, activation)
        return
    for gate in parameter.chunk(max(1, len(parameter) // layer.hidden_size)):  # each a matrix of its own
        fill(gate, "tanh")


def _output_layer(model: nn.Module) -> nn.Module | None:
    layers = [m for m in model.modules() if isinstance(m, LAYERS)]
    return layers[-1] if layers else None


class OwnInit(Init):
    """The user's function, called with the whole model, or with each layer if that changes nothing."""

    def __init__(self, function: Callable[[nn.Module], Any]) -> None:
        super().__init__(None, zero_residual=False)
        self.function = function

    def initialize_layers(self, model: nn.Module) -> None:
        before = [p.detach().clone() for p in model.parameters()]
        for call in (self.function, lambda model: model.apply(self.function)):
            call(model)
            if any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)):
                return
        name = getattr(self.function, "__name__", type(self.function).__name__)
        raise ConfigError.of("init", f"{name} changed no parameter of {type(model).__name__}")


def as_init(init: Any) -> Any:
    """Wrap a function of a model as an init; an Init stays as it is."""
    return OwnInit(init) if callable(init) and not isinstance(init, Init) else init
