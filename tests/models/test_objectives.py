"""Each objective against its closed form in float64: values, gradients, penalties and realness.

Images are (N, 1, 1, 1) numbers and the discriminator returns them, so an image is its own logit, unless a test says otherwise.
`gradient` computes in float32, hence the tolerance of what penalties enter.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from genai.errors import UserError
from genai.models.gan.objectives import AdversarialObjective, Hinge, LeastSquares, NonSaturating, Relativistic, WassersteinGP
from genai.models.schedules import Cosine

REAL, FAKE = (
    grid.flatten() for grid in torch.meshgrid(*2 * [torch.tensor([-30.0, -1.5, -0.3, 0.0, 0.7, 2.0, 25.0])], indexing="ij")
)
FLOAT32 = {"rtol": 1e-5, "atol": 1e-6}

SHAPE = (3, 2, 2)
WEIGHT = torch.linspace(-1.0, 2.0, 12, dtype=torch.float64)


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


def log_sigmoid(x: Tensor) -> Tensor:
    return -torch.log1p((-x).exp())


def at_zero(x: Tensor) -> Tensor:
    """1 where x is positive: the slope of max(0, x)."""
    return (x > 0).double()


def itself(images: Tensor) -> Tensor:
    return images.flatten()


def as_images(logits: Tensor) -> Tensor:
    return logits.double()[:, None, None, None].requires_grad_()


# Name: objective, loss of the discriminator, its slopes at real and generated logits, loss of the generator, its slope.
# With D(x) = x the gradient's norm is 1 everywhere: WGAN-GP's penalty is 0, and R1 + R2 is gamma, constant.
CLOSED_FORMS = {
    "non-saturating": (
        NonSaturating(),
        lambda r, f: -log_sigmoid(r) - log_sigmoid(-f),
        lambda r, f: (sigmoid(r) - 1, sigmoid(f)),
        lambda r, f: -log_sigmoid(f),
        lambda r, f: sigmoid(f) - 1,
    ),
    "least squares": (
        LeastSquares(),
        lambda r, f: (r - 1) ** 2 / 2 + f**2 / 2,
        lambda r, f: (r - 1, f),
        lambda r, f: (f - 1) ** 2 / 2,
        lambda r, f: f - 1,
    ),
    "hinge": (
        Hinge(),
        lambda r, f: (1 - r).clamp(min=0) + (1 + f).clamp(min=0),
        lambda r, f: (-at_zero(1 - r), at_zero(1 + f)),
        lambda r, f: -f,
        lambda r, f: -torch.ones_like(f),
    ),
    "wasserstein": (
        WassersteinGP(),
        lambda r, f: f - r,
        lambda r, f: (-torch.ones_like(r), torch.ones_like(f)),
        lambda r, f: -f,
        lambda r, f: -torch.ones_like(f),
    ),
    "relativistic": (
        Relativistic(gamma=0.5),
        lambda r, f: -log_sigmoid(r - f) + 0.5,
        lambda r, f: (sigmoid(r - f) - 1, 1 - sigmoid(r - f)),
        lambda r, f: -log_sigmoid(f - r),
        lambda r, f: sigmoid(f - r) - 1,
    ),
}
each = pytest.mark.parametrize("name", CLOSED_FORMS)


@each
def test_the_discriminators_loss_is_the_papers(name: str) -> None:
    objective, loss, *_ = CLOSED_FORMS[name]
    actual = objective.discriminator_loss(itself, as_images(REAL), as_images(FAKE), 0)
    torch.testing.assert_close(actual, loss(REAL.double(), FAKE.double()))


@each
def test_the_discriminators_gradient_is_the_papers(name: str) -> None:
    """A bias for each logit takes the gradient, as a parameter would: an objective may detach the images."""
    objective, _, slopes, *_ = CLOSED_FORMS[name]
    biases = torch.zeros(2, len(REAL), dtype=torch.float64, requires_grad=True)
    real, fake = as_images(REAL), as_images(FAKE)

    def biased(images: Tensor) -> Tensor:
        known = [row for row, seen in enumerate((real, fake)) if torch.equal(images, seen)]
        return itself(images) + (biases[known[0]] if known else 0)  # a penalty's x_hat is neither

    objective.discriminator_loss(biased, real, fake, 0).sum().backward()
    torch.testing.assert_close(biases.grad, torch.stack(slopes(REAL.double(), FAKE.double())))


@each
def test_the_generators_loss_and_gradient_are_the_papers(name: str) -> None:
    objective, _, _, loss, slope = CLOSED_FORMS[name]
    fake = as_images(FAKE)
    actual = objective.generator_loss(itself, as_images(REAL), fake)
    torch.testing.assert_close(actual, loss(REAL.double(), FAKE.double()))
    actual.sum().backward()
    assert fake.grad is not None
    torch.testing.assert_close(fake.grad.flatten(), slope(REAL.double(), FAKE.double()))


@each
def test_real_images_get_no_gradient_from_the_generators_loss(name: str) -> None:
    real, fake = as_images(REAL), as_images(FAKE)
    CLOSED_FORMS[name][0].generator_loss(itself, real, fake).sum().backward()
    assert real.grad is None
    assert fake.grad is not None


@each
def test_an_image_alone_has_the_loss_it_has_in_a_batch(name: str) -> None:
    objective = CLOSED_FORMS[name][0]
    together = objective.discriminator_loss(itself, as_images(REAL), as_images(FAKE), 0)
    alone = objective.discriminator_loss(itself, as_images(REAL[4:5]), as_images(FAKE[4:5]), 0)
    torch.testing.assert_close(alone, together[4:5])


@pytest.mark.parametrize("sure", [-1000.0, 1000.0])
@each
def test_no_loss_overflows_when_the_discriminator_is_sure(name: str, sure: float) -> None:
    objective = CLOSED_FORMS[name][0]
    real, fake = as_images(torch.tensor([sure])), as_images(torch.tensor([-sure]))
    assert objective.discriminator_loss(itself, real, fake, 0).isfinite().all()
    assert objective.generator_loss(itself, real, fake).isfinite().all()


def pictures(num: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(num, *SHAPE, dtype=torch.float64), torch.randn(num, *SHAPE, dtype=torch.float64)


def quadratic(images: Tensor) -> Tensor:
    """D(x) = |x|^2 / 2, whose gradient is x."""
    return images.flatten(1).square().sum(dim=1) / 2


@pytest.mark.parametrize("gamma", [0.1, 1.0, 10.0])
def test_r1_and_r2_of_a_linear_discriminator(gamma: float) -> None:
    """The gradient of D(x) = <w, x> is w at every image: R1 + R2 = gamma |w|^2, and 2 gamma w its derivative."""
    weight = WEIGHT.clone().requires_grad_()
    real, _ = pictures()
    penalty = Relativistic(gamma).discriminator_loss(lambda x: x.flatten(1) @ weight + 3, real, real, 0) - math.log(2)
    torch.testing.assert_close(penalty, (gamma * WEIGHT @ WEIGHT).expand(5), **FLOAT32)
    (derivative,) = torch.autograd.grad(penalty.mean(), weight)
    torch.testing.assert_close(derivative, 2 * gamma * WEIGHT, **FLOAT32)


def test_r1_is_of_the_real_and_r2_of_the_generated_image() -> None:
    real, fake = pictures()
    actual = Relativistic(0.3).discriminator_loss(quadratic, real, 2 * fake, 0)
    pairing = -log_sigmoid(quadratic(real) - quadratic(2 * fake))
    penalty = 0.15 * (real.flatten(1).square().sum(dim=1) + 4 * fake.flatten(1).square().sum(dim=1))
    torch.testing.assert_close(actual, pairing + penalty, **FLOAT32)


@pytest.mark.parametrize(("images_seen", "gamma"), [(0, 2.0), (5_000, 1.1), (10_000, 0.2), (70_000, 0.2)])
def test_gamma_follows_its_schedule(images_seen: int, gamma: float) -> None:
    real, _ = pictures()
    objective = Relativistic(Cosine(kimg=10, start=2.0, end=0.2))
    actual = objective.discriminator_loss(quadratic, real, real, images_seen)
    torch.testing.assert_close(actual - math.log(2), gamma * real.flatten(1).square().sum(dim=1), **FLOAT32)


def test_lazy_penalties_have_the_same_weight_over_all_batches() -> None:
    """Of three batches the first has the penalties with three times the weight, the others have none."""
    real, fake = pictures()
    each, lazy = (Relativistic(0.3, penalise_every=every) for every in (1, 3))
    losses = [lazy.discriminator_loss(quadratic, real, fake, 0, batch) for batch in range(6)]
    pairing = softplus(quadratic(fake) - quadratic(real))
    for batch in (1, 2, 4, 5):
        torch.testing.assert_close(losses[batch], pairing)
    torch.testing.assert_close(losses[3], losses[0], rtol=0, atol=0)
    torch.testing.assert_close(sum(losses[:3]) / 3, each.discriminator_loss(quadratic, real, fake, 0, 1), **FLOAT32)


def test_penalise_every_below_1_is_refused() -> None:
    with pytest.raises(UserError, match=r"penalise_every 0 .*: use 1"):
        Relativistic(penalise_every=0)


@pytest.mark.parametrize("weight", [0.5, 10.0])
def test_the_gradient_penalty_of_a_linear_critic(weight: float) -> None:
    """lambda (|w| - 1)^2 wherever x_hat lies, with derivative 2 lambda (|w| - 1) w / |w|."""
    critic = WEIGHT.clone().requires_grad_()
    real, fake = pictures()
    loss = WassersteinGP(weight).discriminator_loss(lambda x: x.flatten(1) @ critic, real, fake, 0)
    difference, norm = (fake - real).flatten(1), WEIGHT.norm()
    torch.testing.assert_close(loss, difference @ WEIGHT + weight * (norm - 1) ** 2, **FLOAT32)
    (derivative,) = torch.autograd.grad(loss.mean(), critic)
    expected = difference.mean(dim=0) + 2 * weight * (norm - 1) * WEIGHT / norm
    torch.testing.assert_close(derivative, expected, **FLOAT32)


def test_the_gradient_penalty_is_taken_between_the_images_evenly() -> None:
    """D(x) = |x|^2 / 2 has a gradient of norm |x|: from G(z) = 0 to |x| = 4, E (4 u - 1)^2 = 7 / 3 over u in [0, 1]."""
    torch.manual_seed(0)
    real = torch.full((20_000, 1, 4, 4), 1.0, dtype=torch.float64)
    loss = WassersteinGP(1.0).discriminator_loss(quadratic, real, torch.zeros_like(real), 0)
    penalty = loss + 8  # D(G(z)) - D(x) = -8
    assert 0 <= penalty.min() < 1e-3
    assert 8.9 < penalty.max() <= 9 + 1e-5
    assert penalty.mean().item() == pytest.approx(7 / 3, abs=5 * penalty.std().item() / math.sqrt(20_000))


def test_a_flat_critic_has_a_penalty_with_a_finite_gradient() -> None:
    """|grad| = 0 is where a norm has no derivative: a NaN there would end a training with a dead critic."""
    weight = torch.zeros(12, dtype=torch.float64, requires_grad=True)
    loss = WassersteinGP(10.0).discriminator_loss(lambda x: x.flatten(1) @ weight, *pictures(), 0)
    torch.testing.assert_close(loss.detach(), torch.full((5,), 10.0, dtype=torch.float64))
    loss.sum().backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize(("objective", "linear"), [(Relativistic(1.0), 4.0), (WassersteinGP(1.0), 2.0)], ids=["r1", "gp"])
def test_a_penalty_is_on_the_gradient_before_augmentation(objective: AdversarialObjective, linear: float) -> None:
    """D(2 x) of D(x) = <w, x> has the gradient 2 w."""
    real, _ = pictures()
    loss = objective.discriminator_loss(lambda x: (2 * x).flatten(1) @ WEIGHT, real, real, 0)
    norm = WEIGHT.norm()
    expected = math.log(2) + linear * norm**2 if isinstance(objective, Relativistic) else (linear * norm - 1) ** 2
    torch.testing.assert_close(loss, expected.expand(5), **FLOAT32)


def test_gradients_of_half_precision_logits_are_squared_in_float32() -> None:
    """w = 300: |w|^2 is beyond float16's 65,504."""
    real = torch.zeros(2, 1, 1, 1)
    loss = Relativistic(1.0).discriminator_loss(lambda x: (300 * x.half()).flatten(), real, real, 0)
    torch.testing.assert_close(loss, torch.full((2,), 90_000 + math.log(2)))


REALNESS = {
    "non-saturating": {-math.log(3): 0.25, 0.0: 0.5, math.log(3): 0.75},
    "least squares": {-2.0: 0.0, 0.25: 0.25, 1.0: 1.0, 3.0: 1.0},
    "hinge": {-3.0: 0.0, -1.0: 0.0, 0.0: 0.5, 0.5: 0.75, 2.0: 1.0},
    "wasserstein": {1.0: 0.5, 1 + math.log(3): 0.75, 1 - math.log(3): 0.25},  # generated ones have the mean 1
    "relativistic": {1.0: 0.5, 1 - math.log(3): (1 / 4 + 1 / 4 + 1 / 28 + 3 / 4) / 4},
}
FAKES = torch.tensor([1.0, 1.0, 1 + 2 * math.log(3), 1 - 2 * math.log(3)], dtype=torch.float64)


@each
def test_realness_at_known_logits(name: str) -> None:
    logits = torch.tensor(list(REALNESS[name]), dtype=torch.float64)
    expected = torch.tensor(list(REALNESS[name].values()), dtype=torch.float64)
    torch.testing.assert_close(CLOSED_FORMS[name][0].realness(logits, FAKES), expected)


@each
def test_realness_is_a_probability_that_grows_with_the_logit(name: str) -> None:
    realness = CLOSED_FORMS[name][0].realness(torch.linspace(-60, 60, 241, dtype=torch.float64), FAKES)
    assert realness.shape == (241,)
    assert ((realness >= 0) & (realness <= 1)).all()
    assert (realness.diff() >= 0).all()
    assert realness[0] < 1e-9
    assert realness[-1] > 1 - 1e-9


@pytest.mark.parametrize("name", ["wasserstein", "relativistic"])
def test_a_realness_relative_to_generated_images_does_not_depend_on_the_critics_zero(name: str) -> None:
    objective, logits = CLOSED_FORMS[name][0], torch.linspace(-3, 3, 7, dtype=torch.float64)
    torch.testing.assert_close(objective.realness(logits + 500, FAKES + 500), objective.realness(logits, FAKES))


def test_cosine_schedule() -> None:
    schedule = Cosine(kimg=10, start=1.0, end=0.2)
    assert schedule(0) == 1.0
    assert abs(schedule(5_000) - 0.6) < 1e-12
    assert schedule(10_000) == schedule(99_000) == 0.2
