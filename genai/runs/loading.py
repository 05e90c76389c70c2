"""From a run directory to a model."""

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from safetensors import SafetensorError
from safetensors.torch import load

from genai.errors import DamagedFileError, UserError
from genai.models.base import Model
from genai.runs import Run
from genai.runs.files import check_types
from genai.runs.trust import Policy, instantiate, read_config


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, loaded without running code from it.

    Raises:
        DamagedFileError: it is damaged, if only in one bit, or a crafted pickle.
        UserError: there is none, or it is no checkpoint of Lightning.
    """
    try:
        checkpoint: Any = load_whole(path)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    except Exception as error:  # bytes that are no checkpoint make torch.load raise anything, a KeyError too
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedFileError(f"{path} is damaged or not a checkpoint of ours ({reason}): use {whole_beside(path)}") from None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise UserError(f"{path} is not a checkpoint: it has no state_dict")
    return checkpoint


def load_whole(path: Path) -> Any:
    """What `torch.save` wrote to `path`; zipfile.BadZipFile where a checksum of the archive does not fit.

    torch writes the checksums and does not compare them. A file that passes can still differ from what was written in bytes
    that carry no content, such as padding.
    """
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"its part {damaged} does not fit its checksum")
    return torch.load(path, map_location="cpu", weights_only=True)


def whole_beside(path: Path) -> str:
    """How to name a checkpoint in the folder of a damaged one that can be read."""
    for other in (path.with_name(f"{name}.ckpt") for name in ("previous", "last", "best")):
        try:
            load_whole(other)
        except Exception:  # as above
            continue
        return f"the one before it, --checkpoint {other.stem}" if other.stem == "previous" else f"--checkpoint {other.stem}"
    return "another run, there is no whole one beside it"


def build_model(config: dict[str, Any], record: dict[str, Any], policy: Policy | None = None) -> Model:
    """Instantiate the `model` section of a run's config with the shapes its data had.

    Args:
        config: that of a run.
        record: what run.json says.
        policy: what the config may name; by default everything, for a config of the user's own.

    Raises:
        UserError: the config names what it may not name, or run.json has no shapes.
    """
    policy = policy or Policy(Path("config.yaml"), unrestricted=True)
    policy.check(config["model"], "model")
    shapes = {key: record.get(key) for key in ("image_shape", "num_classes")}
    sizes = shapes["image_shape"]
    if not isinstance(sizes, list) or not all(isinstance(size, int) for size in (*sizes, shapes["num_classes"])):
        raise UserError(f"{policy.source.with_name('run.json')} has no image_shape and num_classes: the run cannot be read")
    init_args = {**(config["model"].get("init_args") or {}), **shapes}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Model, "model")
    section = {**config["model"], "init_args": init_args}
    model: Model = instantiate(parser, {"model": section}, policy).model
    return model


def import_weights(model: Model, entry: Run) -> None:
    """Give `model` the averaged weights of a zoo entry.

    Raises:
        DamagedFileError: the file is damaged, if only in one bit: it does not fit the SHA-256 in run.json (entries that an
            earlier genai wrote have none).
        UserError: it holds the weights of another model.
    """
    path, expected = entry.weights, entry.raw_record().get("weights_sha256")
    try:
        content = path.read_bytes()
        if expected is not None and hashlib.sha256(content).hexdigest() != expected:
            raise DamagedFileError(f"{path} does not fit its weights_sha256 in run.json: copy the zoo entry again")
        model.import_state(load(content))
    except (OSError, SafetensorError) as error:
        raise DamagedFileError(f"{path} cannot be read ({error}): copy the zoo entry again") from None
    except RuntimeError as error:
        raise UserError(f"{path} holds the weights of another model: {first_difference(error)}") from None


def first_difference(error: RuntimeError) -> str:
    """The first thing that torch's `load_state_dict` complains of, without the list of all the others."""
    reason = str(error).splitlines()[-1].strip()
    first, *others = reason.split(", ") if "key(s) in state_dict" in reason else [reason]
    return f"{first} and {len(others)} more" if others else first


def load_model(run: Run, checkpoint: str, device: str, trust: Sequence[str]) -> Model:
    """See `genai.load`."""
    if run.is_exported and checkpoint not in ("best", "last"):
        raise UserError(f"{run.path} is a zoo entry with one set of weights: leave --checkpoint {checkpoint} out")
    config, policy = read_config(run, trust)
    record = run.record()
    model = build_model(config, record, policy)
    if run.is_exported:
        import_weights(model, run)
        check_types(record, {"images_seen": int}, run.path / "run.json")
        model.images_seen = record["images_seen"]
    else:
        path = run.checkpoint(checkpoint)
        content = read_checkpoint(path)
        try:
            model.load_state_dict(content["state_dict"])
        except RuntimeError as error:
            reason = f"{first_difference(error)}; name a checkpoint of this run, or leave --checkpoint out"
            raise UserError(f"{path} is a checkpoint of another model than {run.path}/config.yaml: {reason}") from None
        check_types(content, {"images_seen": int}, path)
        model.images_seen = content["images_seen"]
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:  # torch's own ways to say that there is no such device
        raise UserError(f"the device {device} cannot be used here ({str(error).splitlines()[0]}): try --device cpu") from None
