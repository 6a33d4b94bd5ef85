"""The script's loss, evaluation and loop: forward and backward, clip, update, keep the best weights."""

from __future__ import annotations

import re

from trainrun.assembly.build import Parts
from trainrun.report.as_code.refusals import refusal
from trainrun.report.as_code.text import call

_LOSSES = {"CrossEntropy": "CrossEntropyLoss", "BCEWithLogits": "BCEWithLogitsLoss", "MSE": "MSELoss"}
_LOSSES |= {"L1": "L1Loss", "Huber": "HuberLoss", "SmoothL1": "SmoothL1Loss"}
_METRICS = {  # of each task, with the sum over a batch that it is made of
    "Classification": ("accuracy", "(outputs.argmax(1) == targets).sum()"),
    "Binary": ("accuracy", "((outputs > 0) == (targets > 0.5)).sum()"),
    "Regression": ("rmse", "(outputs - targets).square().sum(0)"),
}
_EVALUATE = '''@torch.inference_mode()
def evaluate(net: nn.Module, rows: Tensor) -> tuple[float, float]:
    """Mean loss and {metric} over a split: no mean of the means of its batches."""
    net.eval()  # no dropout, and batch norm by its running statistics
    loss = total = torch.zeros((), device=device)
    for part in rows.split({size}):
        inputs, targets = batch(part)
        outputs = net(inputs)
        loss = loss + criterion(outputs, targets)
        total = total + {batch_sum}
    return (loss / len(rows)).item(), {value}.item()'''
_UPDATE = """for update, window in enumerate(itertools.islice(windows(), STEPS)):
    model.train()  # evaluation has turned dropout off
    for group in optimizer.param_groups:
        group["lr"] = LR * lr_factor(update)
    optimizer.zero_grad()
    # Known before the first backward: a short window is the mean over what it holds.
    count = sum(len(rows) for rows in window)
    for micro, rows in enumerate(window):
        inputs, targets = batch(rows)
        # Dropout draws from (seed, micro-batch), whatever ran before.
        torch.manual_seed(stream(SEED, update * ACCUMULATE + micro))
        loss = {criterion}(model(inputs), targets) / count
        loss.backward()
    # Also stops at a gradient that is not finite, before it reaches the weights.
    nn.utils.clip_grad_norm_(model.parameters(), {norm}, error_if_nonfinite=True)
    optimizer.step()"""
_VALIDATE = """
    if (update + 1) % EVAL_EVERY == 0 or update + 1 == STEPS:
        val_loss, {metric} = evaluate({net}, val)
        print(f"step {{update + 1}}: val loss {{val_loss:.4f}}, {metric} {{{metric}:.4f}}")
        score = {score}
        if score {sign} best:
            best = score
            torch.save({net}.state_dict(), "best.pt")
"""
_TEST = """
# Nothing was chosen on the test split, so its figure is an honest one.
test_loss, {metric} = evaluate(model, test)
print(f"test: loss {{test_loss:.4f}}, {metric} {{{metric}:.4f}}")"""


def evaluate_section(parts: Parts) -> str:
    """The loss, a sum over samples, and the function that evaluates."""
    metric, batch_sum = _METRICS[type(parts.task).__name__]
    node = parts.settings["loss"]
    begin = f"nn.{_LOSSES[node['_target_'].rpartition('.')[2]]}"
    values = {key: node[key] for key in ("delta", "beta") if key in node}
    text = call(f"criterion = {begin}", values | {"reduction": "sum"}) + "\n"
    is_entropy = begin.endswith("CrossEntropyLoss")
    if parts.task.num_outputs > 1 and not is_entropy:
        raise refusal("a loss over several outputs")
    if (smoothing := (parts.settings["regularization"] or {}).get("label_smoothing")) is not None:
        if not is_entropy:
            raise refusal("regularization=label_smoothing without loss=cross_entropy")
        smooth = {"label_smoothing": smoothing["amount"], "reduction": "sum"}
        text += call(f"smoothed = {begin}", smooth) + "\n"
    value = "(total / len(rows))"
    if metric == "rmse":
        own_units = " * std" if parts.settings["task"]["standardize"] else ""
        value = f"({value}.sqrt(){own_units}).mean()"
    names = {"metric": metric, "batch_sum": batch_sum, "value": value}
    evaluation = _EVALUATE.format(size=parts.settings["data"]["eval_batch_size"], **names)
    if (dtype := parts.state.precision.dtype) is not None:
        evaluation = f"@torch.autocast(device.type, {dtype})\n{evaluation}"
    return f"{text}\n\n{evaluation}"


def loop_section(parts: Parts) -> str:
    """Train, evaluating on the way, and evaluate the best weights at the end."""
    monitor, (metric, _) = parts.monitor, _METRICS[type(parts.task).__name__]
    clip, dtype = parts.settings["loop"]["clip"]["norm"], parts.state.precision.dtype
    regularizers = parts.settings["regularization"] or {}
    criterion = "smoothed" if "label_smoothing" in regularizers else "criterion"
    text = _UPDATE.format(criterion=criterion, norm="math.inf" if clip is None else repr(clip))
    if dtype is not None:
        under = rf"\1with torch.autocast(device.type, {dtype}):\n\1    \2"
        text = re.sub(r"^( *)(loss = .*)$", under, text, flags=re.M)
    net = "average" if "ema" in regularizers else "model"
    text += "\n    update_average(update + 1)" if "ema" in regularizers else ""
    end = '\ntorch.save(model.state_dict(), "last.pt")'
    if monitor is not None:
        if monitor.name not in ("loss", metric):
            raise refusal(f"monitor=val/{monitor.name}")
        sign, minus = (">", "-") if monitor.maximize else ("<", "")
        score, worst = f"{metric}, {minus}val_loss  # of equal ones the lower loss", f"{minus}math.inf"
        score, worst = ("val_loss", worst) if monitor.name == "loss" else (score, f"{worst}, {worst}")
        text += _VALIDATE.format(metric=metric, net=net, score=score, sign=sign)
        text = f"best = {worst}\n{text}"
        end += '\nmodel.load_state_dict(torch.load("best.pt"))'
    return text + end + (_TEST.format(metric=metric) if parts.info.sizes.get("test") else "")
