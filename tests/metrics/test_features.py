"""Feature networks are frozen, adapt what they are given, and say what to do when their weights are missing."""

import time
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from genai.data.base import data_roots
from genai.data.mnist import MNIST, class_names, decimal
from genai.errors import UserError
from genai.metrics.features import default_features, extract, load_extractor, names
from tests.metrics.helpers import random_images, write_network


@pytest.fixture
def network(tmp_path):
    return load_extractor(str(write_network(tmp_path / "small.safetensors")))


def test_features_and_logits_are_those_of_the_network(network):
    features = network(random_images(5, seed=0))
    assert features.pool.shape == (5, 6)
    assert features.logits.shape == (5, 3) == (5, network.num_classes)
    x = random_images(5, seed=0).float() / 127.5 - 1
    torch.testing.assert_close(features.logits, network.embed.network(x))


def test_half_precision_weights_are_computed_with_in_float32(tmp_path):
    network = load_extractor(str(write_network(tmp_path / "half.safetensors", dtype=torch.float16)))
    assert {p.dtype for p in network.embed.parameters()} == {torch.float32}
    assert network(random_images(2, seed=0)).pool.dtype == torch.float32


def test_it_is_frozen_and_never_a_part_of_a_model(network):
    model = nn.Module()
    model.features = network
    model.train()
    assert not list(model.modules())[1:]
    assert not network.embed.training
    assert not any(p.requires_grad for p in network.embed.parameters())


def test_features_ignore_autocast(network):
    images = random_images(4, seed=0)
    plain = network(images)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = network(images)
    assert torch.equal(plain.pool, under_autocast.pool)
    assert torch.equal(plain.logits, under_autocast.logits)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_features_ignore_the_precision_of_matrix_products_and_leave_it_as_it_is(network, precision):
    plain, before = network(random_images(4, seed=0)), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert torch.equal(network(random_images(4, seed=0)).logits, plain.logits)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def test_loading_and_extracting_leave_the_global_generator_alone(tmp_path):
    state = torch.get_rng_state()
    network = load_extractor(str(write_network(tmp_path / "small.safetensors")))
    extract(network, random_images(4, seed=0).split(2))
    assert torch.equal(state, torch.get_rng_state())


def test_extract_keeps_the_order(network):
    images = random_images(7, seed=0)
    torch.testing.assert_close(extract(network, images.split(3)).pool, network(images).pool)


def test_other_sizes_are_resized_and_flat_images_stay_flat(network):
    flat = torch.full((1, 1, 8, 8), 90, dtype=torch.uint8)
    large = torch.full((1, 1, 20, 17), 90, dtype=torch.uint8)
    torch.testing.assert_close(network(large).pool, network(flat).pool)


def test_grey_images_are_repeated_for_a_colour_network(tmp_path):
    network = load_extractor(str(write_network(tmp_path / "rgb.safetensors", image_shape=(3, 8, 8))))
    grey = random_images(2, seed=0)
    assert torch.equal(network(grey).pool, network(grey.repeat(1, 3, 1, 1)).pool)


def test_colour_images_are_refused_by_a_grey_network(network):
    with pytest.raises(UserError, match="choose another"):
        network(random_images(2, seed=0, shape=(3, 8, 8)))


@pytest.mark.parametrize(
    ("name", "message"),
    [("nonsense", "choose avatars, digits, mnist"), ("utkface", "train it"), ("gone.safetensors", "no weights")],
)
def test_missing_networks_name_the_fix(name, message, tmp_path, monkeypatch):
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=message):
        load_extractor(name)


def test_a_network_in_the_users_cache_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path))
    (tmp_path / "features").mkdir()
    write_network(tmp_path / "features/cats.safetensors")
    assert "cats" in names()
    assert load_extractor("cats").class_names == ("0", "1", "2")


def test_the_default_network_is_the_one_called_like_the_data():
    assert [default_features(name) for name in ("mnist", "stacked-mnist", "celeba")] == ["mnist", "stacked-mnist", "inception"]
    assert {"mnist", "digits", "avatars", "stacked-mnist", "utkface", "inception"} <= set(names())


def test_damaged_and_foreign_files_are_refused(tmp_path):
    damaged, foreign = tmp_path / "damaged.safetensors", tmp_path / "foreign.safetensors"
    damaged.write_bytes(write_network(tmp_path / "whole.safetensors").read_bytes()[:-10])
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(UserError, match="damaged"):
        load_extractor(str(damaged))
    with pytest.raises(UserError, match="not a feature network"):
        load_extractor(str(foreign))


def test_a_weights_file_cannot_name_a_class_of_another_package(tmp_path):
    path = tmp_path / "hostile.safetensors"
    network = '{"class_path": "subprocess.Popen", "init_args": {"args": "true"}}'
    save_file({"a": torch.zeros(1)}, path, {"network": network, "class_names": "[]", "task": "class"})
    with pytest.raises(UserError, match=r"classes of genai\.networks only"):
        load_extractor(str(path))


# -- stacked MNIST ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stacked():
    return load_extractor("stacked-mnist")


def test_stacked_mnist_is_the_digits_network_on_each_channel(stacked):
    digits = load_extractor("mnist")
    images = random_images(4, seed=0, shape=(3, 28, 28))
    features, channels = stacked(images), [digits(images[:, c : c + 1]) for c in range(3)]
    assert features.pool.shape == (4, 3 * 128)
    assert features.logits.shape == (4, 1000) == (4, stacked.num_classes)
    torch.testing.assert_close(features.pool, torch.cat([part.pool for part in channels], dim=1))
    log_p = [part.logits.log_softmax(dim=1) for part in channels]
    torch.testing.assert_close(features.logits[:, 407], log_p[0][:, 4] + log_p[1][:, 0] + log_p[2][:, 7])
    torch.testing.assert_close(features.logits.exp().sum(dim=1), torch.ones(4))
    assert stacked.weights_sha256 == digits.weights_sha256
    assert stacked.resize == digits.resize


def test_its_classes_are_those_of_the_data_and_the_first_channel_counts_hundreds(stacked):
    assert stacked.has_classes
    assert stacked.class_names == class_names("stacked") == MNIST("stacked", root="/nowhere").class_names
    digit = load_extractor("mnist")
    images = random_images(20, seed=1, shape=(3, 28, 28))
    images[:, 0] //= 4  # channels that are read as different digits
    images[:, 2] = 0
    seen = torch.stack([digit(images[:, c : c + 1]).logits.argmax(dim=1) for c in range(3)], dim=1).numpy()
    assert (seen[:, 0] != seen[:, 2]).any()
    assert stacked(images).logits.argmax(dim=1).tolist() == decimal(seen).tolist()


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_stacked_mnist_refuses_other_than_three_channels(stacked, channels):
    with pytest.raises(UserError, match=f"reads images of 3 channel.*have {channels}") as error:
        stacked(random_images(2, seed=0, shape=(channels, 28, 28)))
    assert "\n" not in str(error.value)


def test_other_weights_of_the_digits_network_serve_stacked_mnist_too(tmp_path):
    network = load_extractor("stacked-mnist", write_network(tmp_path / "small.safetensors"))
    features = network(random_images(2, seed=0, shape=(3, 8, 8)))
    assert (features.pool.shape, features.logits.shape) == ((2, 18), (2, 27))
    assert (network.class_names[0], network.class_names[5], network.class_names[-1]) == ("000", "012", "222")


def test_real_triples_are_seen_as_their_labels(stacked, monkeypatch, tmp_path):
    data = MNIST("stacked", num_triples=300)
    if not any(data.files_in(root) for root in data_roots(None)):
        pytest.skip("no MNIST/raw in $GENAI_DATA")
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path))
    batch = data.split("test").batch(range(400))
    agreement = (stacked(batch.images).logits.argmax(dim=1) == batch.labels).float().mean()
    assert agreement > 0.97


# -- Inception --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    """Random weights in torch-fidelity's file format: the state dict of its own class."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.save({}, path)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.slow
def test_inception_equals_torch_fidelity(inception_weights, monkeypatch):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    monkeypatch.setenv("GENAI_INCEPTION", str(inception_weights))
    network = load_extractor("inception")
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(inception_weights))
    images = random_images(2, seed=0, shape=(1, 28, 28))
    features, expected = network(images), theirs(images.repeat(1, 3, 1, 1))
    assert features.pool.shape == (2, 2048)
    assert features.logits.shape == (2, 1008)
    assert torch.equal(features.pool, expected[0])
    assert torch.equal(features.logits, expected[1])


def test_inception_without_weights_and_network_says_how_to_get_them(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.delenv("GENAI_INCEPTION", raising=False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"weights-inception-2015-12-05-6726825d\.pth.*GENAI_INCEPTION.*`mnist`") as error:
        load_extractor("inception")
    assert "\n" not in str(error.value)
    assert time.monotonic() - start < 5


def test_a_file_that_is_no_inception_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    for content in (b"text", b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match="holds no Inception weights"):
            load_extractor("inception", path)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="holds no Inception weights"):
        load_extractor("inception", path)
