"""The run directory: named, written, found and loaded.

    runs/<experiment>/<run>/  config.yaml  run.json  metrics.csv  metrics.json  checkpoints/  samples/  logs/

A zoo entry has the same files, but `weights.safetensors` (the averaged weights alone) instead of checkpoints/.
Importing this module does not import torch.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai import __version__
from genai.errors import DamagedFileError, UserError
from genai.files import os_errors_as_write_errors, read_bounded
from genai.runs.files import check_types, is_numbers, read_object
from genai.runs.yaml_files import MAX_CHARACTERS, parse_yaml
from genai.shipped import SHIPPED
from genai.terminal import all_visible, visible

if TYPE_CHECKING:
    from genai.models.base import Model

REPOSITORY = Path(__file__).parents[2]
TIME = "%Y-%m-%dT%H:%M:%S%z"  # of `started` and `resumed` in run.json
FORMAT = 2  # of the run directory; raised when older runs can no longer be read
RECORD = {  # of run.json
    **dict.fromkeys(("data", "model", "command", "started", "resumed", "job", "tracker_id", "label_kind"), str),
    **dict.fromkeys(("class_names", "label_examples", "label_exclusive", "resumed_with"), list),
    "seed": int,
    "versions": dict,
}
NUMBERS = ("seconds", "train_flops", "energy_kwh", "peak_memory", "sample_flops")
COST: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(NUMBERS, (int, float)),
    "step_flops": dict,
    "device": str,
    "energy_source": str,
}  # and of sampling
LARGEST = 1e100  # score
PROTOCOL_TEXTS = ("data", "fingerprint", "split", "features", "weights_sha256", "resize", "tokenizer")  # others are integers
EVALUATION = {"scores": dict, "floor": dict, "images_seen": int}  # of a split in metrics.json


@dataclass(frozen=True)
class Run:
    """A run directory or a zoo entry."""

    path: Path

    @property
    def name(self) -> str:
        """`experiment/run`, or `zoo/NAME`, as it can be printed."""
        return visible(f"{self.full_path.parent.name}/{self.full_path.name}")

    @property
    def full_path(self) -> Path:
        """The path from the root, which has a name and a parent where `path` is `.` or a single name."""
        return Path(os.path.abspath(self.path))

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def is_exported(self) -> bool:
        return self.weights.is_file()

    @property
    def is_text(self) -> bool:
        """Whether it is a run of a model of text, whose metrics are others."""
        try:
            return "vocab_size" in self.raw_record()
        except DamagedFileError:
            return False

    def checkpoint(self, which: str = "best") -> Path:
        """The checkpoint `best` (by validation FID), `last`, or a file of that name.

        `last` stands in for `best` where no epoch was scored.

        Raises:
            UserError: there is no such checkpoint.
        """
        folder = self.path / "checkpoints"
        candidates = [folder / "best.ckpt", folder / "last.ckpt"] if which == "best" else [folder / f"{which}.ckpt"]
        for path in [*candidates, Path(which)]:
            if path.is_file():
                return path
        there = ", ".join(sorted(path.stem for path in folder.glob("*.ckpt"))) or "none; train it with `genai fit`"
        raise UserError(f"{self.path} has no checkpoint `{which}` (there: {there})")

    def config_bytes(self) -> bytes:
        """config.yaml as it lies there; DamagedFileError where it cannot be read."""
        try:
            return read_bounded(self.path / "config.yaml", 4 * MAX_CHARACTERS)
        except OSError as error:
            raise DamagedFileError(f"{self.path} has no config.yaml that can be read ({error.strerror})") from None

    def config(self, content: bytes | None = None) -> dict[str, Any]:
        """What config.yaml says; it is not checked, see trust.py.

        Args:
            content: its bytes where they were read already.

        Raises:
            DamagedFileError: it is not YAML, or not that of a config.
        """
        source = self.path / "config.yaml"
        text = (self.config_bytes() if content is None else content).decode(errors="replace")
        config = parse_yaml(text, source)
        if not isinstance(config, dict) or not all(isinstance(config.get(name), dict) for name in ("model", "data")):
            raise DamagedFileError(f"{source} is not a config of a run: it has no sections `model` and `data`")
        return config

    def record(self) -> dict[str, Any]:
        """What run.json says: shapes, seed, command, versions, tracker id.

        Raises:
            UserError: another version of genai wrote the run, in a format that this one does not read.
            DamagedFileError: the file is damaged.
        """
        record = self.raw_record()
        if record.get("format") != FORMAT:
            versions = record.get("versions")
            wrote = versions.get("genai") if isinstance(versions, dict) else None
            raise UserError(
                f"{self.path} has run format {record.get('format', 1)} (written by genai {wrote or 'of an unknown version'}), "
                f"and genai {__version__} reads format {FORMAT}: use the version that wrote it, or train it again"
            )
        path = self.path / "run.json"
        check_types(record, {name: kind for name, kind in RECORD.items() if name in record}, path)
        for name in ("class_names", "resumed_with"):
            if not all(isinstance(text, str) for text in record.get(name, [])):
                raise DamagedFileError(f"{path} is damaged (it has no texts as {name})")
        return record

    def raw_record(self) -> dict[str, Any]:
        """What run.json says, of a run of any version; DamagedFileError where it is not JSON object.

        Its texts are those that can be printed, but for the tokenizer, which needs its own.
        """
        content = read_object(self.path / "run.json")
        return all_visible(content) | {name: content[name] for name in ("tokenizer",) if name in content}

    def scores(self) -> dict[str, Any]:
        """What metrics.json says, by split; empty before the first score.

        Raises:
            DamagedFileError: the file is damaged, or a split has no evaluation of numbers.
        """
        path = self.path / "metrics.json"
        content = all_visible(read_object(path)) if path.is_file() else {}
        for split in ("val", "test"):
            if split in content:
                check_types(content, {split: dict}, path)
                check_evaluation(content[split], path)
        for part in ("cost", "sampling"):
            if part in content:
                check_types(content, {part: dict}, path)
                check_types(content[part], {name: kind for name, kind in COST.items() if name in content[part]}, path)
                flops = content[part].get("step_flops", {})
                number: tuple[type, ...] = (int, float)
                check_types(flops, dict.fromkeys(flops, number), path)
        return content


def check_evaluation(evaluation: dict[str, Any], path: Path) -> None:
    """Raise DamagedFileError unless a split's entry of the metrics.json at `path` has numbers as scores, and a protocol."""
    check_types(evaluation, EVALUATION | ({"protocol": dict} if "protocol" in evaluation else {}), path)
    protocol = {name: value for name, value in evaluation.get("protocol", {}).items() if value is not None}
    check_types(protocol, {name: str if name in PROTOCOL_TEXTS else int for name in protocol}, path)
    if "parameters" in evaluation:
        check_types(evaluation, {"parameters": dict}, path)
        check_types(evaluation["parameters"], dict.fromkeys(evaluation["parameters"], int), path)
    shares = evaluation.get("class_shares") or {}
    check_types({"class_shares": shares}, {"class_shares": dict}, path)
    check_types(shares, dict.fromkeys(("names", "samples", "reference"), list) if shares else {}, path)
    if shares and not len(shares["names"]) == len(shares["samples"]) == len(shares["reference"]):
        raise DamagedFileError(f"{path} is damaged (it has class_shares of different lengths)")
    if not is_numbers([*shares.get("samples", ()), *shares.get("reference", ())]):
        raise DamagedFileError(f"{path} is damaged (it has no numbers as class_shares)")
    overrides = evaluation.get("overrides", [])
    if not isinstance(overrides, list) or not all(isinstance(option, str) for option in overrides):
        raise DamagedFileError(f"{path} is damaged (it has no options as overrides)")
    for part in ("scores", "floor"):
        values = {name: value for name, value in evaluation[part].items() if value is not None}
        check_types(values, dict.fromkeys(values, (int, float)), path)
        if large := next((name for name, value in values.items() if LARGEST < abs(value) < inf), None):
            raise DamagedFileError(f"{path} is damaged (it has too large a number as {large})")


def runs_folder() -> Path:
    """Where runs are written: $GENAI_RUNS, or runs/ here."""
    return Path(os.environ.get("GENAI_RUNS", "runs"))


def is_run(path: Path) -> bool:
    """Whether there is a run at `path`; False where the system does not let this user look."""
    try:
        return (path / "run.json").is_file() and (path / "config.yaml").is_file()
    except OSError:
        return False


def all_runs(folder: Path | None = None) -> Iterator[Run]:
    """Every run below `folder`, oldest first."""
    paths = [path for path in (folder or runs_folder()).glob("*/*/run.json") if is_run(path.parent)]
    return iter(sorted((Run(path.parent) for path in paths), key=changed))


def changed(run: Run) -> tuple[float, float]:
    """When a run was started or last resumed, in seconds since 1970, and when its run.json was written.

    A copied run keeps the first, not the second, which alone decides for a run.json that is damaged.
    """
    written = (run.path / "run.json").stat().st_mtime
    with suppress(UserError, LookupError, TypeError, ValueError, OverflowError):
        record = run.raw_record()
        return datetime.strptime(record.get("resumed") or record["started"], TIME).timestamp(), written
    return written, written


def find(name: str | Path, trained: bool = True) -> Run:
    """The run called `name`: a folder, `experiment/run`, an experiment (its newest run), `zoo/NAME` or `hf://user/name`.

    Args:
        name: what a user calls the run.
        trained: prefer an experiment's newest run with a checkpoint, so that a failed run does not hide an earlier one.

    Raises:
        UserError: there is none.
    """
    if str(name).startswith("hf://"):
        from genai.runs.hub import download

        return download(str(name))
    for base in (Path(), runs_folder(), SHIPPED):
        path = base / name
        if is_run(path):
            return Run(path)
        oldest_first = sorted((Run(p) for p in path.glob("*") if is_run(p)), key=changed)
        with_checkpoint = [run for run in oldest_first if trained and any(run.path.glob("checkpoints/*.ckpt"))]
        if oldest_first:
            newest = (with_checkpoint or oldest_first)[-1].path
            if newest.name != visible(newest.name):
                raise UserError(f"the newest run of {name} is called {newest.name!r}: rename its folder, or name another run")
            return Run(newest)
    raise UserError(f"there is no run `{name}`: `genai runs` lists the runs, `genai fit -c PRESET` makes one")


def create(experiment: str, folder: Path | None = None) -> Run:
    """Make a new, empty run directory named after the time; never one that exists."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in ("", *(f"-{i}" for i in range(1, 1000))):
        path = (folder or runs_folder()) / experiment / f"{stamp}{suffix}"
        with os_errors_as_write_errors(path), suppress(FileExistsError):
            path.mkdir(parents=True)
            return Run(path)
    raise UserError(f"could not make a new folder in {path.parent}: start the run again")


def load(run: "str | Path | Run", checkpoint: str = "best", device: str = "cpu", trust: Sequence[str] = ()) -> "Model":
    """The trained model of a run or zoo entry, in eval mode; it samples with its averaged weights.

    Args:
        run: a run directory, `experiment/run`, an experiment (its newest run), `zoo/NAME` or `hf://user/name`.
        checkpoint: `best`, `last` or a path; a zoo entry has one set of weights.
        device: of the model.
        trust: packages whose classes the config may name, besides genai and torch; a run of this user's own needs none.

    Raises:
        UserError: no such run, a checkpoint of another model, or a class that is not trusted.
    """
    from genai.runs.loading import load_model

    return load_model(run if isinstance(run, Run) else find(run), checkpoint, device, trust)
