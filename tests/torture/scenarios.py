"""The runs that are tortured: a few dozen steps each, together every kind of state there is."""

from __future__ import annotations

# 83 samples: 59 to train on, so that an epoch ends with a short micro-batch in a short window.
SHORT = ("data=waves", "model=net", "budget=4ep", "batch_size=4", "runtime.threads=1", "logger=none")
CADENCE = ("loop.log_every=3step", "loop.eval_every=7step", "checkpoint.every=5step")
BASE = (*SHORT, *CADENCE)

SCENARIOS: dict[str, tuple[str, ...]] = {
    "tiny": (
        *SHORT,
        "budget=12step",
        "checkpoint.every=4step",
        "checkpoint.keep_best=0",
        "loop.eval_every=6step",
    ),
    "dropout, batch norm, transforms": BASE,
    "two workers": (*BASE, "data.num_workers=2", "loop.eval_every=1ep", "budget=3ep"),
    "accumulation, clipping": (*BASE, "loop.accumulate=4", "optimizer=momentum", "loop.clip.norm=0.5"),
    "average": (*BASE, "regularization=[ema,label_smoothing]", "scheduler=one_cycle"),
    "mixtures, augmentation": (
        *(*BASE, "data=digits", "data.limit=70", "augment=trivialaugment", "loop.accumulate=2"),
        "regularization=[mixup,cutmix,label_smoothing,ema,early_stopping]",
    ),
    "late average": (*BASE, "regularization=swa", "regularization.swa.every=3step", "scheduler=constant"),
    "average of the optimizer": (*BASE, "optimizer=schedule_free", "budget=3ep"),
    "two optimizers": (*BASE, "optimizer=muon", "parameters.layer_decay=0.7"),
    "two gradients": (*BASE, "optimizer=sam", "loop.clip.agc=0.1"),
    "text": (
        *(*BASE, "data=text", "data.path=parts.py", "data.block_size=16", "data.limit=50"),
        *("model=gpt", "model.width=16", "model.depth=1", "model.heads=2", "model.dropout=0.1"),
    ),
    "early stopping": (
        *(*BASE, "budget=40ep", "regularization=[early_stopping,ema]", "monitor=val/loss"),
        *("regularization.early_stopping.patience=3", "optimizer.lr=0.2"),
    ),
    "plateau": (*BASE, "scheduler=plateau", "scheduler.patience=0", "scheduler.threshold=0.05"),
    "bf16": (*BASE, "precision=bf16", "optimizer=nadam", "loop.accumulate=2"),
    "fp16 that skips": (
        *(*BASE, "precision=fp16", "precision.init_scale=1e7", "precision.growth_interval=3"),
        "optimizer=rmsprop",
    ),
    "l-bfgs": (
        *(*BASE, "optimizer=lbfgs", "optimizer.max_iter=3", "batch_size=full", "budget=30step"),
        *("model.dropout=0", "optimizer.lr=0.5", "scheduler=constant"),
    ),
    "in memory, all loggers": (
        *(
            *BASE,
            "data=digits",
            "data.limit=70",
            "logger=[console,tensorboard,csv]",
            "checkpoint.keep_last=1",
        ),
        "checkpoint.keep_every=20step",
    ),
}
