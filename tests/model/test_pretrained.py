"""Pretrained weights: the preprocessing that torchvision and timm state, and their files from the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainrun.data.imagefolder import imagefolder
from trainrun.model.pretrained import download, preprocessing_of
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError, DataError

VALUES: dict[str, Any] = {"val_fraction": 0.0, "test_fraction": 0.0, "split_seed": 0, "fold": None}
VALUES |= {"num_folds": 5, "limit": None, "eval_batch_size": 4, "num_workers": 0}


def node(name: str, preprocessing: str | None = "auto", library: str = "torchvision") -> dict[str, Any]:
    target = f"trainrun.model.{library}.{library}"
    return {"_target_": target, "name": name, "preprocessing": preprocessing}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for label, (width, height) in {"cat": (300, 260), "dog": (240, 250)}.items():
        (tmp_path / "photos" / label).mkdir(parents=True)
        pixels = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / label / "a.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("memory_mib", [100, 0], ids=["in memory", "lazily"])
@pytest.mark.parametrize(("name", "weights"), [("resnet18", "IMAGENET1K_V1"), ("vit_b_16", "DEFAULT")])
def test_pictures_are_what_torchvisions_own_transforms_make_of_them(
    photos: Path, memory_mib: int, name: str, weights: str
) -> None:
    preprocessing = preprocessing_of(node(name, weights), None)
    data = imagefolder(str(photos), "auto", "auto", preprocessing, memory_mib, **VALUES)
    transform = import_torchvision("torchvision.models").get_model_weights(name)[weights].transforms()
    files = sorted(photos.glob("*/*.png"))
    expected = torch.stack([transform(Image.open(file)) for file in files])
    (batch,) = data.eval_batches("train")
    assert torch.equal(batch.targets, torch.tensor([0, 1]))
    torch.testing.assert_close(batch.inputs, expected, rtol=0, atol=1e-5)


def test_pictures_are_what_timms_own_transforms_make_of_them(photos: Path) -> None:
    timm = pytest.importorskip("timm", reason="needs the extra: pip install 'trainrun[models]'")
    preprocessing = preprocessing_of(node("vit_tiny_patch16_224", "DEFAULT", "timm"), None)
    data = imagefolder(str(photos), "auto", "auto", preprocessing, 100, **VALUES)
    cfg = timm.get_pretrained_cfg("vit_tiny_patch16_224").to_dict()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=cfg))
    expected = torch.stack(
        [transform(Image.open(file).convert("RGB")) for file in sorted(photos.glob("*/*"))]
    )
    (batch,) = data.eval_batches("train")
    torch.testing.assert_close(batch.inputs, expected, rtol=0, atol=1e-5)


def test_another_size_keeps_the_margin_and_own_values_win(photos: Path) -> None:
    preprocessing = preprocessing_of(node("resnet18", "IMAGENET1K_V1"), None)
    data = imagefolder(str(photos), 112, (0.5, [0.1, 0.2, 0.4]), preprocessing, 100, **VALUES)
    assert data.info.input_shape == (3, 112, 112)
    whole = Image.open(photos / "dog" / "a.png").resize((128, 250 * 128 // 240), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(whole)).permute(2, 0, 1)[:, 10:122, 8:120].float() / 255
    expected = (pixels - 0.5) / torch.tensor([0.1, 0.2, 0.4]).view(3, 1, 1)
    (batch,) = data.eval_batches("train")
    torch.testing.assert_close(batch.inputs[1], expected, rtol=0, atol=1e-4)


def test_auto_is_the_librarys_own_weights_and_nothing_else() -> None:
    theirs = preprocessing_of(node("resnet18"), "pretrained")
    assert theirs is not None and theirs.source == "ResNet18_Weights.IMAGENET1K_V1"
    assert preprocessing_of(node("resnet18"), "somewhere/resnet18-f37072fd.pth") == theirs
    assert preprocessing_of(node("resnet18"), "mine.pt") is None
    assert preprocessing_of(node("resnet18"), None) is None
    assert preprocessing_of(node("resnet18", None), "pretrained") is None
    assert preprocessing_of({"_target_": "my.Net"}, "pretrained") is None


def test_weights_that_do_not_exist_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"model\.preprocessing: resnet18 has no weights 'V3'"):
        preprocessing_of(node("resnet18", "V3"), None)
    with pytest.raises(ConfigError, match=r"model\.name: torchvision has no model 'resnet81'"):
        preprocessing_of(node("resnet81", "DEFAULT"), None)
    with pytest.raises(ConfigError, match="model must be torchvision or timm"):
        download({"_target_": "trainrun.model.cnn.CNN"})


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """torch's cache of downloads, empty."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


def test_the_librarys_file_is_taken_from_its_cache(cache: Path) -> None:
    model = import_torchvision("torchvision.models").squeezenet1_1()
    cache.mkdir(parents=True)
    torch.save(model.state_dict(), cache / "squeezenet1_1-b8a52dc0.pth")
    description, tensors = download(node("squeezenet1_1"))
    assert description == "torchvision's SqueezeNet1_1_Weights.IMAGENET1K_V1"
    assert all(torch.equal(tensors[name], value) for name, value in model.state_dict().items())


def test_a_file_that_cannot_be_fetched_is_an_error_in_words(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(DataError, match=r"init_from: cannot fetch .* no route to host; .* init_from=FILE"):
        download(node("squeezenet1_1"))
