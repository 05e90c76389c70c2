"""genai reconstruct: images, and under them what their codes keep."""

from torchmetrics.functional.image import peak_signal_noise_ratio

from genai.cli.options.arguments import VerbParser
from genai.cli.options.codes import A_VAE, examples, examples_parser, stacked
from genai.cli.options.images import load_capable, write_rows
from genai.models.capabilities import Reconstructs


def parser() -> VerbParser:
    """The options of `genai reconstruct`."""
    return examples_parser("reconstruct", "Draw pictures, and under each what the model makes of its code.", 32)


def run(arguments: list[str]) -> None:
    """Draw originals over reconstructions, and print how near they are."""
    options = parser().parse_args(arguments)
    source, model = load_capable(options, Reconstructs, "reconstruct", A_VAE)
    images, condition = examples(options, source, model)
    results = model.reconstruct(images, condition).cpu()
    psnr = peak_signal_noise_ratio(results, images, data_range=2.0, dim=(1, 2, 3))
    print(f"PSNR {psnr:.2f} dB, mean over {len(images)} images")
    write_rows(options, source, model, *stacked([images, results]), "reconstruct")
