"""Attribute predictors: what reads the attributes of images, to find directions and to measure edits."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from genai.control.strokes import STROKES, stroke_scores
from genai.data.arrays import ImageArray
from genai.errors import UserError
from genai.images import to_float
from genai.metrics.features import FeatureNetwork, default_features, load_extractor, names
from genai.metrics.features.trained import weights_path
from genai.models.capabilities import Classifies
from genai.runs import Run, find, load
from genai.runs.data import data_of

PIXELS = "pixels"
MAX_TRAINING = 8_000  # images that the predictor of pixels is fitted to
UNSEEN = -30.0  # the logit of a class without training images
MAX_PIXELS = 32  # side of the images that it reads; larger ones are averaged
BATCH_SIZE = 500
AGE, YOUNG, OLD = "age", "young", "old"
OF_STROKES = ("digits", "mnist")  # data of one stroke of light ink on a dark ground


@dataclass(frozen=True)
class AttributePredictor:
    """Reads K attributes, or K classes, from images.

    Attributes:
        name: of a feature network, of a run, or `pixels`.
        sha256: of its weights; two predictors are the same if this is.
        attributes: names of the K attributes or classes.
        num_exclusive: the first so many of them are classes, which exclude each other; 0 for attributes.
        scores: uint8 images (N, C, H, W) -> (N, K) float32, positive where an image has the attribute; log-odds, except for
            measures of the stroke.
        embed: uint8 images (N, C, H, W) -> features (N, D) float32.
    """

    name: str
    sha256: str
    attributes: tuple[str, ...]
    num_exclusive: int
    scores: Callable[[Tensor], Tensor]
    embed: Callable[[Tensor], Tensor]

    def index(self, attribute: str) -> int:
        """Number of an attribute; UserError if the predictor does not know it."""
        if attribute not in self.attributes:
            raise UserError(
                f"the predictor `{self.name}` does not know {attribute!r}: choose from {', '.join(self.attributes)}, or name "
                "another one with --predictor"
            )
        return self.attributes.index(attribute)


def load_predictor(name: str | None, data: Any, trust: Sequence[str] = ()) -> AttributePredictor:
    """The predictor `name` for images of a data module.

    Args:
        name: a feature network, the run of a classifier, or `pixels`, which is fitted here to training images; None for the
            feature network of the data.
        data: a data module; its files are opened for `pixels` and for measures of the stroke alone.
        trust: packages that the config of a run may name.

    Raises:
        UserError: there is no such predictor, or it names no attributes.
    """
    if name == PIXELS:
        predictor = fitted_to_pixels(data.split("train"), data)
    elif name is not None and (run := run_named(name)) is not None:
        predictor = of_classifier_run(run, trust)
    else:
        predictor = of_feature_network(load_extractor(name or known_features(data.name)))
    if {YOUNG, OLD} <= set(predictor.attributes):
        predictor = with_age(predictor)
    return with_strokes(predictor, data.split("train")) if data.name in OF_STROKES else predictor


def run_named(name: str) -> Run | None:
    """The run directory or the newest run of the experiment `name`; None if there is none, or it is a feature network."""
    if name in names():
        return None
    try:
        return find(name)
    except UserError:
        return None


def known_features(data_name: str) -> str:
    """The feature network that knows the attributes of a dataset.

    Raises:
        UserError: none does.
    """
    name = default_features(data_name)
    if name == "inception" and weights_path(data_name).is_file():
        return data_name
    if name == "inception":
        raise UserError(
            f"no feature network knows the attributes of {data_name}: name one, or the run of a classifier, with --predictor; "
            "--predictor pixels fits one to labelled images"
        )
    return name


# -- kinds of predictors -------------------------------------------------------------------------------------------------


def of_feature_network(network: FeatureNetwork) -> AttributePredictor:
    """A feature network as a predictor; UserError if its outputs have no names."""
    if not network.class_names:
        raise UserError(f"the feature network `{network.name}` names no attributes: name another one with --predictor")
    is_class = network.task == "class"

    def scores(images: Tensor) -> Tensor:
        logits = in_batches(lambda part: network(part).logits, images)
        return class_log_odds(logits) if is_class else logits

    def embed(images: Tensor) -> Tensor:
        return in_batches(lambda part: network(part).pool, images)

    num = network.num_classes if is_class else 0
    return AttributePredictor(Path(network.name).name, network.weights_sha256, network.class_names, num, scores, embed)


def of_classifier_run(run: Run, trust: Sequence[str] = ()) -> AttributePredictor:
    """The classifier of a run as a predictor; UserError if its model is no classifier."""
    loaded = load(run, trust=trust)
    if not isinstance(loaded, Classifies):
        raise UserError(
            f"{run.path} is a {type(loaded).__name__}, not a classifier: train one as configs/digits/features.yaml does"
        )
    model: Any = loaded
    record = run.record()
    names = tuple(record["class_names"])
    is_class = (record.get("label_kind") or data_of(run, trust).label_kind) == "class"

    def resized(images: Tensor) -> Tensor:
        size = model.image_shape[1:]
        x = to_float(images)
        return x if x.shape[2:] == size else interpolate(x, size, mode="bilinear", antialias=True)

    def scores(images: Tensor) -> Tensor:
        probabilities = in_batches(lambda part: model.predict(resized(part)), images).double().clamp(1e-12, 1 - 1e-12)
        return probabilities.logit().float()

    def embed(images: Tensor) -> Tensor:
        return in_batches(lambda part: model.averaged.network.features(resized(part)), images)

    state = {name: value.float().numpy() for name, value in model.averaged.state_dict().items()}
    return AttributePredictor(run.name, digest_of(state.values()), names, len(names) if is_class else 0, scores, embed)


def fitted_to_pixels(split: ImageArray, data: Any) -> AttributePredictor:
    """One hidden layer on the pixels, at most 32 in a row, fitted by scikit-learn to up to 8,000 training images.

    Raises:
        UserError: the images have neither classes nor attributes.
    """
    from sklearn.neural_network import MLPClassifier

    if data.label_kind not in ("class", "attributes"):
        raise UserError(f"{data.name} has no labels to fit `{PIXELS}` to: name a feature network with --predictor")
    rows = np.linspace(0, len(split) - 1, min(len(split), MAX_TRAINING)).astype(int)
    factor = max(1, split.images.shape[-1] // MAX_PIXELS)

    def pixels(images: Tensor) -> Tensor:
        return avg_pool2d(images.float() / 255, factor).flatten(1)

    network = MLPClassifier((256,), max_iter=25, n_iter_no_change=25, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, about the number of epochs
        network.fit(pixels(split.batch(rows).images).numpy(), split.labels[rows])
    layers = [torch.from_numpy(np.asarray(value, np.float32)) for value in (*network.coefs_, *network.intercepts_)]
    w_1, w_2, b_1, b_2 = layers
    names = tuple(data.class_names)
    is_class = data.label_kind == "class"

    def embed(images: Tensor) -> Tensor:
        return (pixels(images) @ w_1 + b_1).relu()

    def scores(images: Tensor) -> Tensor:
        logits = embed(images) @ w_2 + b_2
        if not is_class:
            return logits
        if logits.shape[1] == 1:  # scikit-learn's single output for two classes
            logits = torch.cat([-logits, logits], dim=1) / 2
        of_all = logits.new_full((len(logits), len(names)), UNSEEN)
        of_all[:, network.classes_] = logits
        return class_log_odds(of_all)

    return AttributePredictor(PIXELS, digest_of(v.numpy() for v in layers), names, len(names) if is_class else 0, scores, embed)


def with_strokes(predictor: AttributePredictor, split: ImageArray) -> AttributePredictor:
    """`predictor`, and the measures of the stroke, `thick` and `slanted`, relative to the median of training images."""
    measure = stroke_scores(torch.from_numpy(split.images[:5000].copy()))

    def scores(images: Tensor) -> Tensor:
        return torch.cat([predictor.scores(images), measure(images)], dim=1)

    names = (*predictor.attributes, *STROKES)
    return AttributePredictor(predictor.name, predictor.sha256, names, predictor.num_exclusive, scores, predictor.embed)


def with_age(predictor: AttributePredictor) -> AttributePredictor:
    """`predictor`, and `age`: the log-odds of `old` minus those of `young`, which rise with age also between the two."""
    young, old = predictor.index(YOUNG), predictor.index(OLD)

    def scores(images: Tensor) -> Tensor:
        own = predictor.scores(images)
        return torch.cat([own, own[:, old : old + 1] - own[:, young : young + 1]], dim=1)

    names = (*predictor.attributes, AGE)
    return AttributePredictor(predictor.name, predictor.sha256, names, predictor.num_exclusive, scores, predictor.embed)


def read_labels(predictor: AttributePredictor, images: Tensor) -> list[str]:
    """What the predictor reads from uint8 images (N, C, H, W): the name of the class, or of the attributes, of each."""
    scores = predictor.scores(images)
    if predictor.num_exclusive:
        return [predictor.attributes[k] for k in scores[:, : predictor.num_exclusive].argmax(dim=1).tolist()]
    return [", ".join(name for name, value in zip(predictor.attributes, row, strict=True) if value > 0) for row in scores]


def accuracy(predictor: AttributePredictor, split: ImageArray, label_names: Sequence[str], most: int = 2000) -> float | None:
    """Share of the labels of real images that the predictor reads rightly: of classes, or of all attributes that both know.

    Args:
        predictor: to be checked.
        split: real images with classes (N,), attributes (N, K), or captions or no labels, for which nothing can be said.
        label_names: of the classes or attributes.
        most: images that are read.
    """
    images, labels = split.batch(range(min(most, len(split))))
    scores = predictor.scores(images)
    if labels.ndim == 1:
        names = predictor.attributes[: predictor.num_exclusive]
        read = scores[:, : len(names)].argmax(dim=1) if names and names == tuple(label_names) else None
        return None if read is None else float((read == labels).float().mean())
    common = [] if labels.dtype == torch.int64 else [name for name in predictor.attributes if name in label_names]
    if not common:
        return None
    read = scores[:, [predictor.index(name) for name in common]] > 0
    truth = labels[:, [list(label_names).index(name) for name in common]] > 0.5
    return float((read == truth).float().mean())


# -- parts ---------------------------------------------------------------------------------------------------------------


def class_log_odds(logits: Tensor) -> Tensor:
    """Logits (N, K) of classes -> ln p_k / (1 - p_k), (N, K)."""
    others = (torch.cat([logits[:, :k], logits[:, k + 1 :]], dim=1) for k in range(logits.shape[1]))
    return logits - torch.stack([rest.logsumexp(dim=1) for rest in others], dim=1)


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor | None], images: Tensor) -> Tensor:
    """`function` of images (N, ...), some at a time, on the CPU in float32."""
    parts = [function(part) for part in images.split(BATCH_SIZE)]
    return torch.cat([part.float().cpu() for part in parts if part is not None])


def digest_of(arrays: Any) -> str:
    """SHA-256 of numpy arrays, in hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def exclusive_attributes(names: Sequence[str], num_classes: int, pairs: Sequence[Sequence[str]] = ()) -> Tensor:
    """(K, K) bool: whether two attributes exclude each other, or are the same.

    Args:
        names: of the K attributes; the first `num_classes` are classes, which exclude each other.
        num_classes: 0 if there are no classes.
        pairs: names of attributes that exclude each other; others are ignored. `age`, `young` and `old` always do.
    """
    result = torch.eye(len(names), dtype=torch.bool)
    result[:num_classes, :num_classes] = True
    index = {name: k for k, name in enumerate(names)}
    for one, other in (*pairs, (YOUNG, OLD), (AGE, YOUNG), (AGE, OLD)):
        if one in index and other in index:
            result[index[one], index[other]] = result[index[other], index[one]] = True
    return result
