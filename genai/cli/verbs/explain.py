"""genai explain: show what an output depends on, and test the explanation

Group: inspect
"""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from genai.cli.internals import Explained, explain_direction, explain_heads, explain_words, verdict_lines
from genai.cli.options.arguments import VerbParser, positive, refuse
from genai.cli.options.labels import label_kind
from genai.cli.options.output import OutputOptions
from genai.cli.options.predictor import add_predictor_option
from genai.cli.options.run import LoadedRun, RequiredCapability, RunOptions, require
from genai.control.explanations import Score, faithfulness, gradient_maps, log_odds, occlusion_maps
from genai.data.base import ImageArray
from genai.errors import UserError
from genai.images import grid, save_png, titled, to_float, to_uint8
from genai.metrics.reference import subset_indices
from genai.models.capabilities import Classifies, Decodes, Denoises, GeneratesText, HasCodes, ScoresRealness
from genai.runs.export import DIRECTIONS

EXPLAIN = RequiredCapability(
    (Classifies, ScoresRealness, HasCodes, Denoises, GeneratesText, Decodes),
    "be explained (it has no classifier, discriminator, codes, captions, text or latents)",
    ("configs/digits/features.yaml", "configs/digits/gan.yaml", "configs/digits/vqvae.yaml"),
)
LATENTS = RequiredCapability(
    Decodes, "decode latents along a direction", ("configs/digits/gan.yaml", "configs/digits/vae.yaml")
)
NUM_TESTED, NUM_SHOWN, NUM_CODES = 64, 12, 64
SHARE = 0.2  # of the pixels that the test erases
CELLS = 8  # squares along the side of an image


def parser() -> VerbParser:
    """The options of `genai explain`."""
    verb = VerbParser(
        "explain",
        "RUN [options]",
        "Show which pixels of test images a classifier or a discriminator depends on, what each code of a VQ model decodes to, "
        "where the words of a caption act, which attention heads a transformer of text needs, or what a direction changes in "
        "each layer. A test erases what the explanation points at: the output should change more than if random parts are "
        "erased.",
    )
    RunOptions.add_to(verb)
    text = f"number of images, texts or samples to test the explanation with (default: {NUM_TESTED})"
    verb.add_argument("--num", type=positive, default=NUM_TESTED, metavar="N", help=text)
    text = "class or attribute of a classifier (default: the most probable one of each image), or word of a caption"
    verb.add_argument("--target", metavar="NAME", help=text)
    text = "of pixels: occlusion, or gradients, integrated by captum (default: occlusion)"
    verb.add_argument("--method", choices=("occlusion", "gradients"), help=text)
    verb.add_argument("--direction", metavar="NAME", help="direction of `genai directions` to explain, layer by layer")
    verb.add_argument("--directions", metavar="FILE", help=f"saved directions; default: RUN/{DIRECTIONS}")
    add_predictor_option(verb, "reads the attribute of --direction")
    OutputOptions.add_to(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Write the picture and print the test."""
    options = parser().parse(arguments)
    run = RunOptions.from_namespace(options)
    path = OutputOptions.from_namespace(options).png(run.find(), "explain")
    source = run.load(EXPLAIN)
    what = f"on a {type(source.model).__name__}"
    if options.direction is None:
        refuse(options, ("directions", "predictor"), "without --direction")
    if options.direction is not None:
        refuse(options, ("target", "method"), "with --direction")
        require(run.find(), source.model, LATENTS)
        found = explain_direction(source, options.direction, options.directions, options.num, options.predictor)
    elif isinstance(source.model, GeneratesText):
        refuse(options, ("target", "method"), what)
        found = explain_heads(source, options.num)
    elif isinstance(source.model, Denoises):
        if not getattr(source.model, "conditional", False) or label_kind(source) != "text":
            raise UserError(f"{source.run.path} has no captions whose words could be explained: use one of avatars/diffusion")
        refuse(options, ("method",), what)
        found = explain_words(source, options.target, options.num)
    else:
        if isinstance(source.model, HasCodes):
            refuse(options, ("method",), what)
        found = explain_images(source, options.target, options.method, options.num)
    for line in found.lines:
        print(line)
    save_png(found.picture, path, {"Model": type(source.model).__name__, "Run": source.run.name, "Verb": "explain"})
    print(f"wrote {path}")


def explain_images(source: LoadedRun, target: str | None, method: str | None, num: int) -> Explained:
    """The pixels of test images that a score depends on, or the codes of a VQ model."""
    number = target_number(target, source)
    split = source.test_split()
    pixels, labels = split.batch(subset_indices(len(split), num))
    images = to_float(pixels)
    if isinstance(source.model, HasCodes):
        return Explained(*explain_codes(source.model, images))
    score = make_score(source, number, images, labels)
    gradients = differentiable_score(source, number, images, labels) if method == "gradients" else None
    return Explained(*explain_pixels(score, gradients, images, mean_image(split)))


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
        raise UserError(
            f"{source.run.path} has no discriminator, as all zoo entries: name a run directory of a GAN, or a --direction"
        )
    if not isinstance(model, Classifies | ScoresRealness | HasCodes):
        raise UserError(f"{source.run.path} has neither classifier nor discriminator: name a --direction of its latents")
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


def differentiable_score(source: LoadedRun, target: int | None, images: Tensor, labels: Tensor) -> Score:
    """The logits that `make_score` explains, with gradients.

    Raises:
        UserError: the model classifies without a network for it.
    """
    model: Any = source.model
    if not isinstance(model, Classifies):
        condition = labels if model.conditional else None
        return lambda x: model.discriminator(
            x,
            None
            if condition is None
            else model.layout.condition(x, condition.repeat(len(x) // len(condition), *[1] * (condition.ndim - 1))),
        ).flatten()
    network = getattr(model, "averaged", None)
    if not isinstance(network, torch.nn.Module) or isinstance(model, Denoises | Decodes):
        raise UserError(f"{source.run.path} classifies without a network of its own: use --method occlusion")
    probable = model.predict(images).cpu().argmax(dim=1)
    chosen = probable if target is None else torch.full_like(probable, target)

    def logit(x: Tensor) -> Tensor:
        logits: Tensor = network(x.to(source.model.device))
        return logits.gather(1, chosen.repeat(len(x) // len(chosen))[:, None].to(logits.device))[:, 0]

    return logit


def explain_pixels(score: Score, gradients: Score | None, images: Tensor, fill: Tensor) -> tuple[Image.Image, list[str]]:
    """Images above their maps, red where pixels support the score and blue where they lower it; and the test."""
    patch = -(-images.shape[-1] // CELLS)
    maps = occlusion_maps(score, images, fill, patch) if gradients is None else gradient_maps(gradients, images, fill, patch)
    found = faithfulness(score, images, maps, fill, SHARE, patch)
    scaled = maps / maps.abs().flatten(1).amax(dim=1)[:, None, None].clamp(min=1e-6)
    grey = 0.5 * (images.mean(dim=1) + 1)
    red, blue = scaled.clamp(min=0), (-scaled).clamp(min=0)
    heat = torch.stack([grey + (1 - grey) * red, grey * (1 - red - blue).clamp(min=0), grey + (1 - grey) * blue], dim=1)
    shown = images[:NUM_SHOWN].expand(-1, 3, -1, -1)
    tiles = torch.cat([to_uint8(shown), to_uint8(2 * heat[:NUM_SHOWN].clamp(0, 1) - 1)])
    picture = titled(grid(tiles, len(shown)), "red: these pixels raise the score; blue: they lower it")
    return picture, verdict_lines(found.important, found.random, "log-odds", f"the {100 * SHARE:.0f} % of pixels it points at")


def explain_codes(model: Any, images: Tensor) -> tuple[Image.Image, list[str]]:
    """What the most frequent codes draw in the middle of an image of the most frequent code; and the test.

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
