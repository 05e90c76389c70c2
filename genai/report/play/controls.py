"""Which controls a model gets in the playground, from its capabilities."""

from dataclasses import dataclass
from typing import Any

from genai.metrics.features import FeatureNetwork, default_features, load_extractor
from genai.models.capabilities import Decodes, HasSampler, Reconstructs, Restores, Varies
from genai.runs import Run

ALL = "all"  # of a class control: the classes in turn; for an image that is edited, the null condition


@dataclass(frozen=True)
class Controls:
    """The controls of a model.

    Attributes:
        condition: `none`, `class`, `attributes` or `text`.
        choices: names of the classes or attributes.
        steps: default number of sampling steps; None for a model that samples in one step.
        guidance: default guidance scale; None for a model without classifier-free guidance.
        has_latents: whether there is a pad that walks a slice of the latent space, and interpolation.
        edits: what is done with a drawing: some of `reconstruct`, `vary` and `fill in`.
        classifies: whether a feature network of the run's data classifies the drawing.
    """

    condition: str
    choices: tuple[str, ...]
    steps: int | None
    guidance: float | None
    has_latents: bool
    edits: tuple[str, ...]
    classifies: bool

    @property
    def has_canvas(self) -> bool:
        """Whether anything is done with a drawing."""
        return bool(self.edits or self.classifies)


def controls_of(run: Run, model: Any, classifier: FeatureNetwork | None) -> Controls:
    """The controls of a model that samples images.

    Args:
        run: of the model.
        model: in eval mode.
        classifier: see `classifier_of`.
    """
    record = run.record()
    condition = record.get("label_kind", "class") if model.conditional else "none"
    sampling = model.sampling if isinstance(model, HasSampler) else None
    capabilities = {"reconstruct": Reconstructs, "vary": Varies, "fill in": Restores}
    return Controls(
        condition=condition,
        choices=tuple(map(str, record["class_names"])) if condition in ("class", "attributes") else (),
        steps=None if sampling is None else sampling.steps,
        guidance=None if sampling is None or not model.conditional else sampling.guidance_scale,
        has_latents=isinstance(model, Decodes),
        edits=tuple(name for name, capability in capabilities.items() if isinstance(model, capability)),
        classifies=classifier is not None,
    )


def classifier_of(run: Run) -> FeatureNetwork | None:
    """The shipped feature network of the run's data if it classifies these images, else None."""
    name = default_features(run.record()["data"])
    if name == "inception":
        return None
    network = load_extractor(name)
    return network if network.task == "class" and network.class_names else None
