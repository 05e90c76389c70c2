"""genai average: make averaged weights of another EMA length after training

Group: train and score
"""

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from genai.cli.options.arguments import VerbParser, add_trust_option, command
from genai.errors import DamagedFileError, UserError
from genai.files import open_atomically
from genai.models.ema import Snapshot, gamma_of, posthoc_average
from genai.runs import Run, find
from genai.runs.loading import read_checkpoint, write_digest
from genai.runs.places import check_links
from genai.runs.trust import read_config


def parser() -> VerbParser:
    """The options of `genai average`."""
    verb = VerbParser(
        "average",
        "RUN --std X [options]",
        "Write a checkpoint whose averaged weights have another EMA length, reconstructed from the snapshots of a run that was "
        "trained with power_stds (post-hoc EMA, EDM2, Karras et al. 2023).",
    )
    verb.add_argument("run", metavar="RUN", help="run directory or experiment (its newest run)")
    text = "relative width of the average (sigma_rel of EDM2), as a fraction of the training: 0.01 to 0.25"
    verb.add_argument("--std", type=float, required=True, metavar="X", help=text)
    text = "thousands of images seen at which the average ends; default: the last snapshot"
    verb.add_argument("--kimg", type=float, metavar="X", help=text)
    add_trust_option(verb)
    return verb


def snapshots(run: Run) -> list[Snapshot]:
    """The run's snapshots, the earliest first; UserError if there are none."""
    found = []
    for path in (run.path / "averages").glob("*.safetensors"):
        if match := re.fullmatch(r"(0?\.\d{1,20}|\d(?:\.\d{1,20})?e-\d{1,2})-([1-9]\d{,14})", path.stem):
            found.append((int(match[2]), float(match[1]), path))
    if not found:
        raise UserError(
            f"{run.path} has no snapshots of averaged weights, which only diffusion models write: train one with "
            "--model.init_args.power_stds '[0.05, 0.1]'"
        )
    *_, (_, _, last) = found = sorted(found)
    expected = shapes(read_snapshot(last))
    taken = []
    for images, std, path in found:
        state = read_snapshot(path)
        if shapes(state) != expected:
            raise DamagedFileError(f"{path} has other weights than {last}: move one of them away")
        try:
            taken.append(Snapshot(float(images), gamma_of(std), state))
        except ValueError as error:
            raise DamagedFileError(f"{path} is no snapshot ({error}): move it away") from None
    return taken


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """The shape and the type of each tensor."""
    return {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}


def read_snapshot(path: Path) -> dict[str, Tensor]:
    """The weights of a snapshot; DamagedFileError where it cannot be read."""
    try:
        if not path.is_file():
            raise OSError("it is a pipe, a device or a folder")
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DamagedFileError(f"{path} is damaged ({error}): move it away, and the others are used") from None


def run(arguments: list[str]) -> None:
    """Write checkpoints/average-STD.ckpt: the run's last checkpoint with other averaged weights."""
    options = parser().parse(arguments)
    source = find(options.run)
    check_links(source.path, read_config(source, options.trust)[1])
    taken = snapshots(source)
    end = taken[-1].t if options.kimg is None else options.kimg * 1000
    if not taken[0].t <= end <= taken[-1].t:
        earliest, latest = taken[0].t / 1000, taken[-1].t / 1000
        raise UserError(f"--kimg {options.kimg:g} is outside the range of the snapshots: use {earliest:g} to {latest:g}")
    try:
        state = posthoc_average([snapshot for snapshot in taken if snapshot.t <= end], end, options.std)
    except ValueError as error:
        raise UserError(f"--std: {error}") from None
    checkpoint = read_checkpoint(source.checkpoint("last"))
    averaged = {f"averaged.network.{name}": tensor for name, tensor in state.items()}
    if not averaged.keys() <= checkpoint["state_dict"].keys():
        raise DamagedFileError(f"the snapshots in {source.path / 'averages'} are of another model than its last checkpoint")
    checkpoint["state_dict"] |= averaged
    name = f"average-{options.std:g}" + ("" if options.kimg is None else f"-{options.kimg:g}")
    path: Path = source.path / "checkpoints" / f"{name}.ckpt"
    with open_atomically(path) as file:
        torch.save(checkpoint, file)
        write_digest(file)
    print(f"wrote {path}\nnext: {command('test', options.run, '--checkpoint', name)}")
