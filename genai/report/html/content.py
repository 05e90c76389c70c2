"""What a report says about a run: read from its files, and measured from its model and data."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genai.data.base import ImageDataModule
from genai.errors import DamagedFileError
from genai.files import read_csv
from genai.images import to_uint8
from genai.models.base import ImageModel
from genai.models.seeds import image_seeds
from genai.report.comparison import COSTS, cost_of, cost_texts, flatten
from genai.report.html.nearest import Neighbours, nearest
from genai.report.html.pictures import epoch_grids
from genai.runs import Run
from genai.runs.export import shared_record
from genai.runs.redaction import Redaction
from genai.runs.sampling import default_condition
from genai.runs.text import stream_tokens, tokenizer_of

NUM_COMPARED = 8  # samples that are shown beside their nearest training images
NUM_NEAREST = 4
NUM_TOKENS = 300  # of a text
NUM_REAL = 200  # test images whose distances to the training images are the floor
SHOWN_ALONE = [COSTS[key][0] for key in ("seconds", "sample_seconds")]  # measured times, in sentences of their own
UNCOMPARED = ("experiment", "run_dir", "ckpt_path", "weights_only")  # settings that say where a run is, not what it is


@dataclass(frozen=True)
class RunContent:
    """A run in a report.

    Attributes:
        run: its folder.
        name: heading, unique in the report.
        record: run.json.
        settings: config.yaml, flat: `model.init_args.objective` -> its value as text.
        split: `test` or `val`, of `evaluation`; empty without scores.
        evaluation: the newest entry of metrics.json; empty without scores.
        curves: metrics.csv by column: (images or tokens seen, value) of each row that has one.
        frames: epoch -> the gallery's grid.
        images: samples, uint8 (N, C, H, W); none of a model of text, (0, 1, 1, 1).
        texts: samples of a model of text.
        sampling_seconds: per sample, measured while these were sampled.
        seconds: wall-clock of the training; None if the run did not record it.
        cost: what the run recorded about its cost, as text by heading.
        images_seen: images or tokens that the weights of the samples were trained on; the scores have their own number.
    """

    run: Run
    name: str
    record: Mapping[str, Any]
    settings: Mapping[str, str]
    split: str
    evaluation: Mapping[str, Any]
    curves: Mapping[str, Sequence[tuple[int, float]]]
    frames: Mapping[int, Path]
    images: Tensor
    texts: Sequence[str]
    sampling_seconds: float
    seconds: float | None
    cost: Mapping[str, str]
    images_seen: int = 0


@dataclass(frozen=True)
class Nearest:
    """Samples beside their nearest training images.

    Attributes:
        samples: uint8 (N, C, H, W).
        found: their nearest training images.
        median, floor: median distance to the nearest training image, of all samples and of test images.
        num_samples, num_real: how many these are.
    """

    samples: Tensor
    found: Neighbours
    median: float
    floor: float
    num_samples: int
    num_real: int


def read_run(run: Run, name: str, model: Any, seed: int, num: int) -> RunContent:
    """Read a run's files, without secrets and paths of this machine, and sample from its model.

    Args:
        run: the run or zoo entry.
        name: its heading.
        model: that of the run, in eval mode.
        seed: of the samples.
        num: of images, or of texts.
    """
    redaction = Redaction()
    scores = redaction.value(run.scores())
    split = next((split for split in ("test", "val") if split in scores), "")
    images, texts = torch.empty(0, 1, 1, 1, dtype=torch.uint8), list[str]()
    start = time.perf_counter()
    if isinstance(model, ImageModel):
        condition = default_condition(run, model, num)
        model.sample(image_seeds(seed, 1), None if condition is None else condition[:1])  # warm up
        start = time.perf_counter()
        images = to_uint8(model.sample(image_seeds(seed, num), condition)).cpu()
    else:
        texts = sample_texts(run, model, seed, num)
    sampling_seconds = (time.perf_counter() - start) / num
    curves = read_curves(run.path / "metrics.csv")
    cost = cost_of(run)
    return RunContent(
        run=run,
        name=name,
        record=shared_record(run.record(), redaction),
        settings=flatten(redaction.value(run.config())),
        split=split,
        evaluation=scores[split] if split else {},
        curves=curves,
        frames=epoch_grids(run.path / "samples"),
        images=images,
        texts=texts,
        sampling_seconds=sampling_seconds,
        seconds=training_seconds(cost, curves),
        cost={title: text for title, text in cost_texts(redaction.value(cost)).items() if title not in SHOWN_ALONE},
        images_seen=model.images_seen,
    )


def sample_texts(run: Run, model: Any, seed: int, num: int) -> list[str]:
    """`num` texts of at most 300 tokens, those of `genai sample --seed SEED`."""
    tokenizer = tokenizer_of(run)
    *_, rows = stream_tokens(model, tokenizer, image_seeds(seed, num), "", NUM_TOKENS)
    return [tokenizer.text(row) for row in rows]


def training_seconds(cost: Mapping[str, Any], curves: Mapping[str, Sequence[tuple[int, float]]]) -> float | None:
    """Wall-clock of a training: as its cost says, else from the throughput in metrics.csv; None if neither is there."""
    if "seconds" in cost:
        return float(cost["seconds"])
    seconds, before = 0.0, 0
    for images_seen, speed in curves.get("images_per_second", ()):
        seconds, before = seconds + (images_seen - before) / speed, images_seen
    return seconds or None


def nearest_training_images(content: RunContent, data: ImageDataModule) -> Nearest:
    """The nearest training images of the first samples, and how near real test images are; `data` are set up."""
    train, test = data.split("train"), data.split("test")
    real = test.batch(torch.arange(min(NUM_REAL, len(test)))).images
    found = nearest(content.images, train, min(NUM_NEAREST, len(train)))
    own = nearest(to_uint8(real) if real.is_floating_point() else real, train, 1)
    shown = Neighbours(*(part[:NUM_COMPARED] for part in found))
    medians = [float(distances[:, 0].median()) for distances in (found.distances, own.distances)]
    return Nearest(content.images[:NUM_COMPARED], shown, medians[0], medians[1], len(content.images), len(real))


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """metrics.csv by column, its empty cells left out; nothing if there is no such file. The first column is the x-axis.

    Torn lines are left out. DamagedFileError for a cell that is no number.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in read_csv(path)[0] if path.is_file() else ():
        (_, seen), *values = row.items()
        for column, value in values:
            if value:
                try:
                    curves.setdefault(column, []).append((int(seen), float(value)))
                except ValueError:
                    raise DamagedFileError(f"{path} is damaged (it has {value[:40]!r} as {column[:40]})") from None
    return curves


def differing(runs: Sequence[RunContent]) -> dict[str, list[str]]:
    """The settings that are not the same in all runs, with the value of each run; empty where a run has none."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    table = {key: [run.settings.get(key, "") for run in runs] for key in keys if key not in UNCOMPARED}
    return {key: values for key, values in table.items() if len(set(values)) > 1}
