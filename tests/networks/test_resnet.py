import math
import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from genai.errors import UserError
from genai.networks.resnet import FixupBlock, Pointwise, ResidualDiscriminator, ResidualGenerator, base_size

# pixels, patch, channels from fine to coarse, side of the smallest map
SIZES = [
    (8, 1, (8, 16), 4),
    (28, 1, (8, 16, 24), 7),
    (28, 2, (8, 16), 7),
    (32, 1, (8, 16, 16, 16), 4),
    (32, 4, (16,), 8),
    (64, 2, (8, 8, 16, 16), 4),
]


def pair(shape: tuple[int, int, int], num_classes: int = 0, patch: int = 1, channels: tuple[int, ...] = (8, 16)):  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    common = {"num_blocks": 1, "group_size": 8, "patch_size": patch}
    generator = ResidualGenerator(shape, num_classes, latent_dim=5, channels=channels[::-1], embedding_dim=6, **common)
    return generator, ResidualDiscriminator(shape, num_classes, channels=channels, **common)


def randomise_last_layers(network: nn.Module) -> None:
    """Give the layers that start at zero some weight, as training does."""
    for module in network.modules():
        if isinstance(module, FixupBlock):
            nn.init.normal_(module.project.weight, 0.0, 0.1)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize(("size", "patch", "channels", "base"), SIZES)
def test_shapes(size: int, patch: int, channels: tuple[int, ...], base: int, num_classes: int, colours: int) -> None:
    generator, discriminator = pair((colours, size, size), num_classes, patch, channels)
    condition = torch.eye(10)[:3] if num_classes else None
    images = generator(torch.randn(3, 5), condition)
    assert images.shape == (3, colours, size, size)
    assert discriminator(images, condition).shape == (3,)
    assert generator.basis.shape == discriminator.basis.shape == (channels[-1], base, base)


@pytest.mark.parametrize(("size", "patch", "stages"), [(30, 1, 3), (28, 1, 4), (28, 3, 1), (8, 1, 5), (8, 16, 1)])
def test_a_size_that_cannot_be_halved_names_the_fix(size: int, patch: int, stages: int) -> None:
    words = f"{size} pixels in patches of {patch} cannot be halved {stages - 1} times: give `channels` fewer entries"
    for network in (ResidualGenerator, ResidualDiscriminator):
        with pytest.raises(UserError, match=re.escape(words)):
            network((1, size, size), channels=(8,) * stages, patch_size=patch)


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_base_size_times_the_doublings_is_the_size_or_refused(stages: int, patch: int) -> None:
    for size in range(1, 100):
        if size % (patch * 2 ** (stages - 1)):
            with pytest.raises(UserError):
                base_size(size, patch, stages)
        else:
            assert base_size(size, patch, stages) * 2 ** (stages - 1) * patch == size


def test_a_block_is_the_identity_at_first_and_later_is_not() -> None:
    torch.manual_seed(0)
    block, x = FixupBlock(8, expansion=2, group_size=4, gain=1.0), torch.randn(2, 8, 5, 5)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert (block.project.weight.grad != 0).any()  # and can leave the identity
    randomise_last_layers(block)
    assert not torch.equal(block(x), x)


def test_a_block_mixes_neighbouring_pixels_in_groups_of_channels() -> None:
    block = FixupBlock(8, expansion=2, group_size=4, gain=1.0)
    assert block.mix.groups == 4
    assert block.mix.weight.shape == (16, 4, 3, 3)


@pytest.mark.parametrize("num_blocks", [1, 4])
def test_weights_inside_a_block_have_fix_up_scale(num_blocks: int) -> None:
    """Standard deviation sqrt(2 / (1 + 0.2^2)) L^(-1/4) / sqrt(fan in), L blocks in the whole network."""
    torch.manual_seed(0)
    network = ResidualDiscriminator((1, 8, 8), channels=(64, 64), num_blocks=num_blocks, group_size=16)
    gain = math.sqrt(2 / 1.04) * (2 * num_blocks) ** -0.25
    for block in (module for module in network.modules() if isinstance(module, FixupBlock)):
        assert block.expand.weight.std().item() == pytest.approx(gain / math.sqrt(64), rel=0.05)
        assert block.mix.weight.std().item() == pytest.approx(gain / math.sqrt(16 * 9), rel=0.05)
        assert (block.project.weight == 0).all()


def features(discriminator: ResidualDiscriminator, images: Tensor) -> Tensor:
    """What the last layer is given (N, channels)."""
    seen: list[Tensor] = []
    handle = discriminator.logit.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
    discriminator(images, torch.eye(10)[: len(images)])
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(("one", "two"), [(0, 1), (9, 4)])
def test_labels_differ_by_the_projection_of_the_features(one: int, two: int) -> None:
    _, discriminator = pair((3, 8, 8), num_classes=10)
    randomise_last_layers(discriminator)
    x, labels = torch.randn(4, 3, 8, 8), torch.eye(10)
    first, second = (discriminator(x, labels[label].expand(4, -1)) for label in (one, two))
    embedding = discriminator.embedding.weight  # (channels, classes)
    expected = features(discriminator, x) @ (embedding[:, one] - embedding[:, two]) / math.sqrt(16)
    torch.testing.assert_close(first - second, expected, rtol=1e-4, atol=1e-5)
    assert (first - second).abs().min() > 1e-3


def test_the_logit_without_a_condition_is_that_of_an_all_zero_one() -> None:
    _, discriminator = pair((1, 8, 8), num_classes=10)
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(discriminator(x), discriminator(x, torch.zeros(4, 10)))


def test_each_label_and_each_latent_gives_another_image() -> None:
    generator, _ = pair((1, 8, 8), num_classes=10)
    z = torch.randn(1, 5)
    by_label = generator(z.expand(10, -1), torch.eye(10))
    by_latent = generator(torch.randn(10, 5), torch.eye(10)[:1].expand(10, -1))
    for images in (by_label, by_latent):
        distances = torch.pdist(images.flatten(1))
        assert distances.min() > 1e-2 * images.flatten(1).norm(dim=1).mean()


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    generator, discriminator = pair((1, 8, 8), num_classes=10)
    randomise_last_layers(generator), randomise_last_layers(discriminator)
    z, condition = torch.randn(6, 5), torch.eye(10)[:6]
    images = generator(z, condition)
    torch.testing.assert_close(generator(z[4:5], condition[4:5]), images[4:5], rtol=1e-4, atol=1e-5)
    logits = discriminator(images, condition)
    torch.testing.assert_close(discriminator(images[4:5], condition[4:5]), logits[4:5], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("patch", [1, 2])
def test_every_pixel_reaches_the_logit(patch: int) -> None:
    _, discriminator = pair((3, 16, 16), patch=patch)
    images = torch.randn(2, 3, 16, 16, requires_grad=True)
    discriminator(images).sum().backward()
    assert images.grad is not None
    assert (images.grad != 0).float().mean() > 0.99


def test_neither_network_normalises() -> None:
    for network in pair((3, 8, 8)):
        assert not [module for module in network.modules() if "Norm" in type(module).__name__]


def test_channels_that_do_not_divide_into_groups_are_a_users_mistake() -> None:
    with pytest.raises(UserError, match="group_size 16"):
        ResidualGenerator((1, 28, 28), channels=[50, 25], expansion=1, group_size=16)


def test_a_pointwise_layer_is_the_1x1_convolution_and_so_are_its_derivatives() -> None:
    torch.manual_seed(0)
    layer = Pointwise(5, 3).double()
    results = []
    for function in (layer, lambda x: conv2d(x, layer.weight, layer.bias)):
        x = torch.linspace(-1, 1, 2 * 5 * 4 * 4, dtype=torch.double).view(2, 5, 4, 4).requires_grad_()
        y = function(x).tanh()
        (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        results.append([y, first, *torch.autograd.grad(first.square().sum(), [x, layer.weight, layer.bias])])
    for ours, torchs in zip(*results, strict=True):
        torch.testing.assert_close(ours, torchs)


def channelwise_pair() -> tuple[ResidualGenerator, ResidualDiscriminator]:
    torch.manual_seed(0)
    common = {"num_blocks": 1, "group_size": 8, "patch_size": 2, "channelwise": True}
    generator = ResidualGenerator((3, 28, 28), 10, latent_dim=5, channels=(16, 8), mapping=(7, 12), **common)
    return generator, ResidualDiscriminator((3, 28, 28), 10, channels=(8, 16), **common)


def test_channelwise_channels_share_weights_and_depend_on_their_part_of_the_code() -> None:
    generator, _ = channelwise_pair()
    randomise_last_layers(generator)
    z, condition = torch.randn(2, 5), torch.eye(10)[:2]
    images = generator(z, condition)
    assert images.shape == (2, 3, 28, 28)
    assert not torch.allclose(images[:, 0], images[:, 1], atol=1e-3)
    code = generator.mapping[2]  # the layer whose twelve outputs are the codes of three channels
    turned = torch.arange(12).roll(4)
    code.weight.data, code.bias.data = code.weight.data[turned], code.bias.data[turned]
    torch.testing.assert_close(generator(z, condition), images.roll(1, dims=1))


def test_channelwise_features_are_those_of_each_channel_until_the_joint_layer_has_learned() -> None:
    _, discriminator = channelwise_pair()
    randomise_last_layers(discriminator)
    images = torch.randn(2, 3, 28, 28)
    seen, turned = (features(discriminator, x).unflatten(1, (3, 16)) for x in (images, images.roll(1, dims=1)))
    torch.testing.assert_close(turned, seen.roll(1, dims=1))


@pytest.mark.parametrize("learned", [False, True])
def test_channelwise_logits_depend_on_channels_jointly_after_training(learned: bool) -> None:
    """Before, two channels that change at once move the logit by the sum of what each does by itself."""
    _, discriminator = channelwise_pair()
    if learned:
        nn.init.normal_(discriminator.joint.project.weight, 0.0, 0.1)
    one, two = torch.randn(2, 2, 3, 28, 28)
    first, second, both = (one.clone() for _ in range(3))
    first[:, 0], second[:, 1] = two[:, 0], two[:, 1]
    both[:, :2] = two[:, :2]
    base = discriminator(one)
    apart = discriminator(both) - base - (discriminator(first) - base) - (discriminator(second) - base)
    assert (apart.abs().max() > 1e-2) == learned


def test_a_code_without_equal_parts_for_the_channels_names_the_fix() -> None:
    with pytest.raises(UserError, match="100 numbers cannot be divided among 3 channels: end `mapping` with a multiple"):
        ResidualGenerator((3, 28, 28), channels=(16, 8), patch_size=2, group_size=8, mapping=(100,), channelwise=True)
