"""A picture of images that a verb makes with a model: its options, the loaded run, and the file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from genai.cli.options.arguments import Options, VerbParser
from genai.cli.options.labels import LabelOptions, edit_condition
from genai.cli.options.output import OutputOptions, write_tiles
from genai.cli.options.run import LoadedRun, RequiredCapability, RunOptions, add_seed_option
from genai.cli.options.sampling import SamplerOptions
from genai.images import check_number
from genai.models.seeds import image_seeds


class PictureTask(NamedTuple):
    """The run that makes the images of a picture, and how.

    Attributes:
        source: the run and its model.
        labels: the options of the condition.
        settings: the sampler's options, as keyword arguments of the model's methods; empty if the verb has none.
        seed: None if the verb has no random numbers.
        verb: name of the verb, for the metadata.
        path: the file to write.
    """

    source: LoadedRun
    labels: LabelOptions
    settings: dict[str, Any]
    seed: int | None
    verb: str
    path: Path

    def repeated(self, images: Tensor, num: int) -> Tensor:
        """Each of `images` (N, ...) `num` times in a row: (N * num, ...)."""
        check_number(len(images) * num, self.source.model.image_shape)
        return images.repeat_interleave(num, dim=0)

    def seeds(self, num: int) -> Sequence[int]:
        """A seed for each of `num` images."""
        return image_seeds(self.seed or 0, num)

    def condition(self, num: int) -> Tensor | None:
        """The condition of `num` images: (num,), (num, K), (num, L) or None; null conditions without --label and --prompt."""
        check_number(num, self.source.model.image_shape)
        return edit_condition(self.labels, num, self.source)

    def write(self, tiles: Tensor, columns: int) -> None:
        """Write images (N, C, H, W) in [-1, 1] row by row, and print the path."""
        seed = {} if self.seed is None else {"Seed": str(self.seed)}
        write_tiles(self.path, tiles, columns, self.source, {**seed, "Verb": self.verb, **self.labels.metadata()})


@dataclass(frozen=True)
class PictureOptions(Options):
    """The options of a verb that makes images with a model and writes one picture; a verb may lack some of them."""

    run: RunOptions = field(default_factory=RunOptions)
    labels: LabelOptions = field(default_factory=LabelOptions)
    sampler: SamplerOptions = field(default_factory=SamplerOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
    seed: int | None = None

    @staticmethod
    def add_to(parser: VerbParser, output: str = "the PNG to write") -> None:
        """Add --seed and the options of the condition, the sampler and the output; those of the run come first."""
        add_seed_option(parser)
        LabelOptions.add_to(parser)
        SamplerOptions.add_to(parser)
        OutputOptions.add_to(parser, output)

    def start(self, verb: str, capability: RequiredCapability, is_motion: bool = False) -> PictureTask:
        """Check --out, which may be an animation if `is_motion`, load the run and check the sampler's options.

        Raises:
            UserError: there is no such run, its model lacks the capability, an option does not fit it, or --out exists.
        """
        path = (self.output.picture if is_motion else self.output.png)(self.run.find(), verb)
        source = self.run.load(capability)
        return PictureTask(source, self.labels, self.sampler.settings(source, self.run.device), self.seed, verb, path)
