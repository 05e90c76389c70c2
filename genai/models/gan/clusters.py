"""Self-conditioning: a GAN without labels is told which of many clusters an image is in.

Liu et al. 2020 (arXiv:2006.10728). A generator that leaves a cluster out loses every game about it, and the images between two
clusters, which a continuous latent must pass, are never drawn. The clusters here are those of k-means on the pixels, found
once, before training; the paper finds them again and again in the discriminator's features.

Told the cluster, a generator soon draws one picture of each. So it is asked to let two images of a cluster differ as much as
real ones do (`Clusters.diversity_loss`), in the spirit of Mao et al. 2019 (arXiv:1903.05628), who ask for as much as possible.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader

from genai.errors import UserError
from genai.images import to_float

FITTED_ON = 50_000  # training images, at most, that k-means sees


@dataclass(frozen=True)
class SelfConditioning:
    """How the training images are told apart.

    Args:
        num_clusters: how many clusters there are.
        per_channel: find clusters of each channel by itself, for channels that are pictures of their own (stacked MNIST).
        diversity_weight: factor on `Clusters.diversity_loss` in the generator's loss; 0 leaves it out.

    Raises:
        UserError: there are fewer than two clusters, or the weight is negative.
    """

    num_clusters: int
    per_channel: bool = False
    diversity_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.num_clusters < 2:
            raise UserError(f"{self.num_clusters} clusters tell nothing apart: use num_clusters of 2 or more")
        if self.diversity_weight < 0:
            raise UserError(f"a diversity_weight of {self.diversity_weight} rewards pictures that are all alike: use 0 or more")


class Clusters(nn.Module):
    """Clusters of images, how often an image is in each, and how far its images lie apart.

    G groups of channels (1, or one for each channel) have K clusters each. They are found by `fit`, kept in the state dict, and
    drawn from by the normal numbers that follow the latent of the generator.

    Args:
        image_shape: (C, H, W) of the images.
        settings: how many clusters, of what.
    """

    centroids: Tensor  # (G, K, C / G * H * W)
    shares: Tensor  # (G, K), each row adds up to 1; zeros before `fit`
    within_cluster_variance: Tensor  # (G, K), mean squared distance between an image and the centroid

    def __init__(self, image_shape: tuple[int, int, int], settings: SelfConditioning) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.num_groups = channels if settings.per_channel else 1
        self.num_clusters = settings.num_clusters
        self.diversity_weight = settings.diversity_weight
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
        return bool(self.shares.any())

    def fit(self, images: Tensor) -> None:
        """Find the clusters of images (N, C, H, W) in [-1, 1], the same ones each time.

        Raises:
            UserError: there are fewer images than clusters.
        """
        if len(images) < self.num_clusters:
            raise UserError(f"{len(images)} images make no {self.num_clusters} clusters: set a smaller num_clusters")
        for group, pixels in enumerate(self.grouped(images).unbind(dim=1)):
            means = MiniBatchKMeans(self.num_clusters, batch_size=2048, n_init=3, random_state=0).fit(pixels.cpu().numpy())
            centroids, labels = torch.from_numpy(means.cluster_centers_).to(pixels), torch.from_numpy(means.labels_).long()
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
        return self.condition(distances.argmin(dim=2).T)

    def diversity_loss(self, images: Tensor, others: Tensor, condition: Tensor) -> Tensor:
        """How much closer two images of a cluster are than real ones: 0 (as far, or farther) to 1 (the same), differentiable.

        It is max(0, 1 - sum |x - x'|^2 / sum 2 s), where s is the spread of the cluster that x and x' are drawn of: two
        independent real images have a mean squared distance of 2 s. Clusters of one image, or of equal ones, ask for nothing.

        Args:
            images, others: (N, C, H, W) drawn from different latents, in pairs.
            condition: (N, width), of both.
        """
        apart = (images - others).square().sum()
        real = 2 * (condition @ self.within_cluster_variance.flatten()).sum()
        return (real - apart).relu() / real.clamp(min=torch.finfo(real.dtype).tiny)

    def drawn(self, noise: Tensor) -> Tensor:
        """The condition (N, width) that normal numbers (N, G) stand for; a cluster comes as often as it has images."""
        uniform = torch.special.ndtr(noise.double()).T.contiguous()  # (G, N)
        ends = self.shares.double().cumsum(dim=1)
        return self.condition(torch.searchsorted(ends, uniform * ends[:, -1:]).clamp(max=self.num_clusters - 1).T)

    def condition(self, clusters: Tensor) -> Tensor:
        """Clusters (N, G) -> one-hot vectors side by side (N, width)."""
        return one_hot(clusters, self.num_clusters).flatten(1).float()


def first_images(loader: DataLoader[tuple[Tensor, Tensor]], num: int = FITTED_ON) -> Tensor:
    """The first `num` images of the loader's data set, in order, (num, C, H, W) in [-1, 1]; no state of the loader changes."""

    def batches() -> Iterator[Tensor]:
        rows = range(min(num, len(loader.dataset)))  # type: ignore[arg-type]
        own = torch.Generator().manual_seed(0)  # or the order of what else is random would change
        for images, _ in DataLoader(loader.dataset, 1024, sampler=rows, collate_fn=loader.collate_fn, generator=own):
            yield images if images.is_floating_point() else to_float(images)

    return torch.cat(list(batches()))
