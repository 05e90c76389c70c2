"""Feature networks of one's own: a function at an import path, and DINOv2 from a local folder."""

import sys
from pathlib import Path

import pytest
import torch

from genai.errors import UserError
from genai.metrics.features import load_extractor
from genai.runs.trust import Policy
from tests.metrics.helpers import random_images, write_network

MODULE = """
from pathlib import Path
from genai.metrics.features import load_extractor

def load(weights):
    return load_extractor(str(weights))

def number(weights):
    return 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_features.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield write_network(tmp_path / "small.safetensors")
    sys.modules.pop("my_features", None)


def test_a_function_of_ones_own_is_named_by_its_import_path(package: Path) -> None:
    network = load_extractor("my_features.load", package)
    assert network(random_images(3, seed=0)).pool.shape == (3, 6)
    for name, message in {"my_features.other": "there is no feature network", "my_features.number": "returns a int"}.items():
        with pytest.raises(UserError, match=message):
            load_extractor(name, package)


def test_the_config_of_a_run_from_elsewhere_may_name_it_under_trust_alone(package: Path, tmp_path: Path) -> None:
    section = {"features": "my_features.load"}
    with pytest.raises(UserError, match="--trust my_features"):
        Policy(tmp_path / "config.yaml").check(section, "evaluation")
    Policy(tmp_path / "config.yaml", ("my_features",)).check(section, "evaluation")


def test_dinov2_is_read_from_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28)
    expected = transformers.Dinov2Model(config).eval()
    expected.save_pretrained(tmp_path)
    monkeypatch.setenv("GENAI_DINOV2", str(tmp_path))
    network = load_extractor("dinov2")
    images = random_images(2, seed=0, shape=(3, 224, 224))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (images / 255 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        token = expected(pixels).last_hidden_state[:, 0]
    torch.testing.assert_close(network(images).pool, token, rtol=1e-4, atol=1e-4)
    assert network(images).logits is None
    assert network(random_images(2, seed=0, shape=(1, 8, 8))).pool.shape == (2, 16)
    with pytest.raises(UserError, match="no weights at"):
        load_extractor("dinov2", tmp_path / "nowhere")
