"""Random crop and flip, with which every augmentation of pictures starts; wrap data with augmentation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainrun.augment.draws import Draws
from trainrun.augment.geometry import crop_flip
from trainrun.protocols import Batch, BatchSpec, Data, DataInfo, PixelRange, Position, Readable, Stored
from trainrun.vocabulary.duration import Pace
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Fraction, Period, Split

Change = Callable[[Tensor, Draws], Tensor]  # of inputs (N, ...), as the model would take them

_AHEAD = 512 * 3 * 32 * 32  # values that are changed at once, where a batch has fewer


class CropFlip:
    """Random crop and horizontal flip, as torchvision's RandomCrop with padding and RandomHorizontalFlip.

    The crop moves by up to `shift` of the size, black outside the picture; `flip` is the probability of
    mirroring. Raises ConfigError for inputs that are not pictures.
    """

    def __init__(self, shift: Split, flip: Fraction, info: DataInfo) -> None:
        if len(info.input_shape) != 3:
            text = f"changes pictures (channels, height, width), the inputs of {info.name} are"
            raise ConfigError.of("augment", f"{text} {info.input_shape}; use none", "augment=none")
        self.shift, self.flip, self.pixels = shift, flip, info.pixels

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        """Augment pictures x (N, C, H, W), standardised as the model takes them."""
        black = torch.zeros((), device=x.device) if self.pixels is None else self.pixels.black
        return self.change(self.crop(x, black, draws), draws)

    def of_stored(self, x: Tensor, data: Stored, draws: Draws) -> Tensor:
        """Augment stored values, which are scaled behind the crop: to crop bytes costs a quarter."""
        return self.change(data.standardized(self.crop(x, data.stored_black, draws)), draws)

    def crop(self, x: Tensor, black: Tensor, draws: Draws) -> Tensor:
        """A copy of x, cropped and flipped; also of stored values, which are scaled later."""
        height, width = (round(self.shift * size) for size in x.shape[2:])
        down = draws.integers(2 * height + 1) - height
        right = draws.integers(2 * width + 1) - width
        return crop_flip(x, down, right, draws.chance(self.flip), black, (height, width))

    def change(self, x: Tensor, draws: Draws) -> Tensor:
        """What a subclass adds after crop and flip; it may change x."""
        return x


class Colored(CropFlip, ABC):
    """Base for changes of colour: `paint` sees pictures with black as 0 and white as 1."""

    def __init__(self, shift: Split, flip: Fraction, info: DataInfo) -> None:
        super().__init__(shift, flip, info)
        if info.pixels is None or info.input_shape[0] not in (1, 3):
            lacks = "has neither 1 nor 3 channels" if info.pixels else "does not say what black and white are"
            text = f"changes colours, and {info.name} {lacks}; use crop_flip"
            raise ConfigError.of("augment", text, "augment=crop_flip")
        self.range: PixelRange = info.pixels

    def of_stored(self, x: Tensor, data: Stored, draws: Draws) -> Tensor:
        if x.dtype != torch.uint8:
            return super().of_stored(x, data, draws)
        x = self.crop(x, data.stored_black, draws)
        return self._colored(x.to(torch.float32).div_(data.stored_white), draws)

    def change(self, x: Tensor, draws: Draws) -> Tensor:
        black, span = self.range.black, self.range.white - self.range.black
        return self._colored(x.sub_(black).div_(span).clamp_(0, 1), draws)

    def _colored(self, x: Tensor, draws: Draws) -> Tensor:
        return self.paint(x, draws).mul_(self.range.white - self.range.black).add_(self.range.black)

    @abstractmethod
    def paint(self, x: Tensor, draws: Draws) -> Tensor:
        """Change pictures from 0 to 1, in place or not."""


@dataclass(frozen=True)
class Until:
    """The last steps of a run train on samples as they are (Touvron et al., 2019: as they are tested)."""

    until: Period | None  # steps that are augmented; None is all
    pace: Pace

    def __call__(self, position: Position) -> bool:
        """Whether the batch that ends at `position` is augmented."""
        return self.until is None or self.pace.steps_to(position.epoch, position.offset) <= self.until


def augmented(data: Data, change: Change | None, until: Until | None = None) -> Data:
    """Data whose training samples are augmented, each by its own draws, on the device that trains."""
    return data if change is None else _Augmented(data, change, until)


def unaugmented(data: Data) -> Data:
    """The data that `augmented` was given."""
    return data.data if isinstance(data, _Augmented) else data


class _Augmented:
    def __init__(self, data: Data, change: Change, until: Until | None) -> None:
        self.data, self.change, self.until = data, change, until
        self.info, self.to = data.info, data.to
        self.eval_batches, self.fitted, self.restore = data.eval_batches, data.fitted, data.restore
        if isinstance(data, Readable):
            self.read = data.read

    def train_batches(self, position: Position, batch_spec: BatchSpec, seed: int) -> Iterator[Batch]:
        if isinstance(self.data, Stored) and isinstance(self.change, CropFlip):
            batches = self.data.stored_batches(position, batch_spec, seed)
            yield from self._ahead(batches, self.data, self.change, seed)
            return
        for batch in self.data.train_batches(position, batch_spec, seed):
            if self._is_changed(batch):
                batch = replace(batch, inputs=self.change(batch.inputs, _draws(seed, [batch])))
            yield batch

    def _ahead(self, batches: Iterator[Batch], data: Stored, change: CropFlip, seed: int) -> Iterator[Batch]:
        """Change several batches of an epoch at once: samples draw alone, and of many each costs less."""
        most, group = _AHEAD // math.prod(self.info.input_shape), list[Batch]()
        for batch in batches:
            is_changed = self._is_changed(batch)
            if is_changed:
                group.append(batch)
            if group and (not is_changed or batch.ends_epoch or sum(map(len, group)) >= most):
                inputs = torch.cat([batch.inputs for batch in group])
                inputs = change.of_stored(inputs, data, _draws(seed, group))
                for each, part in zip(group, inputs.split([len(batch) for batch in group]), strict=True):
                    yield replace(each, inputs=part)
                group = []
            if not is_changed:
                yield replace(batch, inputs=data.standardized(batch.inputs))

    def _is_changed(self, batch: Batch) -> bool:
        return len(batch) > 0 and (self.until is None or self.until(batch.position))


def _draws(seed: int, batches: Sequence[Batch]) -> Draws:
    """Those of the samples of batches of one epoch."""
    epoch = batches[0].position.epoch - batches[0].ends_epoch  # its end is the next one's start
    indices = torch.cat([torch.as_tensor(batch.indices) for batch in batches])
    return Draws(seed, epoch, indices, batches[0].inputs.device)
