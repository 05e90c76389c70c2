"""`genai.evaluate`: scores of images that are already in memory, from any source."""

import difflib
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

import genai.data
from genai.data.base import ImageDataModule
from genai.errors import UserError
from genai.images import to_uint8
from genai.metrics.evaluation import EvaluationResult, Evaluator
from genai.metrics.features import default_features, extract, load_extractor

BATCH_SIZE = 250


def evaluate(
    images: Tensor | np.ndarray,
    against: str | ImageDataModule = "mnist",
    *,
    split: str = "test",
    features: str = "auto",
    labels: Tensor | np.ndarray | None = None,
    device: str = "cpu",
    two_sample: bool = False,
) -> EvaluationResult:
    """Compute every metric of `images` against a dataset, beside its floor; the result prints as a table.

        print(genai.evaluate(model.sample(range(1000)), "digits"))

    Args:
        images: N images (N, C, H, W) of the dataset's shape, uint8 or floats in [-1, 1]; at least 2, at most as many as the
            training split has. Scores of few images are biased: compare only results with equal protocols.
        against: a dataset (`digits`, `mnist`, `fashion`, `stacked-mnist`, `avatars`, ...) or a data module.
        split: `val` or `test`.
        features: feature network: `auto` (the one shipped under the dataset's name, else `inception`), a name or a path.
        labels: classes (N,) or attributes (N, K) that the images should show, for the label agreement; in the feature network's
            terms.
        device: where features are computed.
        two_sample: also train three small classifiers on the images against real ones, a minute for 5,000 images of 28 pixels.

    Raises:
        UserError: the dataset is unknown, or the images have another shape, range or number.
    """
    data = data_named(against) if isinstance(against, str) else against
    pixels = as_uint8(images)
    if split not in ("val", "test"):
        raise UserError(f"split is {split!r}: use 'val' or 'test'; the floor is measured on the training split")
    if tuple(pixels.shape[1:]) != tuple(data.image_shape):
        raise UserError(
            f"the images have shape {tuple(pixels.shape[1:])}, those of {data.name} {tuple(data.image_shape)} (C, H, W): "
            "resize the images, or give a data module of their shape"
        )
    if labels is not None and len(labels) != len(pixels):
        raise UserError(f"there are {len(labels)} labels for {len(pixels)} images: give one label for each image")
    data.prepare_data()
    data.setup("test")
    limit = len(data.split("train"))
    if not 2 <= len(pixels) <= limit:
        raise UserError(f"there are {len(pixels)} images: an evaluation against {data.name} takes 2 to {limit}")
    network = load_extractor(default_features(data.name) if features == "auto" else features).to(device)
    evaluator = Evaluator.of(data, split, network, len(pixels), seed=None, two_sample=two_sample)
    expected = None if labels is None else torch.as_tensor(labels)
    shape = (len(pixels), len(network.class_names)) if network.task == "attributes" else (len(pixels),)
    if expected is not None and network.class_names and tuple(expected.shape) != shape:
        raise UserError(
            f"the labels have shape {tuple(expected.shape)}, those of the feature network `{network.name}` {shape}: give them "
            "in its order, or none"
        )
    return evaluator.measure(extract(network, pixels.split(BATCH_SIZE)), expected, pixels)


def as_uint8(images: Tensor | np.ndarray) -> Tensor:
    """Images (N, C, H, W), uint8 or floats in [-1, 1] -> uint8 on the CPU.

    Raises:
        UserError: they have another number of dimensions, another type, or values out of range.
    """
    x = torch.as_tensor(images).detach().cpu()
    if x.ndim != 4:
        raise UserError(f"images have shape {tuple(x.shape)}: give (N, C, H, W)")
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise UserError(f"images are {x.dtype}: give uint8, or floats in [-1, 1]")
    if x.numel() and not bool((x.abs() <= 1 + 1e-3).all()):  # NaN as well
        raise UserError(f"images are floats from {x.min():.3g} to {x.max():.3g}: scale them to [-1, 1], or give uint8")
    if x.numel() and x.min() >= 0:
        print("genai: no image has a value below 0, and 0 is grey: images in [0, 1] need `2 * images - 1`", file=sys.stderr)
    return to_uint8(x)


def data_named(name: str) -> ImageDataModule:
    """The data module of a dataset, with its default options.

    Raises:
        UserError: there is no such dataset.
    """
    known = dict(datasets())
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"there is no dataset {name!r}: {hint}choose {', '.join(sorted(known))}, or give a data module")
    cls, options = known[name]
    return cls(**options)


def datasets() -> Iterator[tuple[str, tuple[Any, dict[str, str]]]]:
    """Each dataset of genai.data by name, with its class and the options that select it.

    The name is that of the data module (`data.name`): of a class without required arguments, and of each of its variants.
    """
    for module in pkgutil.walk_packages(genai.data.__path__, "genai.data."):
        for cls in vars(importlib.import_module(module.name)).values():
            if not (inspect.isclass(cls) and issubclass(cls, ImageDataModule)) or is_abstract(cls):
                continue
            parameters = inspect.signature(cls).parameters
            if any(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters.values()):
                continue
            variants = get_args(parameters["variant"].annotation) if "variant" in parameters else ()
            for options in [{"variant": variant} for variant in variants] or [{}]:
                yield cls(**options).name, (cls, options)


def is_abstract(cls: type) -> bool:
    """Whether a class lacks an abstract method; inspect.isabstract knows classes with the metaclass ABCMeta alone."""
    return any(getattr(getattr(cls, name), "__isabstractmethod__", False) for name in dir(cls))
