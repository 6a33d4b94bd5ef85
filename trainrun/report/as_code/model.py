"""The script's machine and model, with its first weights, and the average of its weights."""

from __future__ import annotations

from torch.nn.modules.dropout import _DropoutNd

from trainrun.assembly.build import Parts, offered_to_model
from trainrun.assembly.initial import is_from_trainrun
from trainrun.config.call import arguments_of
from trainrun.report.as_code.text import Imports, call

_CHANNELS_LAST = """
for kernel in (p for p in model.parameters() if p.ndim == 4):
    kernel.data = kernel.data.to(memory_format=torch.channels_last)"""
_DROPOUT = """
for layer in model.modules():
    if isinstance(layer, {kinds}):
        layer.p = {p}"""
AVERAGE = '''average = copy.deepcopy(model).eval().requires_grad_(False)


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


def machine_section(parts: Parts) -> str:
    """Choose device and threads."""
    runtime, name = parts.runtime, f'"{parts.runtime.device}"'
    if parts.settings["runtime"]["device"] == "auto" and runtime.device.type != "mps":
        name = '"cuda" if torch.cuda.is_available() else "cpu"'
    text = f"device = torch.device({name})"
    text += f"\ntorch.set_num_threads({runtime.threads})" if runtime.threads else ""
    if runtime.device.type == "cuda":
        text += "\ntorch.backends.cudnn.allow_tf32 = False  # float32 in convolutions, in full"
    return text


def model_section(parts: Parts, imports: Imports) -> str:
    """Make the model, and give it the run's initial weights."""
    node, make, model = parts.settings["model"], parts.make, parts.state.model
    arguments = arguments_of(make.callable_of("model"), node, offered_to_model(parts.info, parts.task))
    text = 'torch.manual_seed(derive(SEED, "model"))  # each part draws from (seed, part) alone\n'
    text += call(f"model = {imports.name(node['_target_'])}", arguments)
    if (dropout := (parts.settings["regularization"] or {}).get("dropout")) is not None:
        kinds = sorted({f"torch.nn.{type(m).__name__}" for m in model.modules() if isinstance(m, _DropoutNd)})
        text += _DROPOUT.format(kinds=" | ".join(kinds), p=dropout["p"])
    is_last = parts.runtime.channels_last and any(p.ndim == 4 for p in model.parameters())
    return f"{text}{_init(parts, imports)}\nmodel.to(device){_CHANNELS_LAST if is_last else ''}"


def _init(parts: Parts, imports: Imports) -> str:
    """Lines that initialise; none where the model keeps the weights that it gave itself."""
    node = dict(parts.settings["init"])
    name = node.pop("_target_").rpartition(".")[2]
    keeps = name == "auto" and not is_from_trainrun(parts.state.model, parts.make.callable_of("model"))
    if (keeps or name == "default") and not node["zero_residual"]:
        return ""
    made = call(imports.name(f"trainrun.init.{name}"), node)
    return f'\ntorch.manual_seed(derive(SEED, "init"))\n{made}{".zero_branches" if keeps else ""}(model)'
