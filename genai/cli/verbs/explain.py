"""genai explain: which pixels decide, or what each code decodes to, with a test

Group: inspect
"""

from typing import Any

import torch
from PIL import Image
from scipy.stats import wilcoxon
from torch import Tensor

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.output import OutputOptions
from genai.cli.options.run import LoadedRun, RequiredCapability, RunOptions
from genai.control.explanations import Score, faithfulness, log_odds, occlusion_maps
from genai.data.base import ImageArray
from genai.errors import UserError
from genai.images import grid, save_png, titled, to_float, to_uint8
from genai.metrics.reference import subset_indices
from genai.models.capabilities import Classifies, HasCodes, ScoresRealness

EXPLAIN = RequiredCapability(
    (Classifies, ScoresRealness, HasCodes),
    "be explained (it has no classifier, discriminator or codes; `genai tokens` shows the attention of a transformer of text)",
    ("configs/digits/features.yaml", "configs/digits/gan.yaml", "configs/digits/vqvae.yaml"),
)
NUM_TESTED, NUM_SHOWN, NUM_CODES = 64, 12, 64
SHARE = 0.2  # of the pixels that the test erases
CELLS = 8  # squares along the side of an image


def parser() -> VerbParser:
    """The options of `genai explain`."""
    verb = VerbParser(
        "explain",
        "RUN [options]",
        "Show which pixels of test images a classifier or a discriminator depends on, or what each code of a VQ model decodes "
        "to, and test it: erasing what the explanation points at should change the output more than erasing random pixels.",
    )
    RunOptions.add_to(verb)
    text = f"number of test images to test the explanation with (default: {NUM_TESTED})"
    verb.add_argument("--num", type=positive, default=NUM_TESTED, metavar="N", help=text)
    text = "class or attribute of a classifier to explain (default: the most probable one of each image)"
    verb.add_argument("--target", metavar="NAME", help=text)
    OutputOptions.add_to(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Write the picture and print the test."""
    options = parser().parse(arguments)
    run = RunOptions.from_namespace(options)
    path = OutputOptions.from_namespace(options).png(run.find(), "explain")
    source = run.load(EXPLAIN)
    target = target_number(options.target, source)
    split = source.test_split()
    pixels, labels = split.batch(subset_indices(len(split), options.num))
    if isinstance(source.model, HasCodes):
        picture, lines = explain_codes(source.model, to_float(pixels))
    else:
        picture, lines = explain_pixels(
            make_score(source, target, to_float(pixels), labels), to_float(pixels), mean_image(split)
        )
    for line in lines:
        print(line)
    save_png(picture, path, {"Model": type(source.model).__name__, "Run": source.run.name, "Verb": "explain"})
    print(f"wrote {path}")


def target_number(target: str | None, source: LoadedRun) -> int | None:
    """The number of the class or attribute to explain; None for none.

    Raises:
        UserError: the model is no classifier, or does not know it; or its weights have no discriminator.
    """
    model, names = source.model, source.run.record()["class_names"]
    if target is not None and not isinstance(model, Classifies):
        raise UserError(f"{source.run.path} is no classifier: leave --target out")
    if target is not None and target not in names:
        raise UserError(f"there is no class or attribute {target!r}: choose from {', '.join(names)}")
    if isinstance(model, ScoresRealness) and getattr(model, "is_exported", False):
        raise UserError(f"{source.run.path} has no discriminator, as all zoo entries: name a run directory of a GAN")
    return None if target is None else names.index(target)


def mean_image(split: ImageArray) -> Tensor:
    """The mean of up to 1,000 images: what erased pixels become, (C, H, W)."""
    return to_float(split.batch(subset_indices(len(split), 1000)).images).mean(dim=0)


def make_score(source: LoadedRun, target: int | None, images: Tensor, labels: Tensor) -> Score:
    """Log-odds of the target, or of the class that is most probable for each image; of a GAN those of being real."""
    model = source.model
    if isinstance(model, Classifies):
        probable = model.predict(images).cpu().argmax(dim=1)
        chosen = probable if target is None else torch.full_like(probable, target)
        return lambda x: log_odds(model.predict(x).cpu().gather(1, chosen[:, None])[:, 0])
    condition = labels if model.conditional else None
    return lambda x: log_odds(model.realness(x.to(model.device), condition))


def explain_pixels(score: Score, images: Tensor, fill: Tensor) -> tuple[Image.Image, list[str]]:
    """Images above their maps, red where pixels support the score and blue where they lower it; and the test."""
    patch = -(-images.shape[-1] // CELLS)
    maps = occlusion_maps(score, images, fill, patch)
    found = faithfulness(score, images, maps, fill, SHARE, patch)
    scaled = maps / maps.abs().flatten(1).amax(dim=1)[:, None, None].clamp(min=1e-6)
    grey = 0.5 * (images.mean(dim=1) + 1)
    red, blue = scaled.clamp(min=0), (-scaled).clamp(min=0)
    heat = torch.stack([grey + (1 - grey) * red, grey * (1 - red - blue).clamp(min=0), grey + (1 - grey) * blue], dim=1)
    shown = images[:NUM_SHOWN].expand(-1, 3, -1, -1)
    tiles = torch.cat([to_uint8(shown), to_uint8(2 * heat[:NUM_SHOWN].clamp(0, 1) - 1)])
    picture = titled(grid(tiles, len(shown)), "red: erasing these pixels lowers the score; blue: raises it")
    return picture, verdict_lines(found.important, found.random, "log-odds", f"the {100 * SHARE:.0f} % of pixels it points at")


def explain_codes(model: Any, images: Tensor) -> tuple[Image.Image, list[str]]:
    """What the most frequent codes decode to in the middle of an image of the most frequent code; and the test.

    The test replaces one code of each image by the most frequent one, and compares the change of the pixels of its cell with
    that of a random cell.
    """
    codes = model.codes(images)  # (N, h, w)
    numbers, counts = codes.unique(return_counts=True)
    frequent = numbers[counts.argsort(descending=True)]
    blank = torch.full_like(codes[:1], int(frequent[0]))
    row, column = blank.shape[1] // 2, blank.shape[2] // 2
    canvases = blank.repeat(min(NUM_CODES, len(frequent)), 1, 1)
    canvases[:, row, column] = frequent[: len(canvases)]
    picture = titled(grid(to_uint8(model.decode_codes(canvases))), f"the {len(canvases)} most frequent codes")
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(codes[0].numel(), (2, len(codes)), generator=generator)
    changed = codes.flatten(1).clone()
    changed[torch.arange(len(codes)), cells[0]] = frequent[0]
    change = (model.decode_codes(changed.view_as(codes)) - model.decode_codes(codes)).abs().mean(dim=1)  # (N, H, W)
    per_cell = torch.nn.functional.adaptive_avg_pool2d(change[:, None], codes.shape[1:]).flatten(1).cpu()
    moved = (changed != codes.flatten(1)).any(dim=1).cpu()
    own, other = (per_cell.gather(1, cell[:, None])[moved, 0] for cell in cells)
    lines = [f"{len(numbers):,} codes are used; {int(moved.sum())} images have another code after erasing one"]
    return picture, lines + verdict_lines(own, other, "pixels", "its own cell, by erasing a code")


def verdict_lines(pointed: Tensor, random: Tensor, what: str, where: str) -> list[str]:
    """The result of a test of faithfulness, N changes each (Wilcoxon's signed-rank test)."""
    if len(pointed) < 2 or bool((pointed == random).all()):
        return [f"the test needs more images that differ: there are {len(pointed)}, add --num"]
    p = float(wilcoxon(pointed.double().numpy(), random.double().numpy(), alternative="greater").pvalue)
    return [
        f"change of {what}: {float(pointed.mean()):.3g} in {where}",
        f"{'':<{len(what) + 10}} {float(random.mean()):.3g} in random ones ({len(pointed)} images)",
        f"the explanation is {'faithful' if p < 0.01 else 'not shown to be faithful'} (p = {p:.2g})",
    ]
