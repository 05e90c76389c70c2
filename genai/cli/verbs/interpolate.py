"""genai interpolate: interpolate between images or samples in the latent space

Group: sample and edit
"""

import torch
from torch import Tensor

from genai.cli.options.arguments import MAX_SEED, VerbParser, positive, refuse
from genai.cli.options.images import IMAGE_HELP, read_images
from genai.cli.options.labels import LabelOptions, label_kind, sample_condition
from genai.cli.options.output import MOTION, OutputOptions
from genai.cli.options.picture import PictureOptions
from genai.cli.options.predictor import add_predictor_option
from genai.cli.options.run import LoadedRun, RequiredCapability, RunOptions, add_seed_option
from genai.control.paths import PATHS, lerp
from genai.control.predictors import load_predictor, read_labels
from genai.errors import UserError
from genai.images import annotated, check_number, save_png, to_uint8
from genai.models.capabilities import Decodes, Encodes
from genai.models.seeds import image_seeds

SAMPLES = RequiredCapability(Decodes, "interpolate between samples", ("configs/digits/vae.yaml", "configs/digits/gan.yaml"))
IMAGES = RequiredCapability(Encodes, "interpolate between images", ("configs/digits/vae.yaml",))
NUM_PAIRS = 6


def parser() -> VerbParser:
    """The options of `genai interpolate`."""
    verb = VerbParser(
        "interpolate",
        "RUN [END END] [options]",
        "Interpolate in the latent space between two images, or between the samples of two seeds.",
    )
    RunOptions.add_to(verb)
    text = f"two images ({IMAGE_HELP}), or two seeds, such as 3 8, of `genai sample`; default: --num pairs of samples"
    verb.add_argument("ends", metavar="END", nargs="*", help=text)
    verb.add_argument("--num", type=positive, metavar="N", help=f"pairs of samples, without END (default: {NUM_PAIRS})")
    verb.add_argument("--points", type=positive, default=9, metavar="N", help="images in a row, ends included (default: 9)")
    verb.add_argument("--path", choices=list(PATHS), default="slerp", help="arc or straight line (default: slerp)")
    text = "write under each image the class or attributes that a feature network reads from it"
    verb.add_argument("--read-labels", action="store_true", help=text)
    add_predictor_option(verb, "reads the labels of --read-labels")
    add_seed_option(verb, "seed of the pairs of samples (default: 0)", default=None)
    LabelOptions.add_to(verb, default="that of the samples; unconditional between images", text=False)
    OutputOptions.add_to(verb, MOTION)
    return verb


def run(arguments: list[str]) -> None:
    """Write a row for each pair of ends."""
    options = parser().parse(arguments)
    if options.predictor and not options.read_labels:
        raise UserError("--predictor reads the labels of --read-labels: add it, or leave --predictor out")
    if len(options.ends) not in (0, 2):
        raise UserError(f"interpolation needs two ends, not {len(options.ends)}: name two images, two seeds, or none")
    if too_large := [end for end in options.ends if end.isdecimal() and int(end) > MAX_SEED]:
        raise UserError(f"the seed {too_large[0]} is out of range: use an integer from 0 to {MAX_SEED}")
    if options.ends:
        refuse(options, ("num", "seed"), "between two ends")
    else:
        options.seed = options.seed or 0
    num = options.num or NUM_PAIRS
    between_images = any(not end.isdecimal() for end in options.ends)
    picture = PictureOptions.from_namespace(options).start("interpolate", IMAGES if between_images else SAMPLES, is_motion=True)
    if options.read_labels and picture.path.suffix != ".png":
        raise UserError(f"--read-labels writes a PNG, not {picture.path.suffix}: choose another --out")
    source, model = picture.source, picture.source.model
    check_number(2 * num * options.points, model.image_shape)
    shares = torch.linspace(0, 1, options.points, device=model.device)
    if between_images:
        images = read_images(options.ends, source)
        z_a, z_b = model.encode(images, picture.condition(2)).unsqueeze(1)  # (1, D) each
        condition = picture.condition(options.points)
    else:
        seeds = [image_seeds(int(end), 1)[0] for end in options.ends] or picture.seeds(2 * num)
        z = model.latents(seeds)
        z_a, z_b = z[0::2], z[1::2]
        condition = path_condition(picture.labels, len(z_a), shares, source)
    decoded = model.decode(row_by_row(PATHS[options.path](z_a, z_b, shares)), condition).cpu()
    rows = decoded.unflatten(0, (len(z_a), -1))  # (pairs, points, C, H, W)
    if between_images:
        rows = torch.cat([images[:1, None], rows, images[1:, None]], dim=1)
    if not options.read_labels:
        picture.write(rows.flatten(0, 1), rows.shape[1])
        return
    tiles = to_uint8(rows.flatten(0, 1))
    texts = read_labels(load_predictor(options.predictor, source.data(), source.trust), tiles)
    metadata = {"Model": type(model).__name__, "Run": source.run.name, "Verb": "interpolate", "Labels": "; ".join(texts)}
    save_png(annotated(tiles, rows.shape[1], captions=texts), picture.path, metadata)
    print(f"wrote {picture.path}")


def row_by_row(points: Tensor) -> Tensor:
    """(points, N, D) -> (N * points, D)."""
    return points.transpose(0, 1).flatten(0, 1)


def path_condition(labels: LabelOptions, num: int, shares: Tensor, source: LoadedRun) -> Tensor | None:
    """Conditions of the points between `num` pairs of samples, row by row: (num * points,), (num * points, K) or None.

    The samples have the conditions of `genai sample`. Attributes are interpolated linearly; a class is that of both ends.
    """
    attributes = source.model.conditional and label_kind(source) == "attributes"
    condition = sample_condition(labels, 2 * num if attributes else num, source)
    if condition is None:
        return None
    if not attributes:
        return condition.repeat_interleave(len(shares), dim=0)
    condition = condition.to(shares.device)
    return row_by_row(lerp(condition[0::2], condition[1::2], shares))
