"""What genai ships besides its code: the presets (`configs/`) and the trained models (`zoo/`), found by name from any folder.

In a checkout both lie at its root, in an installed package in `genai/_shipped/`. The header of a preset describes it:

    # An MLP GAN on MNIST.                                       what it is
    #   genai fit -c configs/mnist/gan.yaml                      commands
    # Time: 25 to 30 min on two cores (2.5 GHz Xeon).            begins with the duration
    # Scores: FID 2.86 (0.065), IS 8.64 (9.83). Test split ...   the scores, floor in brackets; then their protocol

Importing this module does not import torch.
"""

import difflib
import re
from pathlib import Path
from typing import NamedTuple

from genai.errors import UserError

INSTALLED = Path(__file__).parent / "_shipped"
SHIPPED = INSTALLED if INSTALLED.is_dir() else Path(__file__).parents[1]
CONFIGS, ZOO = SHIPPED / "configs", SHIPPED / "zoo"
UNMEASURED = "not measured yet"


class Preset(NamedTuple):
    """A preset as its header describes it.

    name: such as `mnist/gan`; `genai fit -c NAME` trains it.
    what: the model and its data.
    time: how long the training takes, such as `16 min` or `93 s`; empty if it was not measured.
    scores: each with its floor in brackets, the most important one first; `not measured yet` if there are none.
    on_gpu: whether the time is that of a GPU.
    """

    name: str
    what: str
    time: str
    scores: str
    on_gpu: bool = False

    @property
    def data(self) -> str:
        """The folder of the preset, named after its data."""
        return self.name.split("/")[0]

    @property
    def minutes(self) -> str:
        """The time in minutes, such as `16`, `under 5` or `1.6`; empty if it was not measured."""
        seconds = re.fullmatch(r"([\d.]+) s", self.time)
        return f"{float(seconds[1]) / 60:.1f}" if seconds else self.time.removesuffix(" min")

    @property
    def score(self) -> str:
        """The first of the scores; empty if there are none."""
        return "" if self.scores.startswith(UNMEASURED) else re.split(r", (?![^(]*\))", self.scores)[0]


def preset_paths(folder: Path = CONFIGS) -> dict[str, Path]:
    """Every preset, trainer file and search space by name: `mnist/gan`, `trainer/gpu`, `sweeps/gan`, ..."""
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def config_path(name: str) -> str:
    """The path of a `-c` argument: a file here, else the shipped preset of that name (`digits/gan`, `configs/digits/gan.yaml`).

    Raises:
        UserError: there is neither; it lists presets with similar names.
    """
    if Path(name).is_file():
        return name
    known = preset_paths()
    wanted = name.removeprefix("configs/").removesuffix(".yaml")
    if wanted in known:
        return str(known[wanted])
    same_model = [other for other in known if other.rpartition("/")[2] == wanted]
    close = same_model or difflib.get_close_matches(wanted, known, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise UserError(f"there is no file {name}, and no preset of this name: {hint}`genai presets` lists the presets")


def preset_name(command: str) -> str:
    """The preset that a `genai fit` command names first, such as `mnist/gan`; empty if it names none."""
    for word in re.findall(r"(?:-c|--config)[ =](\S+)", command):
        name = re.sub(r"^(?:.*/)?configs/", "", word).removesuffix(".yaml")
        if name in preset_paths():
            return name
    return ""


def read_preset(name: str, path: Path) -> Preset:
    """A preset from the header of its file."""
    header = re.match(r"(?:#.*\n)*", path.read_text("utf-8"))
    lines = header[0].splitlines() if header else []
    text = "\n".join(line[1:].strip() for line in lines if not line.startswith("#   "))  # without its commands
    found = re.findall(r"^(Time|Scores): ((?:.|\n(?!Note: |Scores: ))*)", text, re.MULTILINE)
    fields = {key: " ".join(value.split()) for key, value in found}
    what = " ".join(re.split(r"^(?:Time|Scores|Note): ", text, maxsplit=1, flags=re.MULTILINE)[0].split())
    measured = fields.get("Time", "")
    time = re.split(r" (?:on|for|of) |[,:;(]", measured)[0].rstrip(".")
    on_gpu = re.search(r"\bon (an|one) NVIDIA", measured) is not None
    return Preset(name, what, time, re.split(r"\. (?=[A-Z0-9])", fields.get("Scores", UNMEASURED))[0].rstrip("."), on_gpu)


def presets(folder: Path = CONFIGS) -> list[Preset]:
    """All presets, without `configs/trainer`, which sets hardware alone, and the search spaces in `configs/sweeps`."""
    return [
        read_preset(name, path) for name, path in preset_paths(folder).items() if not name.startswith(("trainer/", "sweeps/"))
    ]
