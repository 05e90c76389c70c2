"""Images per second from disk to float batches on the device: ours against torchvision's usual pipeline.

    GENAI_DATA=... python benchmarks/data.py [--batch-size 128] [--rounds 5] [--threads 1]

Both are DataLoaders without loader processes over 50,000 shuffled MNIST images, and end in float32 in [-1, 1] on the device.
The two alternate, and the best round of each counts, so that a drift of the machine's speed affects both alike. One thread by
default: on busy cores, waiting for a second one dominates operations this small (see `--threads 2`). If UTKFace is found: the
rate at which it is decoded into an empty cache, and the time of a second start.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from genai.data.base import Batch, ImageDataModule
from genai.data.mnist import MNIST
from genai.data.utkface import UTKFace
from genai.errors import UserError

TRAIN = 50_000
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def ours(data: ImageDataModule) -> Iterable[torch.Tensor]:
    for images, labels in data.train_dataloader():
        batch = Batch(images.to(DEVICE, non_blocking=True), labels.to(DEVICE, non_blocking=True))
        yield data.on_after_batch_transfer(batch, 0).images


def ours_uint8(data: ImageDataModule) -> Iterable[torch.Tensor]:
    for batch in data.train_dataloader():
        yield batch.images


def torchvision_mnist(root: Path) -> Subset:
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])
    return Subset(datasets.MNIST(root, transform=transform), range(TRAIN))


def torchvisions(images: Subset, batch_size: int) -> Iterable[torch.Tensor]:
    for batch, _ in DataLoader(images, batch_size, shuffle=True, drop_last=True):
        yield batch.to(DEVICE)


def rate(batches: Iterable[torch.Tensor], limit: int = TRAIN) -> float:
    """Images per second, including the start of the loader, over about `limit` images (the datasets are open already)."""
    start, seen = time.perf_counter(), 0
    for images in batches:
        assert images.dtype in (torch.float32, torch.uint8)
        seen += len(images)
        if seen >= limit:
            break
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return seen / (time.perf_counter() - start)


def best_of_rounds(pipelines: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The best rate of each pipeline; they alternate."""
    best = dict.fromkeys(pipelines, 0.0)
    for _ in range(rounds):
        for name, run in pipelines.items():
            best[name] = max(best[name], run())
    return best


def mnist_table(batch_size: int, rounds: int) -> Table:
    data = MNIST(batch_size=batch_size)
    data.prepare_data()
    their_images = torchvision_mnist(data.files()[0].parents[2])
    theirs, float_, uint8 = "torchvision, ToTensor + Normalize", "ours, float32 on the device", "ours, uint8 from the loader"
    best = best_of_rounds(
        {
            theirs: lambda: rate(torchvisions(their_images, batch_size), TRAIN // 5),  # a fifth is enough for its rate
            float_: lambda: rate(ours(data)),
            uint8: lambda: rate(ours_uint8(data)),
        },
        rounds,
    )
    title = f"MNIST, batch size {batch_size}, {torch.get_num_threads()} threads, {DEVICE.type}"
    table = Table(title=title, title_justify="left")
    for column in ("pipeline", "images/s", "ratio"):
        table.add_column(column, justify="left" if column == "pipeline" else "right")
    for name, value in best.items():
        table.add_row(name, f"{value:,.0f}", f"{value / best[theirs]:.1f}x")
    return table


def utkface_table() -> Table:
    """Raises UserError if UTKFace is not found."""
    UTKFace().find()
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("GENAI_CACHE")
        os.environ["GENAI_CACHE"] = folder
        first, second = (seconds_to_first_batch(UTKFace(size=64)) for _ in range(2))
        meta = UTKFace(size=64).cache_entry().meta
        os.environ.pop("GENAI_CACHE") if before is None else os.environ.update(GENAI_CACHE=before)
    num = sum(meta["counts"].values())
    table = Table(title="UTKFace at 64x64, to the first training batch", title_justify="left")
    for column in ("start", "seconds", "images/s"):
        table.add_column(column, justify="left" if column == "start" else "right")
    table.add_row(f"first: {num:,} pictures decoded", f"{first:.2f}", f"{num / first:,.0f}")
    table.add_row("second", f"{second:.3f}", "")
    return table


def seconds_to_first_batch(data: ImageDataModule) -> float:
    start = time.perf_counter()
    data.prepare_data()
    data.setup("fit")
    next(iter(data.train_dataloader()))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console()
    try:
        console.print(mnist_table(args.batch_size, args.rounds))
        console.print(utkface_table())
    except UserError as error:
        console.print(str(error))


if __name__ == "__main__":
    main()
