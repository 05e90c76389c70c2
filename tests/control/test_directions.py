"""Directions in spaces whose answer is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from genai.control.direction_files import DirectionSet, load_directions, save_directions
from genai.control.directions import (
    Direction,
    Scored,
    area_under_roc,
    ganspace,
    random_directions,
    sefa,
    supervised,
    unsupervised,
    without,
)
from genai.control.edit_scores import as_random, before_edits, flipped_labels, measure_directions, monotonicity
from genai.control.inversion import invert
from genai.control.predictors import (
    AttributePredictor,
    accuracy,
    class_log_odds,
    exclusive_attributes,
    fitted_to_pixels,
    with_age,
)
from genai.control.spaces import EditSpace, Points, edit_space, first_layer
from genai.data.arrays import ImageArray
from genai.data.digits import Digits
from genai.errors import DamagedFileError, UserError
from genai.images import to_uint8
from genai.models.gan.gan import GAN
from genai.models.seeds import image_seeds, seeded_normal
from genai.networks.mlp import MLPDiscriminator, MLPGenerator
from genai.networks.resnet import ResidualDiscriminator, ResidualGenerator

WIDTH = 8
MIXED = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0))).Q  # rows: directions
NAMES = ("tall", "wide", "rare")


class Linear(nn.Module):
    """A decoder whose first two pixels are the attributes: images = z @ MIXED^T, brightness z . direction."""

    conditional = False

    def latents(self, seeds: list[int]) -> Tensor:
        return seeded_normal(seeds, (WIDTH,))

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return (0.2 * z @ MIXED.T).reshape(-1, 1, 2, 4)


def brightness(images: Tensor) -> Tensor:
    pixels = images.flatten(1).float() / 127.5 - 1
    return torch.stack([pixels[:, 0], pixels[:, 1], pixels[:, 2] - 0.9], dim=1)


PREDICTOR = AttributePredictor("pixels", "0", NAMES, 0, brightness, lambda images: images.flatten(1).float())
SPACE = EditSpace("z", Linear())
POINTS = SPACE.points(image_seeds(0, 1000), None)
SCORED = Scored(POINTS.x, brightness(to_uint8(SPACE.decode(POINTS))), NAMES)
APART = torch.eye(3, dtype=torch.bool)


def test_areas_agree_with_scikit_learn() -> None:
    values, labels = torch.randn(50).round(decimals=1), torch.rand(50, 3) < 0.4
    labels[:, 2] = True
    expected = [roc_auc_score(labels[:, k], values) for k in range(2)]
    np.testing.assert_allclose(area_under_roc(values, labels)[:2], expected)
    assert np.isnan(area_under_roc(values, labels)[2])


def test_supervised_directions_are_the_planted_ones() -> None:
    directions, skipped = supervised(SCORED, APART, NAMES)
    assert [direction.name for direction in directions] == ["tall", "wide"]
    assert skipped == ["no direction for rare: 0 of 750 samples have it"]
    for direction, planted in zip(directions, MIXED, strict=False):
        assert float(direction.vector @ planted) > 0.98
        assert direction.auc > 0.98 > 0.75 > direction.random_auc
        assert direction.unit == pytest.approx(2 * (2 / torch.pi) ** 0.5, abs=0.15)  # between means of half normals


def test_conditional_projection_is_orthogonal_and_keeps_the_attribute() -> None:
    normal = nn.functional.normalize(torch.tensor([1.0, 0.4, 0.2]), dim=0)
    others = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert torch.allclose(without(normal, others), torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)
    near = nn.functional.normalize(torch.tensor([1.0, 0.1, 0.0]), dim=0)
    assert torch.equal(without(normal, near[None]), normal)  # nothing would be left of it


def test_sefa_finds_what_the_first_layer_changes_most() -> None:
    columns = nn.functional.normalize(torch.randn(5, 400), dim=0)
    columns[1] *= 3
    vectors = sefa(columns, 2)
    assert abs(float(vectors[0, 1])) > 0.99
    assert torch.allclose(vectors @ vectors.T, torch.eye(2), atol=1e-5)


def test_ganspace_finds_the_axis_of_the_largest_variance() -> None:
    x = torch.randn(500, 5) * torch.tensor([1.0, 1.0, 5.0, 1.0, 2.0])
    assert abs(float(ganspace(x, x, 2)[0, 2])) > 0.99
    z = torch.randn(500, 5)
    activations = torch.cat([z @ torch.randn(5, 7) * 0.1, 4 * z[:, :1]], dim=1)
    assert abs(float(ganspace(z, activations, 1)[0, 0])) > 0.95


def gan(generator: type, discriminator: type, num_classes: int = 0, **options: object) -> GAN:
    torch.manual_seed(0)
    return GAN(
        (1, 8, 8),
        num_classes,
        lambda shape, width: generator(shape, width, latent_dim=4, **options),
        lambda shape, width: discriminator(shape, width),
        conditional=bool(num_classes),
    )


def test_the_first_layer_is_found_without_the_columns_of_the_condition() -> None:
    model = gan(MLPGenerator, MLPDiscriminator, num_classes=3, hidden=[6])
    space = edit_space(model)
    points = space.points([1, 2, 3], torch.tensor([0, 1, 2]))
    layer = first_layer(space, points)
    assert layer is not None
    weight = model.averaged.network.layers[0].weight
    assert torch.equal(layer.weight, weight[:, :4].T)
    assert layer.outputs(points).shape == (3, 6)


def test_a_generator_with_a_mapping_is_edited_in_w() -> None:
    model = gan(ResidualGenerator, ResidualDiscriminator, channels=[8], num_blocks=1, mapping=[12])
    model.discriminator.requires_grad_(False)
    space = edit_space(model)
    points = space.points([1, 2, 3], None)
    assert (space.name, points.x.shape) == ("w", (3, 12))
    assert torch.allclose(space.decode(points), model.sample([1, 2, 3]).clamp(-1, 1), atol=1e-6)
    layer = first_layer(space, points)
    assert layer is not None
    assert torch.equal(layer.weight, model.averaged.network.first.weight.T)


def test_unsupervised_directions_need_no_more_than_the_dimensions() -> None:
    images = SPACE.decode(POINTS)
    found = unsupervised(SPACE, POINTS, images, SCORED, 2)
    assert [direction.name for direction in found] == ["ganspace-1", "ganspace-2"]  # no first layer
    with pytest.raises(UserError, match="8 dimensions"):
        unsupervised(SPACE, POINTS, images, SCORED, 9)


# -- edits ---------------------------------------------------------------------------------------------------------------


def planted(k: int) -> Direction:
    return Direction(NAMES[k], "supervised", MIXED[k], 1.6, NAMES[k], 1.0, 0.5)


def test_planted_edits_succeed_alone_and_random_ones_do_not() -> None:
    points = SPACE.points(image_seeds(7, 300), None)
    before = before_edits(to_uint8(SPACE.decode(points)), PREDICTOR)
    directions = [planted(0), planted(1)]
    edits = measure_directions(SPACE, points, before, directions, PREDICTOR).scores
    random = measure_directions(SPACE, points, before, as_random(directions), PREDICTOR).scores
    for name in ("tall", "wide"):
        assert edits[name].success == 1
        assert edits[name].worst(torch.tensor([n == name for n in NAMES]), NAMES)[0] == 0
        assert edits[name].step == pytest.approx(0.5, abs=0.26)  # |z| has a median of 0.67, 0.42 units
        assert edits[name].success > random[name].success
    assert edits["tall"].distance < random["tall"].distance
    assert edits["tall"].monotone == pytest.approx(1)
    assert abs(random["tall"].monotone) < 1
    backwards = -directions[0].vector * directions[0].unit
    assert monotonicity(SPACE, points, backwards, 0, PREDICTOR) == pytest.approx(-1)


def test_age_rises_from_young_to_old() -> None:
    logits = torch.tensor([[4.0, -6.0], [-3.0, -3.0], [-6.0, 4.0]])
    predictor = AttributePredictor("p", "", ("young", "old"), 0, lambda images: logits[images.flatten().long()], lambda x: x)
    aged = with_age(predictor)
    assert aged.attributes == ("young", "old", "age")
    assert aged.scores(torch.tensor([0, 1, 2]))[:, 2].tolist() == [-10, 0, 10]
    assert exclusive_attributes(aged.attributes, 0).all()


def test_flipped_labels_keep_attributes_that_exclude_each_other_apart() -> None:
    exclusive = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert flipped_labels(labels, 1, exclusive).tolist() == [[0, 1, 1], [0, 1, 0]]
    assert flipped_labels(labels, 0, exclusive).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert flipped_labels(torch.tensor([0, 2, 1]), 2, exclusive).tolist() == [2, 0, 2]


def test_log_odds_of_classes() -> None:
    logits = torch.randn(6, 4)
    assert torch.allclose(class_log_odds(logits), logits.softmax(dim=1).logit(), atol=1e-4)


def test_pictures_are_inverted_by_optimisation() -> None:
    pictures = SPACE.decode(SPACE.points(image_seeds(3, 4), None))
    inverted = invert(SPACE, pictures, POINTS[:200], None)
    assert float(inverted.rmse.max()) < 0.02 < 0.1 < float(pictures.std())
    assert torch.allclose(SPACE.decode(inverted.points), pictures, atol=0.03)


# -- files ---------------------------------------------------------------------------------------------------------------


def test_directions_are_read_as_they_were_written(tmp_path: Path) -> None:
    saved = DirectionSet([planted(0), planted(1)], "z", 640, "digits", "ab", 1000, 3)
    save_directions(tmp_path / "d.safetensors", saved)
    found = load_directions(tmp_path / "d.safetensors", 640)
    assert found._replace(directions=[]) == saved._replace(directions=[])
    for one, other in zip(found.directions, saved.directions, strict=True):
        assert one._replace(vector=None) == other._replace(vector=None)
        assert torch.equal(one.vector, other.vector)
    assert found.named("wide").name == "wide"
    with pytest.raises(UserError, match="choose from tall, wide"):
        found.named("old")


def test_damaged_directions_and_those_of_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    save_directions(path, DirectionSet([planted(0)], "z", 640, "digits", "ab", 1000, 3))
    with pytest.raises(UserError, match="640 images"):
        load_directions(path, 641)
    with pytest.raises(UserError, match="genai directions RUN"):
        load_directions(tmp_path / "none.safetensors")
    content = path.read_bytes()
    for position in (3, len(content) // 2, len(content) - 2):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(DamagedFileError):
            load_directions(path)


def test_random_directions_are_unit_vectors() -> None:
    assert torch.allclose(random_directions(5, 7).norm(dim=1), torch.ones(5))
    assert isinstance(POINTS[:2], Points)


def test_the_predictor_of_pixels_keeps_the_names_of_classes_where_one_is_missing() -> None:
    data = Digits(exclude=[7])
    predictor = fitted_to_pixels(data.split("train"), data)
    images, labels = Digits().split("val").batch(range(300))
    scores = predictor.scores(images)
    assert scores.shape == (300, 10)
    read = scores.argmax(dim=1)
    assert (read != 7).all()
    known = labels != 7
    assert (read == labels)[known].double().mean() > 0.85
    agreement = accuracy(predictor, Digits().split("val"), data.class_names)
    assert agreement == pytest.approx(float((predictor.scores(Digits().split("val").batch(range(350)).images).argmax(dim=1)
                                             == Digits().split("val").batch(range(350)).labels).double().mean()))  # fmt: skip


def test_attributes_say_nothing_about_images_without_labels() -> None:
    predictor = AttributePredictor("mine", "0", ("hat", "beard"), 0, lambda x: torch.ones(len(x), 2), lambda x: x.float())
    unlabelled = ImageArray(np.zeros((3, 1, 8, 8), np.uint8), np.zeros(3, np.int64))
    assert accuracy(predictor, unlabelled, ()) is None
