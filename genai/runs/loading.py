"""From a run directory to a model."""

import hashlib
import os
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import torch
from jsonargparse import ArgumentParser
from safetensors import SafetensorError
from safetensors.torch import load

from genai.errors import DamagedFileError, Notice, UserError
from genai.models.base import IMAGE_SIZES, TEXT_SIZES, Model
from genai.runs import Run
from genai.runs.files import check_types
from genai.runs.trust import Policy, instantiate, read_config

PIECE = 2**20  # bytes of a checkpoint that are read at a time
MARK = b"genai sha256 "
COMMENT_BYTES = len(MARK) + 64


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, loaded without running code from it.

    Raises:
        DamagedFileError: it is damaged, if only in one bit, or a crafted pickle.
        UserError: there is none, or it is not a checkpoint of Lightning.
    """
    try:
        checkpoint: Any = load_verified(path)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}: use {intact_checkpoint_beside(path)}") from None
    except Exception as error:  # bytes that are no checkpoint make torch.load raise anything, a KeyError too
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedFileError(
            f"{path} is damaged or not a checkpoint of ours ({reason}): use {intact_checkpoint_beside(path)}"
        ) from None
    return checked(checkpoint, path)


def checked(checkpoint: Any, path: Path) -> dict[str, Any]:
    """What the file at `path` holds, if it is a checkpoint; see `read_checkpoint`."""
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise UserError(f"{path} is not a checkpoint: it has no state_dict")
    versions = getattr(state, "_metadata", {})
    if not isinstance(versions, dict) or not all(isinstance(own, dict) for own in versions.values()):
        raise DamagedFileError(f"{path} is damaged (the state_dict has no versions of its modules)")
    if has_stretched_tensor(checkpoint):
        raise DamagedFileError(f"{path} is damaged (it has a tensor with more elements than are stored)")
    found: dict[str, Any] = checkpoint
    return found


def has_stretched_tensor(content: Any) -> bool:
    """Whether a nested value has a tensor that repeats a few stored numbers: a copy of it could fill the memory."""
    parts, seen = [content], set[int]()
    while parts:
        part = parts.pop()
        if isinstance(part, torch.Tensor):
            if part.layout == torch.strided and part.nbytes > part.untyped_storage().nbytes():
                return True
        elif isinstance(part, dict | list | tuple) and id(part) not in seen:
            seen.add(id(part))  # a list may hold itself
            parts += part.values() if isinstance(part, dict) else part
    return False


def write_digest(file: IO[bytes]) -> None:
    """Add the SHA-256 of a whole checkpoint to it, as the comment of its zip archive; `file` is open to read and write."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    comment = MARK + digest.encode()
    file.seek(-2, os.SEEK_END)  # the length of the comment, which is none so far
    file.write(len(comment).to_bytes(2, "little") + comment)


def load_verified(path: Path) -> Any:
    """What `torch.save` wrote to `path`; zipfile.BadZipFile where it is not what was written.

    A checkpoint with a digest is compared with it, byte for byte. Those of other programs have none; the checksums of their
    members are compared, which torch does not do.
    """
    with path.open("rb") as file:
        start = max(file.seek(0, os.SEEK_END) - COMMENT_BYTES, 0)
        file.seek(start)
        tail = file.read()
        at = tail.find(MARK)  # not 0 if the file was cut
        if at >= 0:
            file.seek(0)
            digest, left = hashlib.sha256(), start + at - 2
            while piece := file.read(min(PIECE, left)):
                digest.update(piece)
                left -= len(piece)
            digest.update(bytes(2))  # the comment's length before there was one
            if tail[at + len(MARK) :] != digest.hexdigest().encode():
                raise zipfile.BadZipFile("it does not fit its digest")
        else:
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():  # testzip looks for members by name, and misses some
                    with archive.open(member) as part:
                        while part.read(PIECE):
                            pass
    return torch.load(path, map_location="cpu", weights_only=True)


def intact_checkpoint_beside(path: Path) -> str:
    """How to name a checkpoint in the folder of a damaged one that can be read."""
    for other in (path.with_name(f"{name}.ckpt") for name in ("previous", "last", "best")):
        try:
            load_verified(other)
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
    of_text = (*TEXT_SIZES, *(["num_classes"] if "num_classes" in record else []))
    names = of_text if "vocab_size" in record else IMAGE_SIZES
    sizes = {name: record.get(name) for name in names}
    numbers = [number for value in sizes.values() for number in (value if isinstance(value, list) else [value])]
    if not all(isinstance(number, int) for number in numbers) or not isinstance(sizes.get("image_shape", []), list):
        raise UserError(
            f"{policy.source.with_name('run.json')} has no {' and '.join(names)}: restore that file, or train the run again"
        )
    init_args = {**(config["model"].get("init_args") or {}), **sizes}
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
        if checkpoint == "best" and path.name == "last.ckpt":
            warnings.warn(f"{run.path} has no best.ckpt, so its last.ckpt was used", Notice, stacklevel=2)
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
