"""What probes return, sorted into numbers, pictures (PNG), texts and tables, which any logger can take."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from trainrun.task.own_metrics import TAKEN, curves
from trainrun.vocabulary.events import Picture, Probed

_KINDS = "a number, a picture, a text or a table (a list of dicts)"


@dataclass
class ProbeResults:
    """Collects what the probes of one evaluation return, by name."""

    numbers: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, returned: Any) -> None:
        """Sort what one probe returned. Raises ValueError for what has no kind, or a name twice."""
        if not isinstance(returned, Mapping):
            got = "None; does it lack a return?" if returned is None else type(returned).__name__
            raise ValueError(f"must return a dict such as {{'spread': 0.5}}, got {got}")
        for name, value in returned.items():
            if not isinstance(name, str) or not name.strip() or name in TAKEN:
                reason = "the run records itself" if name in TAKEN else "is no text"
                raise ValueError(f"returns an entry called {name!r}, which {reason}; rename it")
            try:
                self._add(name, value)
            except Exception as error:
                reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                raise ValueError(f"{name!r} must be {_KINDS}; it {reason}") from error

    def event(self, step: int) -> Probed:
        """Everything so far as the event of one evaluation."""
        return Probed(step=step, **vars(self))

    def _add(self, name: str, value: Any) -> None:
        if name in (*self.numbers, *self.pictures, *self.texts, *self.tables):
            raise ValueError("is the name of another result already; rename one")
        if isinstance(value, str):
            self.texts[name] = value
        elif is_picture(value):
            self.pictures[name] = picture_of(value)
        elif isinstance(value, (list, tuple)) and all(isinstance(row, Mapping) for row in value):
            self.tables[name] = [{str(key): _plain(cell) for key, cell in row.items()} for row in value]
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                self._add(f"{name}/{key}", inner)
        else:
            self.numbers |= curves(name, value, (), 0)


def is_picture(value: Any) -> bool:
    """Whether a value is a figure of matplotlib's, a picture of Pillow's, or an array of pixels."""
    is_array = isinstance(value, (Tensor, np.ndarray)) and value.ndim >= 2
    return is_array or hasattr(value, "savefig") or hasattr(value, "getbands")


def picture_of(value: Any) -> Picture:
    """A picture as PNG, and its (width, height). Raises ValueError for an array that is none."""
    from PIL import Image

    file = io.BytesIO()
    if hasattr(value, "savefig"):
        value.savefig(file, format="png")
        if pyplot := sys.modules.get("matplotlib.pyplot"):
            pyplot.close(value)  # which otherwise keeps it for as long as the process lives
        return file.getvalue(), Image.open(file).size
    image = value.convert("RGB") if hasattr(value, "getbands") else Image.fromarray(_pixels(value))
    image.save(file, "PNG")
    return file.getvalue(), image.size


def _pixels(value: Any) -> np.ndarray:
    """Pixels (H, W, 3) or (H, W) as bytes: uint8 as they are, floats from 0 to 1, cut off outside."""
    if isinstance(value, Tensor):
        tensor = value.detach().cpu()
        value = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    if value.ndim == 3 and value.shape[0] in (1, 3):
        value = value.transpose(1, 2, 0)
    if value.ndim == 3 and value.shape[2] == 1:
        value = value[:, :, 0]
    if value.ndim not in (2, 3) or value.shape[2:] not in ((), (3,)) or 0 in value.shape:
        raise ValueError(f"has the shape {value.shape}; a picture is (3, H, W), (H, W, 3) or (H, W)")
    if value.dtype.kind == "f":
        value = (np.nan_to_num(value).clip(0, 1) * 255).round()
    elif value.dtype == bool:
        value = value * 255
    elif value.dtype != np.uint8:
        raise ValueError(f"holds {value.dtype}; pixels are uint8 (0 to 255) or floats (0 to 1)")
    return np.ascontiguousarray(value.astype(np.uint8))


def _plain(value: Any) -> Any:
    """A table's cell as a number, a truth value or text."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)) and np.prod(value.shape) == 1:
        value = value.item()
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)
