"""Feature networks: frozen, float32, from uint8 images to the features that metrics are computed on.

network.py         `FeatureNetwork`, `Features`, extraction in full precision
trained.py         classifiers trained by this suite: weights/*.safetensors, the user's cache, or a path
stacked_mnist.py   the `mnist` network on each of three channels
inception.py       torch-fidelity's InceptionV3, the network of published FIDs
dinov2.py          DINOv2 from a local folder; needs `pip install genai[dinov2]`

Adding a feature network touches one place: a weights file in genai/metrics/weights (or in the cache), or a module here, named
like the network, with a function `load(weights: Path | None) -> FeatureNetwork`. A function of your own package is named
by its import path, `my_package.features.load`; the config of a run from elsewhere may name it under `--trust my_package`.
"""

import importlib
import re
from pathlib import Path

from genai.errors import UserError
from genai.metrics.features import trained
from genai.metrics.features.network import FeatureNetwork, Features, concatenate, extract

__all__ = ["FeatureNetwork", "Features", "concatenate", "default_features", "extract", "is_import_path", "load_extractor"]

MODULES = {path.stem.replace("_", "-"): path.stem for path in Path(__file__).parent.glob("*.py")}
OWN = {name: stem for name, stem in MODULES.items() if stem not in ("__init__", "network", "trained")}

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def load_extractor(name_or_path: str, weights: str | Path | None = None) -> FeatureNetwork:
    """Load a feature network.

    Args:
        name_or_path: a name of `names`, the path of a .safetensors file, or the import path of a function `load`.
        weights: a weights file to use instead of the default one. `inception` otherwise takes $GENAI_INCEPTION, then
            torch.hub's cache, then a download.

    Raises:
        UserError: the name is unknown, or the weights are missing, damaged or of another network.
    """
    path = Path(weights) if weights else None
    if name_or_path in OWN:
        network: FeatureNetwork = importlib.import_module(f"genai.metrics.features.{OWN[name_or_path]}").load(path)
        return network
    if is_import_path(name_or_path):
        return from_import_path(name_or_path, path)
    if path is None and not name_or_path.endswith(".safetensors") and name_or_path not in trained.names():
        raise UserError(
            f"there is no feature network `{name_or_path}`: choose {', '.join(names())} or the path of a .safetensors file"
        )
    return trained.load(name_or_path, path)


def is_import_path(name: str) -> bool:
    """Whether `load_extractor` would import the module in the name of a feature network, and call a function of it."""
    return name not in OWN and bool(IMPORT_PATH.fullmatch(name)) and not name.endswith(".safetensors")


def from_import_path(name: str, weights: Path | None) -> FeatureNetwork:
    """The network that the function at an import path returns.

    Raises:
        UserError: there is no such function, or it returns something else.
    """
    module, _, function = name.rpartition(".")
    try:
        network = getattr(importlib.import_module(module), function)(weights)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"there is no feature network `{name}` ({error}): name a function, such as my_package.features.load"
        ) from None
    if not isinstance(network, FeatureNetwork):
        raise UserError(f"{name} returns a {type(network).__name__}: it should return a FeatureNetwork")
    return network


def names() -> list[str]:
    """Every feature network that has a name."""
    return [*trained.names(), *OWN]


def default_features(data_name: str) -> str:
    """The feature network of a dataset: the one that is shipped under the dataset's name, else `inception`."""
    return data_name if data_name in (*trained.BUILT_IN, *OWN) else "inception"
