"""genai denoise: reconstruct images from their noisy versions

Group: sample and edit
"""

import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from genai.cli.options.arguments import VerbParser, non_negative, refuse
from genai.cli.options.images import OWN_LABELS, add_optional_image_options, read_examples, stack_rows
from genai.cli.options.labels import LabelOptions
from genai.cli.options.output import OutputOptions
from genai.cli.options.picture import PictureOptions
from genai.cli.options.run import RECONSTRUCT, RunOptions, add_seed_option
from genai.models.seeds import seeded_normal

NUM_IMAGES = 16


def parser() -> VerbParser:
    """The options of `genai denoise`."""
    verb = VerbParser(
        "denoise",
        "RUN [IMAGE...] [options]",
        "Add Gaussian noise to images and show their reconstructions from the noisy codes.",
    )
    RunOptions.add_to(verb)
    add_optional_image_options(verb, NUM_IMAGES)
    text = "standard deviation of the noise; pixels lie in [-1, 1] (default: 0.5)"
    verb.add_argument("--noise", type=non_negative, default=0.5, metavar="STD", help=text)
    add_seed_option(verb, "seed of the noise (default: 0)")
    LabelOptions.add_to(verb, default=OWN_LABELS, text=False)
    OutputOptions.add_to(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Write the images over the noisy images over the reconstructions, and print the mean PSNR of both."""
    options = parser().parse(arguments)
    if options.images:
        refuse(options, ("num",), "with IMAGE")
    picture = PictureOptions.from_namespace(options).start("denoise", RECONSTRUCT)
    model = picture.source.model
    images, condition = read_examples(options.images, options.num or NUM_IMAGES, picture.labels, picture.source)
    noise = seeded_normal(picture.seeds(len(images)), model.image_shape, torch.device("cpu"))
    noisy = (images + options.noise * noise).clamp(-1, 1)
    results = model.reconstruct(noisy, condition).cpu()
    before, after = (peak_signal_noise_ratio(x, images, data_range=2.0, dim=(1, 2, 3)) for x in (noisy, results))
    print(f"PSNR {before:.2f} dB noisy, {after:.2f} dB denoised, mean over {len(images):,} images")
    picture.write(*stack_rows([images, noisy, results]))
