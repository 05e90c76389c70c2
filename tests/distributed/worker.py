"""One of several processes: runs each command line of a JSON file, writes what this rank has seen beside it.

Noise is comparable with that of one process: rank r gets the rows r, r + world, ... of the noise of one process. The
images are shared in the same way.
"""

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel, _optim_utils

import genai.models.diffusion.denoising_model as denoising_model
import genai.models.vqvae.quantizers as quantizers
from genai.cli import main
from genai.data.base import ImageArray, ImageDataModule
from genai.training.callbacks.randomness import SeedEachBatch

RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))

BATCH = 16  # of one rank


def share(draw: Callable[..., Tensor], *size: Any, **options: Any) -> Tensor:
    """This rank's rows of a larger noise tensor, unless a generator is given. Rows are the first of as many as a batch."""
    shape = list(size[0] if isinstance(size[0], tuple | torch.Size) else size)
    if "generator" in options or BATCH not in shape:
        return draw(*size, **options)
    dim = shape.index(BATCH)
    shape[dim] *= WORLD
    mine = torch.arange(RANK, shape[dim], WORLD)
    return draw(tuple(shape), **options).index_select(dim, mine)


def share_noise(patch: pytest.MonkeyPatch) -> None:
    """Give each rank its rows of one process's noise."""
    stratified, start = denoising_model.stratified_uniform, SeedEachBatch.on_train_batch_start
    randn, rand = functools.partial(share, torch.randn), functools.partial(share, torch.rand)

    def shared_levels(num: int, device: torch.device | None = None, **options: Any) -> Tensor:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(torch, "rand", rand.args[0])
            return stratified(num * WORLD, device, **options)[RANK::WORLD]

    def same_seed(self: SeedEachBatch, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        start(self, SimpleNamespace(global_rank=0), module, batch, batch_idx)  # type: ignore[arg-type]

    gather, randint = quantizers.gather_ranks, torch.randint

    def in_order(values: Tensor) -> Tensor:
        """Of all ranks, in the order in which one process would have them."""
        ranks = gather(values).unflatten(0, (WORLD, BATCH, -1))
        return ranks.transpose(0, 1).flatten(0, 2)

    patch.setattr(quantizers, "gather_ranks", in_order)
    patch.setattr(torch, "randint_like", lambda x, high: share(lambda size: randint(high, size), x.shape))
    patch.setattr(torch, "randn", randn)
    patch.setattr(torch, "rand", rand)
    patch.setattr(torch, "randn_like", lambda x, **options: randn(x.shape, **options))
    patch.setattr(torch, "rand_like", lambda x, **options: rand(x.shape, **options))
    patch.setattr(denoising_model, "stratified_uniform", shared_levels)
    patch.setattr(SeedEachBatch, "on_train_batch_start", same_seed)


def allow_processors(patch: pytest.MonkeyPatch) -> None:
    """Let FSDP work on the CPU.

    Lightning would have to name the device. And torch gathers each part of the optimiser's state into the same buffer, from
    which `.cpu()` copies it on a GPU alone: on the CPU, Adam's first moments would be saved as its second.
    """
    begin, unflatten = FullyShardedDataParallel.__init__, _optim_utils._unflatten_orig_param_states

    def on_processor(self: Any, *arguments: Any, device_id: Any = None, **options: Any) -> None:
        begin(self, *arguments, device_id=torch.device("cpu"), **options)

    def copied(info: Any, states: dict[str, dict[str, Any]], name: str, *arguments: Any) -> None:
        unflatten(info, states, name, *arguments)
        for state in states.values():
            if name in state:
                state[name] = state[name].clone()

    patch.setattr(FullyShardedDataParallel, "__init__", on_processor)
    patch.setattr(_optim_utils, "_unflatten_orig_param_states", copied)


def drop_one_image(patch: pytest.MonkeyPatch) -> None:
    """Give each split an odd number of images, of which one rank has one more than the other."""
    split = ImageDataModule.split

    def odd(self: ImageDataModule, name: Any) -> ImageArray:
        images = split(self, name)
        count = len(images) - 1 + len(images) % 2
        return ImageArray(images.images[:count], images.labels[:count])

    patch.setattr(ImageDataModule, "split", odd)


def record_batches(patch: pytest.MonkeyPatch, seen: list[float]) -> None:
    """Note the sum of each training batch after its augmentation, and a random number drawn where the noise is."""
    transfer, start = ImageDataModule.on_after_batch_transfer, SeedEachBatch.on_train_batch_start

    def noted(self: ImageDataModule, batch: Any, dataloader_idx: int) -> Any:
        batch = transfer(self, batch, dataloader_idx)
        if self.trainer.training:
            seen.append(float(batch.images.sum()))
        return batch

    def seeded(self: SeedEachBatch, *arguments: Any) -> None:
        start(self, *arguments)
        seen.append(float(torch.rand(1)))

    patch.setattr(ImageDataModule, "on_after_batch_transfer", noted)
    patch.setattr(SeedEachBatch, "on_train_batch_start", seeded)


PREPARE: dict[str, Callable[..., None]] = {
    "share": share_noise,
    "drop": drop_one_image,
    "record": record_batches,
    "processors": allow_processors,
}


def run(path: Path) -> None:
    """Run the jobs of the file at `path`: name -> {arguments, prepare: names in PREPARE}."""
    results = {}
    for name, job in json.loads(path.read_text()).items():
        seen: list[float] = []
        with pytest.MonkeyPatch.context() as patch:
            for prepare in job["prepare"]:
                PREPARE[prepare](patch, *([seen] if prepare == "record" else []))
            results[name] = {"status": main(job["arguments"]), "seen": seen}
    path.with_name(f"rank-{RANK}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]))
