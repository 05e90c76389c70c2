"""From a run directory to a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from safetensors.torch import load_file

from genai.errors import UserError
from genai.models.base import IMAGE_SIZES, TEXT_SIZES, Model
from genai.runs import Run
from genai.runs.trust import Policy, instantiate, read_config


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, loaded without running code from it; UserError when it is damaged or a crafted pickle."""
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    except Exception as error:  # bytes that are no checkpoint make torch.load raise anything, a KeyError too
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is damaged or not a checkpoint of ours ({reason}): use {whole_beside(path)}") from None
    if "state_dict" not in checkpoint:
        raise UserError(f"{path} is not a checkpoint: it has no state_dict")
    return checkpoint


def whole_beside(path: Path) -> str:
    """How to name a checkpoint in the folder of a damaged one that can be read."""
    for other in (path.with_name(f"{name}.ckpt") for name in ("previous", "last", "best")):
        try:
            torch.load(other, map_location="cpu", weights_only=True)
        except Exception:  # as above
            continue
        return f"the one before it, --checkpoint {other.stem}" if other.stem == "previous" else f"--checkpoint {other.stem}"
    return "another run, there is no whole one beside it"


def build_model(config: dict[str, Any], record: dict[str, Any], policy: Policy | None = None) -> Model:
    """Instantiate the `model` section of a run's config with the sizes its data had.

    Args:
        config: that of a run.
        record: what run.json says.
        policy: what the config may name; by default everything, for a config of the user's own.

    Raises:
        UserError: the config names what it may not name, or run.json has no sizes.
    """
    policy = policy or Policy(Path("config.yaml"), unrestricted=True)
    policy.check(config["model"], "model")
    names = TEXT_SIZES if "vocab_size" in record else IMAGE_SIZES
    sizes = {name: record.get(name) for name in names}
    numbers = [number for value in sizes.values() for number in (value if isinstance(value, list) else [value])]
    if not all(isinstance(number, int) for number in numbers) or not isinstance(sizes.get("image_shape", []), list):
        raise UserError(f"{policy.source.with_name('run.json')} has no {' and '.join(names)}: the run cannot be read")
    init_args = {**(config["model"].get("init_args") or {}), **sizes}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Model, "model")
    section = {**config["model"], "init_args": init_args}
    model: Model = instantiate(parser, {"model": section}, policy).model
    return model


def import_weights(model: Model, path: Path) -> None:
    """Give `model` the averaged weights of a zoo entry."""
    try:
        model.import_state(load_file(path))
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
        import_weights(model, run.weights)
        model.images_seen = record["images_seen"]
    else:
        path = run.checkpoint(checkpoint)
        content = read_checkpoint(path)
        try:
            model.load_state_dict(content["state_dict"])
        except RuntimeError as error:
            reason = f"{first_difference(error)}; name a checkpoint of this run, or leave --checkpoint out"
            raise UserError(f"{path} is a checkpoint of another model than {run.path}/config.yaml: {reason}") from None
        model.images_seen = content["images_seen"]
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:  # torch's own ways to say that there is no such device
        raise UserError(f"the device {device} cannot be used here ({str(error).splitlines()[0]}): try --device cpu") from None
