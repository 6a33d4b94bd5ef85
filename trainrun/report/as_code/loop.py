"""The script's loss, evaluation and loop: forward and backward, clip, update, keep the best weights."""

from __future__ import annotations

import re
import textwrap

from trainrun.assembly.build import Parts
from trainrun.assembly.initial import is_from_trainrun
from trainrun.report.as_code.data import read
from trainrun.report.as_code.optimizer import rate_lines
from trainrun.report.as_code.refusals import refusal
from trainrun.report.as_code.text import call

_LOSSES = {"CrossEntropy": "CrossEntropyLoss", "BCEWithLogits": "BCEWithLogitsLoss", "MSE": "MSELoss"}
_LOSSES |= {"L1": "L1Loss", "Huber": "HuberLoss", "SmoothL1": "SmoothL1Loss"}
_METRICS = {  # of each task
    "Classification": ("accuracy", "(outputs.argmax(1) == {}).float().mean()"),
    "Binary": ("accuracy", "((outputs > 0) == ({} > 0.5)).float().mean()"),
    "Regression": ("rmse", "((outputs - {}).square().mean(0).sqrt(){}).mean()"),
}
_EVALUATE = """@torch.inference_mode()
def evaluate(rows: torch.Tensor) -> tuple[float, float]:
    {net}.eval()  # no dropout, and batch norm by its running statistics
{read}    outputs = torch.cat([{net}(part) for part in {inputs}.split({size})])
    {metric} = {value}
    return criterion(outputs, {targets}).item(), {metric}.item()"""
_LOOP = """for step in range(STEPS):
    epoch, index = divmod(step, math.ceil(len(train) / {window}))
    if index == 0:  # of (seed, epoch) alone; the last part may be short
        order = epoch_order(train, SEED, epoch, classes=None).split({window})
{rates}    model.train()
    optimizer.zero_grad()
"""
_STEP = """{read}{draw}    loss = {criterion}(model({inputs}), {targets})
    loss.backward()
"""
_STEPS = """    for micro, rows in enumerate(order[index].split(BATCH_SIZE)):
{read}{draw}        loss = {criterion}(model({inputs}), {targets})
        (loss * len(rows) / len(order[index])).backward()  # a mean over the whole step
"""
_VALIDATE = """    if (step + 1) % EVAL_EVERY == 0 or step + 1 == STEPS:
        val_loss, {metric} = evaluate(val)
        print(f"step {{step + 1}}: val loss {{val_loss:.4f}}, {metric} {{{metric}:.4f}}")
        if (score := {score}) {sign} best:{why}
            best = score
            torch.save({net}.state_dict(), "best.pt")
"""
_TEST = """
print("test: loss {{:.4f}}, {metric} {{:.4f}}".format(*evaluate(test)))"""


def evaluate_section(parts: Parts) -> str:
    """The loss, a mean over samples, and the function that evaluates."""
    node, (metric, value) = parts.settings["loss"], _METRICS[type(parts.task).__name__]
    begin = f"torch.nn.{_LOSSES[node['_target_'].rpartition('.')[2]]}"
    text = call(f"criterion = {begin}", {key: node[key] for key in ("delta", "beta") if key in node}) + "\n"
    regularizers, is_entropy = parts.settings["regularization"] or {}, begin.endswith("CrossEntropyLoss")
    if parts.task.num_outputs > 1 and not is_entropy:
        raise refusal("a loss over several outputs")
    if (smoothing := regularizers.get("label_smoothing")) is not None:
        if not is_entropy:
            raise refusal("regularization=label_smoothing without loss=cross_entropy")
        text += call(f"smoothed = {begin}", {"label_smoothing": smoothing["amount"]}) + "\n"
    line, inputs, targets = read(parts, "rows", "0")
    own_units = " * std" if parts.settings["task"].get("standardize") else ""
    names = {"metric": metric, "net": _net(parts), "inputs": inputs, "targets": targets}
    names |= {"read": textwrap.indent(line, "    "), "value": value.format(targets, own_units)}
    evaluation = _EVALUATE.format(size=parts.settings["data"].get("eval_batch_size", 256), **names)
    if (dtype := parts.state.precision.dtype) is not None:
        evaluation = f"@torch.autocast(device.type, {dtype})\n{evaluation}"
    return f"{text}\n\n{evaluation}"


def loop_section(parts: Parts) -> str:
    """Train, evaluating on the way, and evaluate the best weights at the end."""
    monitor, (metric, _), net = parts.monitor, _METRICS[type(parts.task).__name__], _net(parts)
    regularizers, is_cut = parts.settings["regularization"] or {}, parts.batch_spec.accumulate > 1
    criterion = "smoothed" if "label_smoothing" in regularizers else "criterion"
    rates = textwrap.indent("".join(f"{line}\n" for line in rate_lines(parts)), "    ")
    window = "WINDOW" if is_cut else "BATCH_SIZE"
    line, inputs, targets = read(parts, "rows" if is_cut else "order[index]", "derive(SEED, epoch)")
    draw = (
        f"torch.manual_seed(stream(SEED, step{' * ACCUMULATE + micro' if is_cut else ''}))  # for dropout\n"
    )
    draw, line = (textwrap.indent(text, "        " if is_cut else "    ") for text in (draw, line))
    names = {"criterion": criterion, "inputs": inputs, "targets": targets, "read": line}
    step = (_STEPS if is_cut else _STEP).format(draw=draw if _draws(parts) else "", **names)
    text = _LOOP.format(window=window, rates=rates)
    if (dtype := parts.state.precision.dtype) is not None:
        under = rf"\1with torch.autocast(device.type, {dtype}):\n\1    \2"
        step = re.sub(r"^( *)(loss = .*)$", under, step, flags=re.M)
    if (norm := parts.settings["loop"]["clip"]["norm"]) is not None:
        step += f"    torch.nn.utils.clip_grad_norm_(model.parameters(), {norm!r})\n"
    text += f"{step}    optimizer.step()\n" + ("    update_average(step + 1)\n" if net == "average" else "")
    end = 'torch.save(model.state_dict(), "last.pt")'
    if monitor is not None:
        if monitor.name not in ("loss", metric):
            raise refusal(f"monitor=val/{monitor.name}")
        sign, minus = (">", "-") if monitor.maximize else ("<", "")
        score, worst, why = "val_loss", f"{minus}math.inf", ""
        if monitor.name != "loss":
            score, worst = f"({metric}, {minus}val_loss)", f"{worst}, {worst}"
            why = "  # of equal ones the lower loss"
        text += _VALIDATE.format(metric=metric, net=net, score=score, sign=sign, why=why)
        text = f"best = {worst}\n{text}"
        end += f'\n{net}.load_state_dict(torch.load("best.pt"))'
    return text + end + (_TEST.format(metric=metric) if parts.info.sizes.get("test") else "")


def _draws(parts: Parts) -> bool:
    """Whether a forward pass of training may draw: dropout, or what a model of the user's does."""
    model, maker = parts.state.model, parts.make.callable_of("model")
    return any(getattr(m, "p", 0) for m in model.modules()) or not is_from_trainrun(model, maker)


def _net(parts: Parts) -> str:
    """Which weights are evaluated."""
    return "average" if "ema" in (parts.settings["regularization"] or {}) else "model"
