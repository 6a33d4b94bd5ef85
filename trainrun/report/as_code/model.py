"""The script's model with its first weights, and the average of its weights where the run keeps one."""

from __future__ import annotations

from torch.nn.modules.dropout import _DropoutNd

from trainrun.assembly.build import Parts, offered_to_model
from trainrun.assembly.initial import is_from_trainrun
from trainrun.config.call import arguments_of
from trainrun.report.as_code.text import Imports, Section, call

_AVERAGE = '''average = copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def update_average(updates: int) -> None:
    """Move the average of the weights towards them.

    Faster at first, so that the random weights of the beginning are soon forgotten.
    """
    decay = min(EMA_DECAY, (1 + updates) / (10 + updates))
    ours = [*average.parameters(), *average.buffers()]
    theirs = [*model.parameters(), *model.buffers()]
    for mean, value in zip(ours, theirs, strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:  # batch norm's count of batches
            mean.copy_(value)'''


def model_section(parts: Parts, imports: Imports) -> Section:
    """Make the model and give it the run's initial weights."""
    node, make = parts.settings["model"], parts.make
    arguments = arguments_of(make.callable_of("model"), node, offered_to_model(parts.info, parts.task))
    lines = ["# Each part draws from (seed, part) alone, whatever was drawn before it."]
    lines += ['torch.manual_seed(derive(SEED, "model"))']
    lines.append(call(imports.name(node["_target_"]), arguments, before="model = "))
    lines += _dropout(parts)
    lines += _init(parts, imports)
    is_image = any(p.ndim == 4 for p in parts.state.model.parameters())
    if parts.runtime.channels_last and is_image:
        lines.append("# In the memory order that convolutions like.")
        lines.append("model = model.to(device, memory_format=torch.channels_last)")
    else:
        lines.append("model = model.to(device)")
    return Section("\n".join(lines))


def average_section(decay: float) -> Section:
    """The exponential moving average, a copy that is evaluated in the model's place."""
    return Section(_AVERAGE, (f"EMA_DECAY = {decay!r}  # share of the average that stays",))


def _dropout(parts: Parts) -> list[str]:
    """Lines that set the rate of every dropout layer, where the run does."""
    regularizer = (parts.settings["regularization"] or {}).get("dropout")
    if regularizer is None:
        return []
    kinds = sorted({type(m).__name__ for m in parts.state.model.modules() if isinstance(m, _DropoutNd)})
    names = [f"nn.{kind}" for kind in kinds]
    kind = names[0] if len(names) == 1 else f"({', '.join(names)})"
    loop = f"for layer in model.modules():\n    if isinstance(layer, {kind}):"
    return [loop, f"        layer.p = {regularizer['p']!r}"]


def _init(parts: Parts, imports: Imports) -> list[str]:
    """Lines that initialise; none where the model keeps the weights that it gave itself."""
    node, model = dict(parts.settings["init"]), parts.state.model
    name = node.pop("_target_").rpartition(".")[2]
    keeps = name == "auto" and not is_from_trainrun(model, parts.make.callable_of("model"))
    if (keeps or name == "default") and not node["zero_residual"]:
        return []
    made = call(imports.name(f"trainrun.init.{name}"), node)
    seed = 'torch.manual_seed(derive(SEED, "init"))'
    return [seed, f"{made}.zero_branches(model)" if keeps else f"{made}(model)"]


def machine_section(parts: Parts) -> Section:
    """Device and threads."""
    runtime, lines = parts.runtime, list[str]()
    kind = runtime.device.type
    if parts.settings["runtime"]["device"] == "auto" and kind != "mps":
        lines.append('device = torch.device("cuda" if torch.cuda.is_available() else "cpu")')
    else:
        lines.append(f'device = torch.device("{runtime.device}")')
    if kind == "cpu" and (runtime.threads or runtime.num_threads == 1):
        why = "" if runtime.threads else "  # layers this small only lose time with more"
        lines.append(f"torch.set_num_threads({runtime.num_threads}){why}")
    if runtime.deterministic:
        lines.append("torch.use_deterministic_algorithms(True)")
    if kind == "cuda" and parts.state.precision.name != "tf32":
        lines.append("torch.backends.cudnn.allow_tf32 = False  # float32 in convolutions, in full")
    if parts.state.precision.name == "tf32":
        lines.append('torch.set_float32_matmul_precision("high")  # TF32')
    return Section("\n".join(lines))

