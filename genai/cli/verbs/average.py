"""genai average: averaged weights of another length, from the snapshots of a run (EDM2, Karras et al. 2023)."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file

from genai.cli.options.arguments import VerbParser
from genai.errors import UserError
from genai.models.ema import Snapshot, gamma_of, reconstruct
from genai.runs import Run, find
from genai.runs.loading import read_checkpoint


def parser() -> VerbParser:
    """The options of `genai average`."""
    verb = VerbParser(prog="genai average", description="Make a checkpoint whose averaged weights have another length.")
    verb.add_argument("run", metavar="RUN", help="a run trained with power_stds")
    verb.add_argument("--std", type=float, required=True, help="width of the average, as a share of the training: 0.01 to 0.25")
    verb.add_argument("--kimg", type=float, help="thousands of images at which it ends; default: the last snapshot")
    return verb


def snapshots(run: Run) -> list[Snapshot]:
    """Of all widths and times, the earliest first.

    Raises:
        UserError: there are none.
    """
    found = []
    for path in (run.path / "averages").glob("*.safetensors"):
        if match := re.fullmatch(r"([\d.e-]+)-(\d+)", path.stem):
            found.append((int(match[2]), float(match[1]), path))
    if not found:
        raise UserError(f"{run.path} has no snapshots: train it with --model.init_args.power_stds '[0.05, 0.1]'")
    return [Snapshot(float(images), gamma_of(std), load_file(path)) for images, std, path in sorted(found)]


def run(arguments: list[str]) -> None:
    """Write checkpoints/average-STD.ckpt: the run's last checkpoint with other averaged weights."""
    options = parser().parse_args(arguments)
    source = find(options.run)
    taken = snapshots(source)
    end = taken[-1].t if options.kimg is None else options.kimg * 1000
    if not taken[0].t <= end <= taken[-1].t:
        raise UserError(
            f"--kimg {options.kimg:g} is outside of the snapshots: use {taken[0].t / 1000:g} to {taken[-1].t / 1000:g}"
        )
    try:
        state = reconstruct([snapshot for snapshot in taken if snapshot.t <= end], end, options.std)
    except ValueError as error:
        raise UserError(f"--std: {error}") from None
    checkpoint = read_checkpoint(source.checkpoint("last"))
    checkpoint["state_dict"] |= {f"averaged.network.{name}": tensor for name, tensor in state.items()}
    name = f"average-{options.std:g}" + ("" if options.kimg is None else f"-{options.kimg:g}")
    path: Path = source.path / "checkpoints" / f"{name}.ckpt"
    torch.save(checkpoint, path)
    print(f"wrote {path}\nnext: genai test {options.run} --checkpoint {name}")
