"""genai reconstruct: encode and decode images

Group: sample and edit
"""

from torchmetrics.functional.image import peak_signal_noise_ratio

from genai.cli.options.arguments import VerbParser, refuse
from genai.cli.options.images import OWN_LABELS, add_optional_image_options, read_examples, stack_rows
from genai.cli.options.labels import LabelOptions
from genai.cli.options.output import OutputOptions
from genai.cli.options.picture import PictureOptions
from genai.cli.options.run import RECONSTRUCT, RunOptions

NUM_IMAGES = 32


def parser() -> VerbParser:
    """The options of `genai reconstruct`."""
    verb = VerbParser(
        "reconstruct", "RUN [IMAGE...] [options]", "Show images, and under each its reconstruction from its code."
    )
    RunOptions.add_to(verb)
    add_optional_image_options(verb, NUM_IMAGES)
    LabelOptions.add_to(verb, default=OWN_LABELS, text=False)
    OutputOptions.add_to(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Write the images over their reconstructions, and print the mean PSNR."""
    options = parser().parse(arguments)
    if options.images:
        refuse(options, ("num",), "with IMAGE")
    picture = PictureOptions.from_namespace(options).start("reconstruct", RECONSTRUCT)
    images, condition = read_examples(options.images, options.num or NUM_IMAGES, picture.labels, picture.source)
    results = picture.source.model.reconstruct(images, condition).cpu()
    psnr = peak_signal_noise_ratio(results, images, data_range=2.0, dim=(1, 2, 3))
    print(f"PSNR {psnr:.2f} dB, mean over {len(images):,} images")
    picture.write(*stack_rows([images, results]))
