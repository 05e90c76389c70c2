"""Reference features and floors are computed once; a result names what it depends on."""

import json
import math

import numpy as np
import pytest
import torch
from rich.console import Console

from genai.errors import UserError
from genai.metrics.evaluation import Evaluator
from genai.metrics.features import FeatureNetwork, extract, load_extractor
from genai.metrics.labels import expected_labels
from genai.metrics.reference import subset_indices
from tests.metrics.helpers import FakeData, random_images, write_network


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "references"


@pytest.fixture
def network(tmp_path):
    return load_extractor(str(write_network(tmp_path / "small.safetensors")))


@pytest.fixture
def calls(monkeypatch):
    """How many batches feature networks have seen."""
    seen = []
    call = FeatureNetwork.__call__
    monkeypatch.setattr(FeatureNetwork, "__call__", lambda self, images: seen.append(len(images)) or call(self, images))
    return seen


def measure(network, seed=7, split="test", num_samples=100):
    evaluator = Evaluator.of(FakeData(), split, network, num_samples)
    images = random_images(evaluator.protocol.num_samples, seed=seed)
    return evaluator.measure(extract(network, [images]))


def test_sizes_follow_the_splits(network):
    """The floor set is as large as the samples, so the training split caps both; the reference is the split, capped too."""
    protocol = measure(network, num_samples=10_000).protocol
    assert (protocol.num_samples, protocol.num_reference, protocol.kid_subset_size) == (120, 80, 80)
    protocol = measure(network, num_samples=50).protocol
    assert (protocol.num_samples, protocol.num_reference, protocol.kid_subset_size) == (50, 50, 50)


def test_the_floor_is_what_training_images_score(network):
    evaluator = Evaluator.of(FakeData(), "test", network, 50)
    indices = subset_indices(120, 50)
    result = evaluator.measure(extract(network, [FakeData().split("train").images[indices]]))
    for name in ("fid", "kid", "precision", "recall", "inception_score", "class_kl"):
        assert result.scores[name] == pytest.approx(result.floor[name], rel=1e-4, abs=1e-6), name


def test_references_and_floors_are_computed_once(network, calls):
    first = Evaluator.of(FakeData(), "test", network, 100)
    assert calls
    calls.clear()
    second = Evaluator.of(FakeData(), "test", network, 100)
    assert not calls
    assert torch.equal(first.reference.pool, second.reference.pool)
    assert first.floor == second.floor


def test_other_weights_or_other_data_are_another_reference(network, calls, tmp_path):
    Evaluator.of(FakeData(), "test", network, 100)
    calls.clear()
    write_network(tmp_path / "small.safetensors", seed=1)  # same name, other weights
    Evaluator.of(FakeData(), "test", load_extractor(str(tmp_path / "small.safetensors")), 100)
    assert sum(calls) == 80 + 100
    calls.clear()
    Evaluator.of(FakeData(test=70), "test", network, 100)
    assert sum(calls) == 70  # the training images are the same
    calls.clear()
    Evaluator.of(FakeData(), "val", network, 100)
    assert sum(calls) == 60


def test_damaged_cache_files_are_made_again(network, cache):
    first = Evaluator.of(FakeData(), "test", network, 100)
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    again = Evaluator.of(FakeData(), "test", network, 100)
    assert torch.equal(first.reference.pool, again.reference.pool)
    assert first.floor == again.floor
    assert not list(cache.glob("*.tmp"))


def test_subsets_are_fixed_and_unsorted_splits_are_no_matter():
    assert subset_indices(5, 9).tolist() == [0, 1, 2, 3, 4]
    chosen = subset_indices(1000, 10)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert chosen.tolist() == subset_indices(1000, 10).tolist()
    assert chosen.max() > 500


def test_label_agreement_is_the_share_predicted_as_the_label(network):
    data = FakeData()
    evaluator = Evaluator.of(data, "test", network, 50)
    features = extract(network, [random_images(50, seed=7)])
    seen = features.logits.argmax(dim=1)
    assert evaluator.measure(features, seen).scores["label_agreement"] == 1
    assert evaluator.measure(features, (seen + 1) % 3).scores["label_agreement"] == 0
    assert "label_agreement" not in evaluator.measure(features).scores
    assert torch.equal(expected_labels(data, "test", network, 100), torch.arange(100) % 80 % 3)
    data.class_names = ("a", "b", "c")
    assert expected_labels(data, "test", network, 100) is None


@pytest.fixture
def attributes_network(tmp_path):
    return load_extractor(str(write_network(tmp_path / "attributes.safetensors", task="attributes")))


class Described(FakeData):
    """Its labels are words; its attributes are 1, then 0 or 1 in turn, then 0."""

    label_kind, class_names, attribute_names = "text", ("", "?", "word"), ("0", "1", "2")

    def attributes(self, split):
        num = len(self.split(split))
        return np.stack([np.ones(num), np.arange(num) % 2, np.zeros(num)], axis=1).astype(np.float32)


def test_attributes_have_no_class_scores(attributes_network):
    result = measure(attributes_network)
    everywhere = {"fid", "kid", "kid_std", "precision", "recall", "density", "coverage", "haze"}
    assert result.scores.keys() - {"fid_infinity"} == everywhere
    assert result.samples.class_shares is None
    assert not result.lists_shares


def test_expected_attributes_are_in_the_order_of_the_reference(network, attributes_network):
    data = Described()
    labels = expected_labels(data, "test", attributes_network, 100)
    expected = torch.from_numpy(data.attributes("test"))
    assert torch.equal(labels, torch.cat([expected, expected[:20]]))
    assert torch.equal(expected_labels(data, "test", attributes_network, 50), expected[subset_indices(80, 50)])
    assert expected_labels(data, "test", network, 100) is None
    data.attribute_names = ("0", "1", "hat")
    assert expected_labels(data, "test", attributes_network, 100) is None


def test_label_agreement_of_attributes_is_the_mean_over_them(attributes_network):
    evaluator = Evaluator.of(Described(), "test", attributes_network, 50)
    features = extract(attributes_network, [random_images(50, seed=7)])
    labels = (features.logits > 0).float()
    labels[:25, 1] = 1 - labels[:25, 1]
    result = evaluator.measure(features, labels)
    samples, real = result.samples.attribute_agreement, result.real.attribute_agreement
    assert samples == [1.0, 0.5, 1.0]
    assert result.scores["label_agreement"] == pytest.approx(2.5 / 3)
    assert result.metrics()["label_agreement_floor"] == result.floor["label_agreement"]
    first = min(range(3), key=lambda k: samples[k] - real[k])
    line = (
        f"of 3 attributes, compared with real images: {first} {100 * samples[first]:.1f} % (real {100 * real[first]:.1f} %), "
    )
    assert line in printed(result)
    content = json.loads(json.dumps(result.to_dict()))["attribute_agreement"]
    assert content == {"names": ["0", "1", "2"], "samples": samples, "floor": real}
    train = extract(attributes_network, [Described().split("train").images[subset_indices(120, 50)]])
    assert real[0] == pytest.approx((train.logits[:, 0] > 0).double().mean().item())


def test_the_divergence_from_uniform_stands_in_for_the_shares_of_many_classes(network):
    """Stacked MNIST has 1,000 classes; ten digits have a table of their shares."""
    stacked = load_extractor("stacked-mnist")
    result = Evaluator.of(FakeData(shape=(3, 28, 28)), "test", stacked, 40).measure(
        extract(stacked, [random_images(40, seed=7, shape=(3, 28, 28))])
    )
    assert result.scores["mode_kl"] >= math.log(1000 / 40) - 1e-9  # 40 images have 40 modes at most
    assert {"mode_kl", "mode_kl_floor"} <= result.metrics().keys()
    assert "KL to uniform ↓" in printed(result)
    assert "Share of each class" not in printed(result)
    assert "mode_kl" not in measure(network).scores
    assert "KL to uniform" not in printed(measure(network))


def printed(result):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(result)
    return capture.get()


def test_floors_of_another_version_are_computed_again(network, cache):
    floor = Evaluator.of(FakeData(), "test", network, 100).floor
    path = next(cache.glob("*.json"))
    path.write_text(json.dumps({"fid": 1e9, "kid": 0.0}))
    assert Evaluator.of(FakeData(), "test", network, 100).floor == floor


def test_to_dict_is_json_and_metrics_are_flat(network):
    result = measure(network)
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert content["protocol"]["weights_sha256"] == network.weights_sha256
    assert content["scores"]["fid"] == result.scores["fid"]
    metrics = result.metrics()
    assert {
        "fid",
        "fid_floor",
        "inception_score",
        "kid",
        "precision",
        "recall",
        "class_kl",
        "num_modes",
        "share_0",
    } <= metrics.keys()
    assert sum(metrics[f"share_{name}"] for name in "012") == pytest.approx(1)


def test_the_table_shows_scores_floor_protocol_and_shares(network):
    result = measure(network)
    text = printed(result)
    assert "FID ↓" in text
    assert "real against real" in text
    assert format(result.floor["fid"], "#.4g") in text
    assert network.weights_sha256[:8] in text
    assert "100 samples" in text
    assert "Share of each class" in text


def test_too_few_images_are_refused(network):
    with pytest.raises(UserError, match="needs at least 2 images"):
        Evaluator.of(FakeData(val=1), "val", network, 100)


def test_another_number_of_samples_is_refused(network):
    evaluator = Evaluator.of(FakeData(), "test", network, 50)
    with pytest.raises(ValueError, match="has 50 samples"):
        evaluator.measure(extract(network, [random_images(49, seed=0)]))
