"""`trainrun export RUN PATH`: a stored run's model for other programs, checked after writing."""

from __future__ import annotations

from pathlib import Path

from trainrun.cli.stored_run import load_named_run, parsed, parser_of
from trainrun.session.export import PORTABLE, about_run, inputs_of
from trainrun.session.load_run import LoadedRun
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError


def run(words: list[str]) -> int:
    """Write the file, and tell on stderr what it expects and how its outputs compare."""
    about = "Write a stored run's model: .safetensors weights, .pt2 torch.export, .onnx; the suffix decides."
    parser = parser_of("export", about)
    parser.add_argument("path", metavar="PATH", nargs="?", type=Path, help="such as model.onnx; written over")
    arguments = parsed(parser, words)
    if arguments.path is None:
        raise ConfigError.of("PATH", "name the file to write, such as model.safetensors")
    from trainrun.session.export import check_path, export

    path: Path = arguments.path.expanduser()
    check_path(path)
    loaded = load_named_run(arguments, PORTABLE)
    metadata, inputs = about_run(loaded), inputs_of(loaded)
    shape = ", ".join(map(str, metadata["input"]["shape"]))
    expects = f"{str(inputs.dtype).removeprefix('torch.')} ({shape}): {metadata['input']['expects']}"
    loaded.introduce()
    for label, line in {"input": expects, **_values(loaded), "output": metadata["output"]}.items():
        say(f"  {label:<10} {line}")
    compared = export(loaded.parts.state.model, inputs, path, metadata)
    same = f"on {compared.num_samples} samples the largest difference is {compared.difference:.3g}"
    say(f"  {'compared':<10} {same}, of outputs up to {compared.largest:.3g}")
    say(f"{path.stat().st_size:,} bytes: {path}")
    return 0


def _values(loaded: LoadedRun) -> dict[str, str]:
    """What inputs are scaled by and what classes are called, where that is short."""
    fitted, names = loaded.parts.data.fitted(), ", ".join(loaded.parts.info.class_names)
    values = {}
    if "shift" in fitted and "features" not in fitted:
        scaling = [fitted[name].flatten().tolist() for name in ("shift", "scale")]
        shift, scale = (", ".join(f"{value:.7g}" for value in numbers) for numbers in scaling)
        many = f"{len(scaling[0])} values each of shift and scale, in the file's metadata"
        values["scaling"] = f"shift {shift}, scale {scale}" if len(scaling[0]) <= 4 else many
    return values | ({"classes": names if len(names) <= 80 else f"{names[:77]}..."} if names else {})
