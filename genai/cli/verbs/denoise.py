"""genai denoise: what a model's code keeps of noisy images."""

import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from genai.cli.options.arguments import VerbParser
from genai.cli.options.codes import A_VAE, examples, examples_parser, stacked
from genai.cli.options.images import load_capable, write_rows
from genai.cli.options.sampling import finite
from genai.errors import UserError
from genai.models.capabilities import Reconstructs
from genai.models.seeds import image_seeds, seeded_normal


def parser() -> VerbParser:
    """The options of `genai denoise`."""
    verb = examples_parser("denoise", "Add noise to pictures, and draw what the model makes of their codes.", 16)
    verb.add_argument("--noise", type=finite, default=0.5, help="standard deviation; white is 1, black is -1 (0.5)")
    return verb


def run(arguments: list[str]) -> None:
    """Draw originals over noisy images over denoised ones, and print how near these come."""
    options = parser().parse_args(arguments)
    if options.noise < 0:
        raise UserError(f"--noise {options.noise} is out of range: use 0 or more")
    source, model = load_capable(options, Reconstructs, "denoise", A_VAE)
    images, condition = examples(options, source, model)
    noise = seeded_normal(image_seeds(options.seed, len(images)), model.image_shape, torch.device("cpu"))
    noisy = (images + options.noise * noise).clamp(-1, 1)
    results = model.reconstruct(noisy, condition).cpu()
    before, after = (peak_signal_noise_ratio(x, images, data_range=2.0, dim=(1, 2, 3)) for x in (noisy, results))
    print(f"PSNR {before:.2f} dB noisy, {after:.2f} dB denoised, mean over {len(images)} images")
    write_rows(options, source, model, *stacked([images, noisy, results]), "denoise")
