"""genai export --onnx: onnxruntime generates what torch generates, from the same random numbers, for any batch size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from genai.cli import main
from genai.models.gan.cluster_conditioning import ClusterConditioning
from genai.models.gan.gan import GAN
from genai.models.vqvae.code_sampling import CodeSampling
from genai.networks.mlp import MLPDiscriminator, MLPGenerator
from genai.runs import REPOSITORY, find, load
from genai.runs.graphs import cluster_quantiles, latents_of, sampling_graph
from genai.runs.onnx import example
from tests.models.test_vqvae import random_model

TOLERANCE = 1e-3 * 2  # of the range [-1, 1]
IMAGES = [
    path.parent.name for path in sorted(REPOSITORY.glob("zoo/*/run.json")) if "image_shape" in json.loads(path.read_text())
]


def onnx_images(path: Path, arguments: list[Tensor]) -> np.ndarray:
    """What onnxruntime computes."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    named = zip(session.get_inputs(), arguments, strict=True)
    images: np.ndarray = session.run(None, {own.name: value.numpy() for own, value in named})[0]
    return images


def check(name: str, tmp_path: Path) -> None:
    """Export a zoo entry and compare batches of five and of one with `sample` in float32."""
    pytest.importorskip("onnxscript")
    path = tmp_path / "graph.onnx"
    assert main(["export", name, str(path), "--onnx"]) == 0
    run, model = find(name), load(name)
    options = {"bfloat16": False} if hasattr(model, "sampling") else {}
    for seeds in (range(5), range(7, 8)):
        arguments = example(run, sampling_graph(model), seeds)
        condition = arguments[-1] if model.conditional else None
        expected = model.sample(seeds, condition, **options).numpy()
        assert np.abs(onnx_images(path, arguments) - expected).max() < TOLERANCE


@pytest.mark.slow
def test_the_graph_of_a_gan(tmp_path: Path) -> None:
    check("zoo/mnist-gan", tmp_path)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", IMAGES)
def test_the_graph_of_every_zoo_entry(name: str, tmp_path: Path) -> None:
    check(f"zoo/{name}", tmp_path)


@pytest.fixture
def nothing_compiled() -> None:
    """Loops of other lengths are forgotten: outside of an export, torch compiles a loop, and a second length as any length."""
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("nothing_compiled")
def test_the_loop_of_pixels_samples_what_the_model_samples() -> None:
    model = load("zoo/mnist-pixels")
    graph = sampling_graph(model)
    assert torch.equal(graph(*graph.random(range(2))), model.sample(range(2)))


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_compiled")
def test_the_loop_of_codes_samples_what_the_prior_samples() -> None:
    model = random_model(conditional=True, code_sampling=CodeSampling(guidance_scale=2.0, top_k=9))
    graph, labels = sampling_graph(model), torch.tensor([0, 1, 2])
    assert torch.allclose(graph(*graph.random(range(3)), labels), model.sample(range(3), labels), atol=1e-5)


def test_a_text_has_no_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "zoo/shakespeare-mingru", str(tmp_path / "text.onnx"), "--onnx"]) == 2
    assert "have no ONNX graph: name a model of images" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_clusters_are_chosen_as_in_sampling() -> None:
    settings = ClusterConditioning(num_clusters=5)
    model = GAN((1, 4, 4), 0, generator=MLPGenerator, discriminator=MLPDiscriminator, cluster_conditioning=settings)
    assert model.clusters is not None
    model.clusters.shares.copy_(torch.tensor([[0.1, 0.4, 0.0, 0.3, 0.2]]))
    noise = torch.randn(2000, model.layout.noise_dim, generator=torch.Generator().manual_seed(0))
    assert torch.equal(latents_of(model, noise, cluster_quantiles(model)), model.layout.from_noise(noise))


def test_a_graph_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"mine")
    assert main(["export", "zoo/mnist-gan", str(tmp_path), "--onnx"]) == 2
    assert path.read_bytes() == b"mine"
    assert len(capsys.readouterr().err.splitlines()) == 1
