"""The script's loss, and its evaluation: mean loss and metric over a split, every sample counted once."""

from __future__ import annotations

from trainrun.assembly.build import Parts
from trainrun.report.as_code.refusals import problem
from trainrun.report.as_code.text import Section
from trainrun.vocabulary.errors import ConfigError

_FUNCTIONS = {
    "CrossEntropy": "F.cross_entropy",
    "BCEWithLogits": "F.binary_cross_entropy_with_logits",
    "MSE": "F.mse_loss",
    "L1": "F.l1_loss",
    "Huber": "F.huber_loss",
    "SmoothL1": "F.smooth_l1_loss",
}
# Of each task: its metric, the sum that it is made of, and that sum over a batch.
_METRICS = {
    "Classification": ("accuracy", "correct", "(outputs.argmax(1) == targets).sum()"),
    "Binary": ("accuracy", "correct", "((outputs > 0) == (targets > 0.5)).sum()"),
    "Regression": ("rmse", "squared", "(outputs - targets).square().sum(0)"),
}


def metric_of(parts: Parts) -> str:
    """The name of the metric that the script computes beside the loss."""
    return _METRICS[type(parts.task).__name__][0]


def loss_call(parts: Parts, outputs: str, reduction: str = "", smoothing: float | None = None) -> str:
    """The call of torch's loss; without `reduction` its mean over samples."""
    node = parts.settings["loss"]
    name = node["_target_"].rpartition(".")[2]
    words = [outputs, "targets"]
    words += [f"{key}={node[key]!r}" for key in ("delta", "beta") if key in node]
    if (weight := node.get("pos_weight")) is not None:
        if isinstance(weight, str):
            raise ConfigError([problem(f"loss.pos_weight={weight}")])
        words.append(f"pos_weight=torch.tensor({weight!r}, device=device)")
    words += [f"label_smoothing={smoothing!r}"] if smoothing is not None else []
    words += [f'reduction="{reduction}"'] if reduction else []
    return f"{_FUNCTIONS[name]}({', '.join(words)})"


def per_sample(parts: Parts) -> str:
    """What a sum over outputs is divided by beside the number of samples."""
    count = parts.task.num_outputs
    is_mean = not parts.settings["loss"]["_target_"].endswith(".CrossEntropy") and count > 1
    return f" * {count}" if is_mean else ""


def evaluate_section(parts: Parts) -> Section:
    """The function that evaluates."""
    metric, total, batch_sum = _METRICS[type(parts.task).__name__]
    size = parts.settings["data"]["eval_batch_size"]
    lines = ["@torch.inference_mode()"]
    if parts.state.precision.dtype is not None:
        lines.append(f"@torch.autocast(device.type, {parts.state.precision.dtype})")
    lines.append("def evaluate(net: nn.Module, rows: Tensor) -> tuple[float, float]:")
    lines.append(f'    """Mean loss and {metric} over all of a split: no mean of the means of its batches."""')
    lines.append("    net.eval()  # no dropout, and batch norm by its running statistics")
    lines.append(f"    loss = {total} = 0.0")
    lines.append(f"    for part in rows.split({size}):")
    lines += ["        inputs, targets = batch(part)", "        outputs = net(inputs)"]
    lines.append(f"        loss += {loss_call(parts, 'outputs', 'sum')}.item()")
    item = "" if metric == "rmse" else ".item()"
    lines.append(f"        {total} += {batch_sum}{item}")
    count = f"(len(rows){each})" if (each := per_sample(parts)) else "len(rows)"
    value = f"{total} / len(rows)"
    if metric == "rmse":
        own_units = " * std" if parts.settings["task"]["standardize"] else ""
        value = f"(({value}).sqrt(){own_units}).mean().item()"
    lines.append(f"    return loss / {count}, {value}")
    return Section("\n".join(lines))
