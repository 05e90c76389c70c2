"""Cluster conditioning, on images in three clusters that are far apart."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from genai import runs
from genai.cli import main
from genai.errors import UserError
from genai.models.gan.cluster_conditioning import ClusterConditioning, Clusters, DiversityLoss, first_images
from genai.models.gan.gan import GAN
from genai.models.gan.latents import Generated
from genai.models.gan.resampling import Resampling
from genai.networks.mlp import MLPDiscriminator, MLPGenerator

ROOT = Path(__file__).parent.parent.parent
LEVELS = torch.tensor([-0.9, 0.0, 0.8])
COUNTS = [100, 300, 600]
QUIET: Any = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def images_apart(channels: int = 1) -> tuple[Tensor, Tensor]:
    """A thousand images (1000, channels, 4, 4) near one of three grey levels, and which: (1000, channels)."""
    generator = torch.Generator().manual_seed(0)
    each = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
    which = torch.stack([each[torch.randperm(1000, generator=generator)] for _ in range(channels)], dim=1)
    return LEVELS[which][:, :, None, None] + 0.05 * torch.randn(1000, channels, 4, 4, generator=generator), which


def fitted(channels: int = 1, per_channel: bool = False) -> tuple[Clusters, Tensor, Tensor]:
    images, which = images_apart(channels)
    clusters = Clusters((channels, 4, 4), ClusterConditioning(3, per_channel))
    clusters.fit(images)
    return clusters, images, which


class Level(nn.Module):
    """A generator of constant images: the grey level of the condition's cluster, plus `scale` times z."""

    latent_dim = 2

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.zeros(num_classes))
        self.scale = nn.Parameter(torch.tensor(0.001))

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        return (condition @ self.levels + self.scale * z[:, 0])[:, None, None, None].expand(-1, 1, 4, 4)


class Same(nn.Module):
    """A discriminator with the same logit for all images."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.logit + 0 * x.sum(dim=(1, 2, 3))


class Bright(nn.Module):
    """A discriminator that always chooses the brightest image."""

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return 1000 * x.mean(dim=(1, 2, 3))


def level_gan(**options: Any) -> GAN:
    """A GAN whose images show their cluster."""
    clusters = fitted()[0]
    model = GAN((1, 4, 4), 0, Level, Same, cluster_conditioning=ClusterConditioning(3), **options).eval()
    assert model.clusters is not None
    model.clusters.load_state_dict(clusters.state_dict())
    model.averaged.network.levels.data = clusters.centroids[0].mean(dim=1)
    return model


def test_images_of_a_level_are_a_cluster() -> None:
    clusters, images, which = fitted()
    condition = clusters.nearest(images)
    assert condition.shape == (1000, 3)
    assert clusters.shares[0].sort().values.tolist() == pytest.approx([0.1, 0.3, 0.6])
    for level in range(3):
        assert len(condition[which[:, 0] == level].unique(dim=0)) == 1
    assert clusters.centroids[0].mean(dim=1).sort().values.tolist() == pytest.approx(LEVELS.tolist(), abs=0.01)


def test_channels_can_have_clusters_of_their_own() -> None:
    clusters, images, which = fitted(3, per_channel=True)
    condition = clusters.nearest(images).unflatten(1, (3, 3))
    assert clusters.width == 9
    assert torch.equal(condition.sum(dim=2), torch.ones(1000, 3))
    for channel in range(3):
        pairs = torch.stack([which[:, channel], condition[:, channel].argmax(dim=1)], dim=1)
        assert len(pairs.unique(dim=0)) == 3


def test_a_cluster_is_sampled_as_often_as_it_has_images() -> None:
    clusters = fitted()[0]
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    condition = clusters.from_noise(torch.special.ndtri(uniform)[:, None])
    assert condition.sum(dim=0).tolist() == pytest.approx((1000 * clusters.shares[0]).tolist(), abs=1)
    extremes = clusters.from_noise(torch.tensor([[-40.0], [40.0]]))
    assert extremes.sum(dim=1).tolist() == [1.0, 1.0]


def test_samples_have_the_shares_of_the_images_each_from_its_own_seed() -> None:
    model = level_gan()
    samples = model.sample(range(3000))
    level = (samples[:, 0, 0, 0, None] - LEVELS).abs().argmin(dim=1)
    shares = torch.bincount(level, minlength=3) / 3000
    assert shares.tolist() == pytest.approx([0.1, 0.3, 0.6], abs=0.03)  # three standard deviations are 0.027
    assert torch.equal(model.sample([7, 2000]), samples[[7, 2000]])
    latents = model.latents(range(20))
    assert latents.shape == (20, model.layout.latent_dim)
    assert torch.equal(model.decode(latents), samples[:20])
    halves = (model.decode(latents[:10]) + model.decode(latents[10:])) / 2  # a walk from one cluster to another is smooth
    assert torch.allclose(model.decode((latents[:10] + latents[10:]) / 2), halves)


def test_exported_weights_give_the_same_samples() -> None:
    model, other = level_gan(), level_gan()
    assert other.clusters is not None
    other.clusters.shares.copy_(torch.tensor([[0.0, 0.0, 1.0]]))
    assert not torch.equal(other.sample(range(20)), model.sample(range(20)))
    other.import_state(model.export_state())
    assert torch.equal(other.sample(range(20)), model.sample(range(20)))


def test_candidates_of_a_seed_are_of_one_cluster() -> None:
    model = level_gan(resampling=Resampling(4))
    model.averaged.network.scale.data.fill_(0.05)
    model.discriminator = Bright()
    samples = model.sample(range(3000))
    level = (samples[:, 0, 0, 0, None] - LEVELS).abs().argmin(dim=1)
    assert (torch.bincount(level, minlength=3) / 3000).tolist() == pytest.approx([0.1, 0.3, 0.6], abs=0.03)
    brighter = samples[:, 0, 0, 0] - LEVELS[level]  # of four normal numbers times 0.05 the largest has a mean of 0.051
    assert brighter.mean() > 0.03


def test_the_diversity_loss_compares_with_real_distances() -> None:
    clusters, images, _ = fitted()
    condition = clusters.nearest(images)
    pixels, variance = 16, 0.05**2
    assert clusters.within_cluster_variance[0].tolist() == pytest.approx([pixels * variance] * 3, rel=0.1)
    centres = (condition @ clusters.centroids[0]).unflatten(1, (1, 4, 4))
    centred = images - centres
    loss = DiversityLoss(clusters, weight=2.0)
    opposite = centres - centred  # squared distance 4 v on average, where independent images have 2 v
    assert loss(Generated(images, opposite), condition) == 0
    assert loss(Generated(images, images), condition) == 2
    halfway = loss(Generated(centres + 0.5 * centred, centres - 0.5 * centred), condition)
    assert halfway.item() == pytest.approx(2 * 0.5, abs=0.02)
    clusters.within_cluster_variance.zero_()
    assert loss(Generated(images, images), condition) == 0


def test_half_of_the_images_have_a_partner_of_their_cluster() -> None:
    generator = Level((1, 4, 4), 3)
    generator.levels.data = torch.tensor([10.0, 20.0, 30.0])
    z, condition = torch.randn(5, 2), torch.eye(3)[[0, 2, 1, 1, 0]]
    images, partners = DiversityLoss(fitted()[0], 1.0).generate(generator, z, condition)
    torch.testing.assert_close(images[:, 0, 0, 0], torch.tensor([10.0, 30.0, 20.0, 20.0, 10.0]) + 0.001 * z[:, 0])
    assert partners[:, 0, 0, 0].round().tolist() == [10.0, 30.0, 20.0]
    assert not (images[:3] == partners).any()


def test_without_clusters_there_is_no_diversity_loss() -> None:
    assert GAN((1, 4, 4), 0, MLPGenerator, MLPDiscriminator).diversity_loss is None
    weightless = ClusterConditioning(3, diversity_weight=0.0)
    assert GAN((1, 4, 4), 0, Level, Same, cluster_conditioning=weightless).diversity_loss is None


@pytest.mark.slow
@pytest.mark.parametrize(("weight", "reached"), [(1.0, 0.05), (0.0, 0.001)])
def test_images_of_a_cluster_vary_as_much_as_real_ones(weight: float, reached: float) -> None:
    torch.manual_seed(0)
    images = images_apart()[0]
    loader = DataLoader(TensorDataset(images, torch.zeros(1000, dtype=torch.long)), batch_size=200, shuffle=True)
    sgd: Any = {"class_path": "torch.optim.SGD", "init_args": {"lr": 5e-5}}
    model = GAN((1, 4, 4), 0, Level, Same, sgd, sgd, cluster_conditioning=ClusterConditioning(3, diversity_weight=weight))
    L.Trainer(accelerator="cpu", max_epochs=40, **QUIET).fit(model, loader)
    assert model.generator.scale.item() == pytest.approx(reached, rel=0.2)


@pytest.mark.slow
@pytest.mark.long
def test_a_gan_conditioned_on_clusters_generates_all_of_them() -> None:
    torch.manual_seed(0)
    images = images_apart()[0].clamp(-1, 1)
    loader = DataLoader(TensorDataset(images, torch.zeros(1000, dtype=torch.long)), batch_size=50, shuffle=True)
    settings: Any = {"cluster_conditioning": ClusterConditioning(3), "ema_halflife_kimg": 1.0}
    optimizer = {"class_path": "torch.optim.Adam", "init_args": {"lr": 2e-3, "betas": [0.5, 0.999]}}
    model = GAN(
        (1, 4, 4),
        0,
        lambda shape, width: MLPGenerator(shape, width, 4, (32,)),
        lambda shape, width: MLPDiscriminator(shape, width, (32,), dropout=0.0),
        optimizer,  # type: ignore[arg-type]
        optimizer,  # type: ignore[arg-type]
        **settings,
    )
    L.Trainer(accelerator="cpu", max_epochs=20, **QUIET).fit(model, loader)
    means = model.sample(range(500)).mean(dim=(1, 2, 3))
    level = (means[:, None] - LEVELS).abs().argmin(dim=1)
    assert (torch.bincount(level, minlength=3) / 500).tolist() == pytest.approx([0.1, 0.3, 0.6], abs=0.08)
    assert (means - LEVELS[level]).abs().mean() < 0.2


def test_reading_the_images_of_the_clusters_changes_no_random_state() -> None:
    loader = DataLoader(TensorDataset(torch.rand(50, 1, 4, 4), torch.zeros(50)), batch_size=8, shuffle=True)
    state = torch.get_rng_state()
    assert torch.equal(first_images(loader, 20), loader.dataset[:20][0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_a_run_with_clusters_resumes_and_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fit = ["fit", "-c", str(ROOT / "configs/digits/gan.yaml"), "--tracker", "none", "--trainer.enable_progress_bar", "false"]
    fit += ["--model.init_args.cluster_conditioning", "{num_clusters: 12}", "--trainer.limit_train_batches", "3"]
    fit += ["--evaluation.every_n_epochs", "0", "--gallery.every_n_epochs", "0", "--experiment", "clusters"]
    assert main([*fit, "--trainer.max_epochs", "1"]) == 0
    run = runs.find("clusters")
    first = torch.load(run.path / "checkpoints/last.ckpt", weights_only=True)["state_dict"]["clusters.centroids"]
    assert main(["fit", "--resume", "clusters", "--trainer.max_epochs", "2"]) == 0
    again = torch.load(run.path / "checkpoints/last.ckpt", weights_only=True)["state_dict"]["clusters.centroids"]
    assert first.abs().sum() > 0
    assert torch.equal(first, again)
    assert main(["sample", "clusters", "--num", "4", "--realness", "--out", "realness.csv"]) == 0
    assert Path("realness.csv").is_file()


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(UserError, match="num_clusters 1 is out of range: use 2 or more"):
        ClusterConditioning(1)
    with pytest.raises(UserError, match="use 0 or more"):
        ClusterConditioning(2, diversity_weight=-1.0)
    with pytest.raises(UserError, match="smaller num_clusters"):
        Clusters((1, 4, 4), ClusterConditioning(30)).fit(torch.zeros(20, 1, 4, 4))
    with pytest.raises(UserError, match="set conditional to false"):
        GAN((1, 4, 4), 3, MLPGenerator, MLPDiscriminator, conditional=True, cluster_conditioning=ClusterConditioning(3))
