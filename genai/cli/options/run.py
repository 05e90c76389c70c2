"""Which run a verb reads, with which checkpoint and device, and what its model must be able to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from genai.cli.options.arguments import Options, VerbParser, add_trust_option, random_seed
from genai.data.base import ImageArray
from genai.errors import UserError
from genai.models.base import ImageModel
from genai.models.capabilities import Decodes, GeneratesText, InvertsNoise, Reconstructs, Restores
from genai.runs import Run, find, load
from genai.runs.data import data_of
from genai.runs.loading import read_checkpoint

RUN_HELP = "run directory, experiment (its newest run), zoo/NAME or hf://user/name"


class RequiredCapability(NamedTuple):
    """What a verb needs of a model.

    protocol: one of genai/models/capabilities.py, or a tuple: the model has at least one of them.
    phrase: completes "a GAN, which cannot ...".
    presets: configs whose models have the capability, for the error message.
    """

    protocol: Any
    phrase: str
    presets: tuple[str, ...]


SAMPLERS_OF_IMAGES = ("configs/digits/gan.yaml", "configs/digits/diffusion.yaml")
SAMPLE = RequiredCapability((ImageModel, GeneratesText), "sample images or text", SAMPLERS_OF_IMAGES)
SAMPLE_IMAGES = RequiredCapability(ImageModel, "sample images", SAMPLERS_OF_IMAGES)
DECODE = RequiredCapability(
    (Decodes, InvertsNoise),
    "decode latents or noise",
    ("configs/digits/gan.yaml", "configs/digits/vae.yaml", "configs/digits/diffusion.yaml"),
)
RECONSTRUCT = RequiredCapability(Reconstructs, "reconstruct images", ("configs/digits/vae.yaml", "configs/digits/vqvae.yaml"))
INPAINT = RequiredCapability(Restores, "inpaint images", ("configs/digits/diffusion.yaml", "configs/digits/inpaint.yaml"))


class LoadedRun(NamedTuple):
    """A run with its model in eval mode, the packages that the run's config may name, and the model's checkpoint."""

    run: Run
    model: Any
    trust: Sequence[str]
    checkpoint: str = "best"

    def data(self, stage: str = "test") -> Any:
        """The run's data module, set up for `fit` or `test`; stderr says if the data have changed since the training."""
        data = data_of(self.run, self.trust)
        data.prepare_data()
        data.setup(stage)
        if not self.run.is_exported:
            state = read_checkpoint(self.run.checkpoint(self.checkpoint)).get(type(data).__qualname__)
            if isinstance(state, dict):
                data.report_change(state)
        return data

    def test_split(self) -> ImageArray:
        """The test split of the run's data."""
        return self.data().split("test")


@dataclass(frozen=True)
class RunOptions(Options):
    """RUN, --checkpoint, --device and --trust."""

    run: str = ""
    checkpoint: str = "best"
    device: str = "cpu"
    trust: Sequence[str] = ()

    @staticmethod
    def add_to(parser: VerbParser) -> None:
        """Add the options with one RUN."""
        parser.add_argument("run", metavar="RUN", help=RUN_HELP)
        RunOptions.add_model_options(parser)

    @staticmethod
    def add_model_options(parser: VerbParser) -> None:
        """Add --checkpoint, --device and --trust."""
        group = parser.add_argument_group("model")
        group.add_argument("--checkpoint", default="best", metavar="NAME", help="best, last or a file (default: best)")
        group.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
        add_trust_option(group)

    def find(self) -> Run:
        """The run directory or zoo entry; UserError if there is none."""
        return find(self.run)

    def load(self, *capabilities: RequiredCapability) -> LoadedRun:
        """The run and its model.

        Raises:
            UserError: there is no such run or checkpoint, or the model lacks one of `capabilities`.
        """
        source = self.find()
        model = load(source, self.checkpoint, self.device, self.trust)
        for capability in capabilities:
            require(source, model, capability)
        return LoadedRun(source, model, self.trust, self.checkpoint)


def require(run: Run, model: Any, capability: RequiredCapability) -> None:
    """Raise UserError unless the model has the capability."""
    if not isinstance(model, capability.protocol):
        raise UserError(
            f"{run.path} is a {type(model).__name__}, which cannot {capability.phrase}: name a run of a preset that can, "
            f"such as {' or '.join(capability.presets)}"
        )


def add_seed_option(parser: VerbParser, help: str = "seed of all random numbers (default: 0)", default: int | None = 0) -> None:
    """Add `--seed`; with `default` None the verb can refuse it where nothing is random."""
    parser.add_argument("--seed", type=random_seed, default=default, metavar="N", help=help)
