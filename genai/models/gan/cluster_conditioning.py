"""Cluster conditioning: both networks of a GAN without labels receive the cluster of an image as their condition.

Liu et al. 2020 (arXiv:2006.10728). A generator that ignores a cluster is penalised for every image of it, and images between
two clusters, which a continuous latent has to pass through, are never sampled. The clusters are those of k-means on the pixels,
fitted once before training; the paper repeats the clustering in the discriminator's feature space during training.

With clusters as conditions a generator tends to collapse to one image per cluster. `DiversityLoss` penalises this: two samples
of a cluster should differ as much as two real images, in the spirit of Mao et al. 2019 (arXiv:1903.05628), who maximise the
difference.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader

from genai.errors import UserError, check_at_least
from genai.images import to_float
from genai.models.gan.latents import Generated, LatentLayout

MAX_FITTED = 50_000  # training images, at most, that k-means is fitted on


@dataclass(frozen=True)
class ClusterConditioning:
    """Settings of the clusters.

    Args:
        num_clusters: number of clusters, of each group of channels.
        per_channel: cluster each channel by itself, for channels that are separate images (stacked MNIST).
        diversity_weight: factor on `DiversityLoss` in the generator's loss; 0 omits it.

    Raises:
        UserError: there are fewer than two clusters, or the weight is negative.
    """

    num_clusters: int
    per_channel: bool = False
    diversity_weight: float = 1.0

    def __post_init__(self) -> None:
        check_at_least("num_clusters", self.num_clusters, 2)
        check_at_least("diversity_weight", self.diversity_weight, 0)


class Clusters(nn.Module):
    """Clusters of images with their frequencies and variances; buffers, so they are part of the state dict.

    G groups of channels (1, or one for each channel) have K clusters each.

    Args:
        image_shape: (C, H, W) of the images.
        settings: number of clusters, and whether each channel has its own.
    """

    centroids: Tensor  # (G, K, C / G * H * W)
    shares: Tensor  # (G, K), the frequency of each cluster; a row sums to 1, zeros before `fit`
    within_cluster_variance: Tensor  # (G, K), mean squared distance between an image and its centroid

    def __init__(self, image_shape: tuple[int, int, int], settings: ClusterConditioning) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.num_groups = channels if settings.per_channel else 1
        self.num_clusters = settings.num_clusters
        pixels = channels // self.num_groups * height * width
        self.register_buffer("centroids", torch.zeros(self.num_groups, self.num_clusters, pixels))
        self.register_buffer("shares", torch.zeros(self.num_groups, self.num_clusters))
        self.register_buffer("within_cluster_variance", torch.zeros(self.num_groups, self.num_clusters))

    @property
    def width(self) -> int:
        """Length of the condition vector: one one-hot part for each group."""
        return self.num_groups * self.num_clusters

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` was called, by this process or by the one whose state was loaded."""
        return bool(self.shares.any())

    def fit(self, images: Tensor) -> None:
        """Fit k-means to images (N, C, H, W) in [-1, 1], deterministically.

        Raises:
            UserError: there are fewer images than clusters.
        """
        if len(images) < self.num_clusters:
            raise UserError(f"{len(images)} images are too few for {self.num_clusters} clusters: set a smaller num_clusters")
        for group, pixels in enumerate(self.grouped(images).unbind(dim=1)):
            means = MiniBatchKMeans(self.num_clusters, batch_size=2048, n_init=3, random_state=0).fit(pixels.cpu().numpy())
            centroids = torch.from_numpy(means.cluster_centers_).to(pixels)
            labels = torch.from_numpy(means.labels_).long().to(pixels.device)
            counts = torch.bincount(labels, minlength=self.num_clusters)
            distances = (pixels - centroids[labels]).square().sum(dim=1)
            self.centroids[group] = centroids
            self.shares[group] = counts / len(images)
            self.within_cluster_variance[group] = torch.bincount(labels, distances, self.num_clusters) / counts.clamp(min=1)

    def grouped(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, G, C / G * H * W)."""
        return images.reshape(len(images), self.num_groups, -1)

    def nearest(self, images: Tensor) -> Tensor:
        """The condition (N, width) of images (N, C, H, W): the nearest centroid of each group."""
        distances = torch.cdist(self.grouped(images.float()).transpose(0, 1), self.centroids)  # (G, N, K)
        return self.one_hot(distances.argmin(dim=2).T)

    def from_noise(self, noise: Tensor) -> Tensor:
        """Standard normal numbers (N, G) -> conditions (N, width), each cluster with the frequency of its images."""
        uniform = torch.special.ndtr(noise.double()).T.contiguous()  # (G, N)
        ends = self.shares.double().cumsum(dim=1)
        return self.one_hot(torch.searchsorted(ends, uniform * ends[:, -1:]).clamp(max=self.num_clusters - 1).T)

    def one_hot(self, clusters: Tensor) -> Tensor:
        """Clusters (N, G) -> one-hot vectors side by side (N, width)."""
        return one_hot(clusters, self.num_clusters).flatten(1).float()


class ClusterLatents(LatentLayout):
    """The latent vector is z followed by the one-hot cluster of each group, which is the condition; labels are unused.

    Args:
        z_dim: length of z.
        clusters: one normal number for each group selects its cluster.
    """

    def __init__(self, z_dim: int, clusters: Clusters) -> None:
        self.z_dim = z_dim
        self.noise_dim = z_dim + clusters.num_groups
        self.latent_dim = z_dim + clusters.width
        self.clusters = clusters

    def from_noise(self, noise: Tensor) -> Tensor:
        """Standard normal numbers (N, z_dim + G) -> latents (N, z_dim + width)."""
        return torch.cat([noise[:, : self.z_dim], self.clusters.from_noise(noise[:, self.z_dim :])], dim=1)

    def network_inputs(self, latents: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """z, and the one-hot cluster that follows it in the latent vector."""
        return latents[:, : self.z_dim], latents[:, self.z_dim :]

    def condition(self, images: Tensor, labels: Tensor | None) -> Tensor | None:
        """The nearest clusters of the images."""
        return self.clusters.nearest(images)


class DiversityLoss:
    """How much closer two samples of a cluster are than two real images: 0 (as far apart, or farther) to 1 (identical).

    max(0, 1 - sum |x - x'|^2 / sum 2 v), where v is the variance within the cluster of x and x': two independent real images
    have a mean squared distance of 2 v. Clusters of one image, or of identical images, add nothing.

    Args:
        clusters: of the GAN.
        weight: factor on the loss.
    """

    def __init__(self, clusters: Clusters, weight: float) -> None:
        self.clusters = clusters
        self.weight = weight

    def generate(self, generator: nn.Module, z: Tensor, condition: Tensor | None) -> Generated:
        """Images of z (N, z_dim) and conditions (N, width), and partners of the first half, from new z, in one forward pass."""
        assert condition is not None
        num_pairs = (len(z) + 1) // 2
        z = torch.cat([z, torch.randn_like(z[:num_pairs])])
        images = generator(z, torch.cat([condition, condition[:num_pairs]]))
        return Generated(images[:-num_pairs], images[-num_pairs:])

    def __call__(self, generated: Generated, condition: Tensor | None) -> Tensor:
        """Images with partners and their conditions (N, width) -> the weighted loss, a scalar."""
        assert condition is not None
        partners = generated.partners
        pairs = slice(len(partners))
        distance = (generated.images[pairs] - partners).square().sum()
        real = 2 * (condition[pairs] @ self.clusters.within_cluster_variance.flatten()).sum()
        return self.weight * ((real - distance).relu() / real.clamp(min=torch.finfo(real.dtype).tiny))


def first_images(loader: DataLoader[tuple[Tensor, Tensor]], num: int = MAX_FITTED) -> Tensor:
    """The first `num` images of the loader's dataset, in order, (num, C, H, W) in [-1, 1]; no state of the loader changes."""

    def batches() -> Iterator[Tensor]:
        rows = range(min(num, len(loader.dataset)))  # type: ignore[arg-type]
        own = torch.Generator().manual_seed(0)  # the default generator would advance
        for images, _ in DataLoader(loader.dataset, 1024, sampler=rows, collate_fn=loader.collate_fn, generator=own):
            yield images if images.is_floating_point() else to_float(images)

    return torch.cat(list(batches()))
