"""The VAE family against closed forms: divergences, likelihoods, and a model whose marginal likelihood is known."""

import math
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, kl_divergence
from torch.distributions import Normal as TorchNormal

from genai.data.digits import Digits
from genai.errors import UserError
from genai.images import to_float
from genai.models.vae.bound import importance_weighted_bound
from genai.models.vae.gaussian import Mixture, Normal, StandardNormalLatents
from genai.models.vae.likelihoods import HALF_LEVEL, LOG_STD_GAIN, Bernoulli, DiscretisedLogistic, Gaussian, Likelihood
from genai.models.vae.metrics import ActiveUnits
from genai.models.vae.objectives import ELBO, IWAE, ELBOTerms
from genai.models.vae.priors import VampPrior
from genai.models.vae.vae import VAE
from genai.networks.autoencoder import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder

SHAPE = (1, 8, 8)
EVERY_VALUE = to_float(torch.arange(256, dtype=torch.uint8)).view(256, 1, 1, 1)
encoder = partial(MLPEncoder, hidden=[32])
decoder = partial(MLPDecoder, hidden=[32])


def random_normal(num: int, dim: int, seed: int = 0) -> Normal:
    generator = torch.Generator().manual_seed(seed)
    return Normal(torch.randn(num, dim, generator=generator), torch.randn(num, dim, generator=generator))


def torch_normal(q: Normal) -> Independent:
    return Independent(TorchNormal(q.mean, (q.log_var / 2).exp()), 1)


def random_images(num: int, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return to_float(torch.randint(256, (num, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8))


def random_model(**options: Any) -> VAE:
    torch.manual_seed(0)
    options = {"encoder": encoder, "decoder": decoder, "latent_dim": 3} | options
    return VAE(options.pop("shape", SHAPE), 4, **options).eval()


# -- latents -------------------------------------------------------------------------------------------------------------


def test_normal_densities_are_those_of_torch() -> None:
    q = random_normal(5, 3)
    z = q.sample(torch.randn(7, 5, 3))
    torch.testing.assert_close(q.log_prob(z), torch_normal(q).log_prob(z))


def test_the_kl_to_a_standard_normal_has_its_closed_form() -> None:
    q = random_normal(5, 3)
    standard = Independent(TorchNormal(torch.zeros(5, 3), 1.0), 1)
    kl = StandardNormalLatents(3).kl(q, torch.empty(0))
    assert kl.shape == (5, 3)
    torch.testing.assert_close(kl.sum(dim=1), kl_divergence(torch_normal(q), standard))


def test_a_mixture_is_that_of_torch() -> None:
    parts, q = random_normal(4, 3), random_normal(5, 3, seed=1)
    mixture = MixtureSameFamily(Categorical(torch.ones(4)), torch_normal(parts))
    z = q.sample(torch.randn(2000, 5, 3, generator=torch.Generator().manual_seed(2)))
    torch.testing.assert_close(Mixture(parts).log_prob(z), mixture.log_prob(z))
    estimate = (torch_normal(q).log_prob(z) - mixture.log_prob(z)).mean(dim=0)
    torch.testing.assert_close(Mixture(parts).kl(q, z)[:, 0], estimate)
    sampled = Mixture(parts).sample(range(4000), torch.device("cpu"), 1.0)
    torch.testing.assert_close(sampled.mean(dim=0), parts.mean.mean(dim=0), rtol=0, atol=0.1)


def test_a_vampprior_is_the_mixture_of_posteriors_of_its_pseudo_inputs() -> None:
    model = random_model(prior=partial(VampPrior, num_pseudo_inputs=6))
    prior = model.averaged_network.prior
    assert isinstance(prior, VampPrior)
    latents = model.averaged_network.latent_distribution()
    assert isinstance(latents, Mixture)
    expected = model.averaged_network.posterior(prior.images.tanh(), None)
    assert torch.equal(latents.components.mean, expected.mean)
    model.network.latent_distribution().log_prob(torch.randn(2, 3)).sum().backward()
    assert float(model.network.prior.images.grad.abs().sum()) > 0  # type: ignore[union-attr]
    conditional = random_model(prior=partial(VampPrior, num_pseudo_inputs=6), conditional=True)
    assert conditional.sample([0, 1], torch.tensor([0, 3])).shape == (2, *SHAPE)


# -- likelihoods ---------------------------------------------------------------------------------------------------------


def test_bernoulli_nats_are_those_of_torch() -> None:
    logits = torch.randn(3, 2, *SHAPE)  # 3 samples of 2 images
    x = Bernoulli().observe(random_images(2), torch.rand(2, *SHAPE))
    assert set(x.unique().tolist()) == {-1.0, 1.0}
    expected = TorchBernoulli(logits=logits).log_prob(((x + 1) / 2).expand_as(logits)).sum(dim=(2, 3, 4))
    torch.testing.assert_close(Bernoulli().log_prob(logits, x), expected)


def test_dynamic_binarisation_is_white_as_often_as_the_pixel_is_bright() -> None:
    generator = torch.Generator().manual_seed(0)
    grey = EVERY_VALUE.expand(-1, 1, 40, 100)
    white = (Bernoulli().observe(grey, torch.rand(grey.shape, generator=generator)) > 0).float().mean(dim=(1, 2, 3))
    torch.testing.assert_close(white, torch.arange(256) / 255, rtol=0, atol=0.03)
    assert white[0] == 0
    assert white[255] == 1


def test_static_binarisation_is_a_function_of_the_image() -> None:
    static, images = Bernoulli("static"), random_images(2, (1, 40, 100))
    first = static.observe(images, torch.rand(images.shape))
    assert torch.equal(first, static.observe(images, torch.rand(images.shape)))
    assert torch.equal(first[1:], static.observe(images[1:], torch.rand(1, 1, 40, 100)))
    grey = torch.zeros(1, 1, 40, 100)
    assert float(static.observe(grey, grey).mean()) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize(("mean", "log_scale"), [(0.0, -1.0), (0.9, -3.0), (-1.3, -5.0), (0.1, -7.0), (5.0, -2.0)])
def test_a_discretised_logistic_sums_to_one(mean: float, log_scale: float) -> None:
    parameters = torch.tensor([mean, log_scale]).view(1, 2, 1, 1).expand(256, -1, -1, -1).double()
    nats = DiscretisedLogistic().log_prob(parameters, EVERY_VALUE.double())
    assert bool(nats.isfinite().all())
    assert float(nats.exp().sum()) == pytest.approx(1.0, abs=1e-6)


def test_a_discretised_logistic_is_a_difference_of_sigmoids() -> None:
    generator = torch.Generator().manual_seed(0)
    x = random_images(4, (3, 2, 2)).double()
    mean, log_scale = (torch.randn(x.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    log_scale = log_scale.clamp(min=-1)  # where a difference of sigmoids does not underflow
    below, above = (((x - mean + side) / log_scale.exp()).sigmoid() for side in (-HALF_LEVEL, HALF_LEVEL))
    expected = (torch.where(x == 1, 1.0, above) - torch.where(x == -1, 0.0, below)).log().sum(dim=(1, 2, 3))
    torch.testing.assert_close(DiscretisedLogistic().log_prob(torch.cat([mean, log_scale], dim=1), x), expected)


def test_gaussian_nats_are_those_of_a_density_times_the_width_of_a_value() -> None:
    likelihood = Gaussian()
    likelihood.scaled_log_std.data.fill_(-1.5 / LOG_STD_GAIN)
    x, mean = random_images(2), torch.randn(2, *SHAPE)
    expected = (TorchNormal(mean, math.exp(-1.5)).log_prob(x) + math.log(2 / 255)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(likelihood.log_prob(mean, x), expected)
    spread = likelihood.observe(torch.zeros(1, 1, 100, 100), torch.rand(1, 1, 100, 100))
    assert float(spread.abs().max()) <= HALF_LEVEL
    assert float(spread.std()) == pytest.approx(2 * HALF_LEVEL / math.sqrt(12), rel=0.05)


def test_the_learned_scale_of_a_gaussian_is_the_error_of_the_means() -> None:
    likelihood = Gaussian()
    optimizer = torch.optim.Adam(likelihood.parameters(), 0.05 / LOG_STD_GAIN)
    errors = 0.2 * torch.randn(10, *SHAPE, generator=torch.Generator().manual_seed(0))
    for _ in range(150):
        optimizer.zero_grad()
        (-likelihood.log_prob(torch.zeros_like(errors), errors).mean()).backward()
        optimizer.step()
    assert float(likelihood.log_std.detach().exp()) == pytest.approx(float(errors.square().mean().sqrt()), rel=0.01)


@pytest.mark.parametrize("likelihood", [Bernoulli(), DiscretisedLogistic(), Gaussian()])
def test_mean_images_are_within_the_range_of_pixels(likelihood: Likelihood) -> None:
    parameters = 5 * torch.randn(2, likelihood.num_parameters(3), 4, 4)
    mean = likelihood.mean(parameters)
    assert mean.shape == (2, 3, 4, 4)
    assert float(mean.abs().max()) <= 1


# -- objectives ----------------------------------------------------------------------------------------------------------


def some_terms(num_samples: int = 1, num: int = 4, dim: int = 3) -> ELBOTerms:
    generator = torch.Generator().manual_seed(0)
    terms = [torch.randn(num_samples, num, generator=generator) for _ in range(3)]
    return ELBOTerms(*terms, torch.rand(num, dim, generator=generator), dim)


def test_the_elbo_is_the_same_in_training_and_in_validation() -> None:
    terms = some_terms()
    torch.testing.assert_close(ELBO()(terms, 0), -terms.elbo)
    torch.testing.assert_close(ELBO(warmup_kimg=2)(terms, 2000), -terms.elbo)
    torch.testing.assert_close(ELBO(warmup_kimg=2)(terms, 0), -terms.log_likelihood[0])
    halfway = -terms.log_likelihood[0] + 0.5 * 4 * terms.kl.sum(dim=1)
    torch.testing.assert_close(ELBO(beta=4, warmup_kimg=2)(terms, 1000), halfway)


def test_free_bits_cost_nothing() -> None:
    terms = some_terms()._replace(kl=torch.tensor([[0.0, 2.0], [0.2, 4.0]]).requires_grad_(), latent_dim=2)
    terms = terms._replace(log_likelihood=torch.zeros(1, 2))
    loss = ELBO(free_bits=0.5)(terms, 0).mean()
    assert float(loss.detach()) == pytest.approx(0.5 + 3.0)
    (grad,) = torch.autograd.grad(loss, terms.kl)
    torch.testing.assert_close(grad, torch.tensor([[0.0, 0.5], [0.0, 0.5]]))
    together = terms._replace(kl=torch.tensor([[0.3], [0.5]]))
    assert float(ELBO(free_bits=0.5)(together, 0).mean()) == pytest.approx(1.0)  # of both latents


def test_one_importance_sample_is_the_single_sample_bound() -> None:
    terms = some_terms(1)
    expected = terms.log_likelihood + terms.log_prior - terms.log_posterior
    torch.testing.assert_close(IWAE(1)(terms, 0), -expected[0])


def test_the_best_sample_has_the_most_weight() -> None:
    terms = some_terms(3)
    log_likelihood = terms.log_likelihood.clone().requires_grad_()
    (grad,) = torch.autograd.grad(IWAE(3)(terms._replace(log_likelihood=log_likelihood), 0).sum(), log_likelihood)
    torch.testing.assert_close(-grad, terms.log_weights.softmax(dim=0))
    assert torch.equal((-grad).argmax(dim=0), terms.log_weights.argmax(dim=0))


def test_the_streamed_bound_is_that_of_all_samples_at_once() -> None:
    log_weights = 30 * torch.randn(70, 4, generator=torch.Generator().manual_seed(0)) - 900
    rows = iter(log_weights)
    sizes: list[int] = []

    def draw(num: int) -> Tensor:
        sizes.append(num)
        return torch.stack([next(rows) for _ in range(num)])

    bound = importance_weighted_bound(draw, 70, 32)
    torch.testing.assert_close(bound, log_weights.double().logsumexp(dim=0) - math.log(70))
    assert sizes == [32, 32, 6]


# -- a model whose marginal likelihood is known --------------------------------------------------------------------------

WEIGHT = torch.tensor([[1.0, -0.5], [0.3, 0.8], [-0.7, 0.2], [0.4, 0.4]])  # 4 pixels of 2 latents
OFFSET = torch.tensor([0.1, -0.2, 0.3, 0.0])
STD = 0.4


class LinearDecoder(nn.Module):
    """x = W z + b."""

    def __init__(self, output_shape: tuple[int, int, int], num_classes: int, latent_dim: int) -> None:
        super().__init__()

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return (z @ WEIGHT.T + OFFSET).view(-1, 1, 2, 2)


class LinearEncoder(nn.Module):
    """The mean of the true posterior moved by `shift`, with a variance that is `broader` than the true marginals'."""

    def __init__(self, image_shape: Any, num_classes: int, latent_dim: int, shift: float = 0.3, broader: float = 2.0) -> None:
        super().__init__()
        self.covariance = torch.linalg.inv(torch.eye(2) + WEIGHT.T @ WEIGHT / STD**2)
        self.shift, self.broader = shift, broader

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        mean = (x.flatten(1) - OFFSET) @ WEIGHT @ self.covariance / STD**2 + self.shift
        return torch.cat([mean, (self.broader * self.covariance.diagonal()).log().expand(len(x), -1)], dim=1)


def linear_gaussian() -> VAE:
    """p(z) = N(0, I), p(x|z) = N(W z + b, STD^2), so p(x) = N(b, W W^T + STD^2)."""
    model = VAE((1, 2, 2), 0, LinearEncoder, LinearDecoder, latent_dim=2, likelihood=Gaussian())
    for likelihood in (model.network.likelihood, model.averaged_network.likelihood):
        likelihood.scaled_log_std.data.fill_(math.log(STD) / LOG_STD_GAIN)  # type: ignore[union-attr]
    return model.eval()


def exact_and_bounds(num_samples: list[int]) -> tuple[Tensor, list[Tensor]]:
    """ln p(x) of 100 images of the model, and bounds of it; the pixels' dequantising noise is a part of x."""
    model = linear_gaussian()
    marginal = MultivariateNormal(OFFSET, WEIGHT @ WEIGHT.T + STD**2 * torch.eye(4))
    torch.manual_seed(0)
    images = marginal.sample((100,)).view(-1, 1, 2, 2)
    model.averaged_network.likelihood.observe = lambda images, u: images  # type: ignore[method-assign]
    exact = marginal.log_prob(images.flatten(1)).double() + 4 * math.log(2 / 255)
    return exact, [-model.likelihood_bound(images, range(100), num_samples=k).nats for k in num_samples]


def test_the_bound_converges_to_the_marginal_likelihood_from_below() -> None:
    exact, bounds = exact_and_bounds([1, 3, 10, 5000])
    gaps = [float((exact - bound).mean()) for bound in bounds]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0.1
    assert gaps[-1] == pytest.approx(0.0, abs=0.01)
    torch.testing.assert_close(bounds[-1], exact, rtol=0, atol=0.15)


def test_one_sample_is_the_evidence_lower_bound() -> None:
    """E ln p(x|z) = ln N(x; W m + b, STD^2) - tr(W S W^T) / (2 STD^2) for q(z|x) = N(m, S)."""
    model = linear_gaussian()
    images = torch.zeros(1, 1, 2, 2)
    q = model.averaged_network.posterior(images, None)
    fit = model.averaged_network.likelihood.log_prob(
        model.averaged_network.likelihood_parameters(q.mean[None], None), images
    ).squeeze()
    spread = (WEIGHT.square() @ q.log_var[0].exp()).sum() / (2 * STD**2)
    elbo = float(fit - spread - StandardNormalLatents(2).kl(q, torch.empty(0)).sum())
    single = -model.likelihood_bound(images.expand(4000, -1, -1, -1), range(4000)).nats
    assert float(single.mean()) == pytest.approx(elbo, abs=4 * float(single.std()) / math.sqrt(4000))


def test_the_noise_of_the_pixels_is_not_that_of_the_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both come from the seed of the image."""
    model, noise = linear_gaussian(), {}
    monkeypatch.setattr(model.averaged_network.likelihood, "observe", lambda images, u: noise.setdefault("u", u) * 0 + images)
    monkeypatch.setattr(Normal, "sample", lambda q, epsilon: q.mean + noise.setdefault("epsilon", epsilon))
    model.likelihood_bound(torch.zeros(2000, 1, 2, 2), range(2000))
    both = torch.cat([torch.special.ndtri(noise["u"]).flatten(1), noise["epsilon"][0]], dim=1)
    correlation = both.T.corrcoef() - torch.eye(6)
    assert float(correlation.abs().max()) < 0.1


# -- the model -----------------------------------------------------------------------------------------------------------


def test_reconstruction_is_deterministic() -> None:
    model, images = random_model(), random_images(5)
    torch.manual_seed(1)
    first = model.reconstruct(images)
    torch.manual_seed(2)
    assert torch.equal(first, model.reconstruct(images))
    assert torch.equal(first, model.decode(model.encode(images)))
    assert first.shape == images.shape
    assert float(first.std(dim=0).max()) > 0  # of different images


@pytest.mark.parametrize("prior", [None, partial(VampPrior, num_pseudo_inputs=5)])
def test_an_image_depends_on_its_own_seed_and_condition_only(prior: Any) -> None:
    model = random_model(conditional=True, **({"prior": prior} if prior else {}))
    many = model.sample([5, 6, 7], torch.tensor([0, 1, 2]))
    assert torch.equal(many[1:2], model.sample([6], torch.tensor([1])))
    assert not torch.equal(many[1:2], model.sample([6], torch.tensor([2])))
    assert not torch.equal(many[1:2], model.sample([5], torch.tensor([1])))


def test_a_bound_depends_on_its_own_image_and_seed_only() -> None:
    model, images = random_model(likelihood=Gaussian()), random_images(3)
    many = model.likelihood_bound(images, [4, 5, 6], num_samples=50)
    torch.testing.assert_close(many.nats[1:2], model.likelihood_bound(images[1:2], [5], num_samples=50).nats)
    torch.testing.assert_close(many.bits_per_dim, many.nats / (64 * math.log(2)))


def test_temperature_0_samples_the_mean_of_the_prior() -> None:
    model = random_model()
    cold = model.sample([1, 2], temperature=0.0)
    assert torch.equal(cold[0], cold[1])
    torch.testing.assert_close(cold[:1], model.decode(torch.zeros(1, 3)))
    torch.testing.assert_close(model.latents([1, 2], 0.5), 0.5 * model.latents([1, 2]))


def test_both_networks_are_conditioned_on_the_label() -> None:
    model, images = random_model(conditional=True), random_images(2)
    zero, one = torch.tensor([0, 0]), torch.tensor([1, 1])
    assert not torch.equal(model.encode(images, zero), model.encode(images, one))
    z = model.encode(images, zero)
    assert not torch.equal(model.decode(z, zero), model.decode(z, one))
    assert torch.equal(model.encode(images), model.encode(images, torch.tensor([-1, -1])))
    with pytest.raises(UserError, match="the labels are words"):
        model.encode(images, torch.tensor([[1, 2, 0], [1, 0, 0]]))


@pytest.mark.parametrize("size", [8, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num_blocks", [0, 1])
def test_convolutions_fit_all_sizes(size: int, channels: int, num_blocks: int) -> None:
    patch_size = 1 if size == 8 else 2
    widths = {8: [8, 16], 28: [8, 16], 32: [8, 16, 16], 64: [8, 16, 16, 16]}[size]
    options = {"num_blocks": num_blocks, "patch_size": patch_size, "hidden": 16}
    model = random_model(
        shape=(channels, size, size),
        encoder=partial(ConvEncoder, channels=widths, **options),
        decoder=partial(ConvDecoder, channels=widths[::-1], **options),
        likelihood=DiscretisedLogistic(),
    )
    images = random_images(2, (channels, size, size))
    assert model.reconstruct(images).shape == images.shape
    assert model.likelihood_bound(images, [0, 1], num_samples=2).nats.shape == (2,)


def test_the_log_variance_and_the_sums_are_float32_under_autocast() -> None:
    model = random_model()
    with torch.autocast("cpu", torch.bfloat16):
        x = random_images(2)
        posterior = model.network.posterior(x, None)
        terms = model.network.elbo_terms(x, posterior, model.network.latent_distribution(), torch.randn(1, 2, 3), None)
    assert posterior.log_var.dtype == torch.float32
    assert {term.dtype for term in terms[:4]} == {torch.float32}
    assert float(model.averaged_network.posterior(1e6 * x, None).log_var.abs().max()) <= 14


@pytest.mark.parametrize("objective", [ELBO(warmup_kimg=2), IWAE(num_samples=3)])
def test_training_beats_independent_pixels(objective: Any) -> None:
    """Nats of binarised digits; the best model of independent pixels knows each one's mean brightness."""
    torch.manual_seed(0)
    images = to_float(torch.from_numpy(np.asarray(Digits().split("train").images)))
    model = VAE(SHAPE, 0, partial(MLPEncoder, hidden=[64]), partial(MLPDecoder, hidden=[64]), 8, objective=objective)
    optimizer = torch.optim.Adam(model.network.parameters(), 4e-3)
    for step in range(200):
        batch = images[torch.randint(len(images), (64,))]
        x = model.network.likelihood.observe(batch, torch.rand_like(batch))
        epsilon = torch.randn(objective.num_samples, 64, 8)
        terms = model.network.elbo_terms(
            x, model.network.posterior(x, None), model.network.latent_distribution(), epsilon, None
        )
        optimizer.zero_grad()
        objective(terms, 64 * step).mean().backward()
        optimizer.step()
    model.averaged_network.load_state_dict(model.network.state_dict())
    test = to_float(torch.from_numpy(np.asarray(Digits().split("test").images)))
    x = Bernoulli().observe(test, torch.rand(test.shape, generator=torch.Generator().manual_seed(0)))
    means = (images.mean(dim=0) / 2 + 0.5).clamp(1e-3, 1 - 1e-3)
    independent = Bernoulli().log_prob(means.logit().expand_as(x), x).mean()
    nats = model.likelihood_bound(test, range(len(test)), num_samples=32).nats
    assert -float(nats.mean()) > float(independent) + 2


@pytest.mark.parametrize(
    ("likelihood", "num_samples", "kind"),
    [
        (Bernoulli(), 1, "ELBO, binarised pixels"),
        (Bernoulli(), 7, "IWAE bound with 7 samples, binarised pixels"),
        (DiscretisedLogistic(), 1, "ELBO, 8-bit pixels"),
        (Gaussian(), 2, "IWAE bound with 2 samples, 8-bit pixels"),
    ],
)
def test_an_estimate_is_labelled_for_what_it_is(likelihood: Likelihood, num_samples: int, kind: str) -> None:
    estimate = random_model(likelihood=likelihood).likelihood_bound(random_images(2), [0, 1], num_samples=num_samples)
    assert estimate.kind == kind


# -- training with Lightning ---------------------------------------------------------------------------------------------

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def test_a_model_built_in_python_trains_and_samples() -> None:
    torch.manual_seed(0)
    model = VAE(image_shape=SHAPE, num_classes=10, latent_dim=4, encoder=encoder, decoder=decoder)
    trainer = L.Trainer(max_epochs=2, **QUIET)
    trainer.fit(model, datamodule=Digits())
    assert model.images_seen == 2 * 1024  # batches of 128; the last one, which is short, is dropped
    images = model.sample(seeds=range(3))
    assert images.shape == (3, *SHAPE)
    assert not torch.equal(images[0], images[1])
    assert float(trainer.callback_metrics["val/loss"]) < 44  # 64 ln 2 = 44.4 of an untrained decoder


def test_the_terms_of_the_elbo_are_logged() -> None:
    model = random_model(condition_dropout=0.0)
    trainer = L.Trainer(max_epochs=1, limit_train_batches=2, log_every_n_steps=1, **QUIET)
    trainer.fit(model, datamodule=Digits(batch_size=60))
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["train/loss"] == pytest.approx(-logged["train/elbo"], rel=1e-5)
    assert logged["train/loss"] == pytest.approx(logged["train/reconstruction"] + logged["train/kl"], rel=1e-5)
    assert logged["val/loss"] == -logged["val/elbo"] == pytest.approx(logged["val/reconstruction"] + logged["val/kl"])
    assert logged["val/bits_per_dim"] == pytest.approx(logged["val/loss"] / (64 * math.log(2)))
    assert 0 <= logged["val/active_units"] <= 3
    (repeated,) = trainer.validate(model, datamodule=Digits(batch_size=60), verbose=False)
    assert repeated["val/loss"] == pytest.approx(logged["val/loss"], rel=1e-6)  # the noise is the same
    assert not [name for name in model.state_dict() if not name.startswith(("network.", "averaged."))]


def test_a_latent_is_active_where_its_means_differ() -> None:
    metric = ActiveUnits()
    means = torch.stack([torch.linspace(-1, 1, 40), torch.linspace(-0.1, 0.1, 40), torch.full((40,), 3.0)], dim=1)
    for rows in (slice(20), slice(20, 40)):
        metric.update(means[rows])
    assert float(metric.compute()) == 1
