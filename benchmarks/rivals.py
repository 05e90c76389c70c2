"""MNIST by other libraries, with their own defaults scaled to two cores; called by benchmarks/diffusion.py and vae.py.

    python -m venv rivals && rivals/bin/pip install denoising-diffusion-pytorch diffusers pythae
    rivals/bin/python benchmarks/rivals.py ddpm|diffusers|pythae FOLDER --minutes 10 --num 10000

FOLDER holds train.npy and test.npy, (N, 1, 28, 28) uint8; LIBRARY.npy, samples of that form, is written there. Needs no genai
installed. Prints a line of JSON: parameters, images seen, images/s of training and of sampling, for pythae the bound.
"""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

SAMPLE_BATCH = 250
BOUND = Path(__file__).parent.parent / "genai/models/vae/bound.py"
BOUND_IMAGES, BOUND_SAMPLES, AT_ONCE = 200, 200, 25


class DenoisingDiffusionPyTorch:
    """lucidrains' Unet and GaussianDiffusion: its Trainer's batch size, Adam and EMA; dim 32 instead of 64, three levels.

    Padded to 32 pixels. Sampled by the library's DDIM, 50 steps of its 1,000.
    """

    batch_size = 32
    side = 32

    def __init__(self) -> None:
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet
        from ema_pytorch import EMA

        network = Unet(dim=32, dim_mults=(1, 2, 4), channels=1)
        self.diffusion = GaussianDiffusion(network, image_size=32, timesteps=1000, sampling_timesteps=50)
        self.ema = EMA(self.diffusion, beta=0.995, update_every=10)
        self.optimizer = torch.optim.Adam(self.diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))

    def step(self, images: Tensor) -> None:
        """One step on (N, 1, 32, 32) in [0, 1], which the library scales itself."""
        self.diffusion(images).backward()
        torch.nn.utils.clip_grad_norm_(self.diffusion.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()

    def sample(self, num: int) -> Tensor:
        """(num, 1, 32, 32) in [0, 1]."""
        return self.ema.ema_model.sample(batch_size=num)

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.diffusion.model.parameters())


class Diffusers:
    """Hugging Face's UNet2DModel trained as its unconditional example does: AdamW, 500 warm-up steps, cosine, batches of 16.

    Widths 32, 64, 64 instead of 128 to 512, attention at the lowest level, EMA as in the example. Padded to 32 pixels.
    Sampled by its DDIMScheduler, 50 steps.
    """

    batch_size = 16
    side = 32

    def __init__(self) -> None:
        from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
        from diffusers.optimization import get_cosine_schedule_with_warmup
        from diffusers.training_utils import EMAModel

        self.network = UNet2DModel(
            sample_size=32,
            in_channels=1,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        )
        self.scheduler = DDPMScheduler(num_train_timesteps=1000)
        self.sampler = DDIMScheduler(num_train_timesteps=1000)
        self.ema = EMAModel(self.network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
        self.lr_schedule = get_cosine_schedule_with_warmup(self.optimizer, 500, 60_000 // self.batch_size * 10)

    def step(self, images: Tensor) -> None:
        """One step on (N, 1, 32, 32) in [0, 1]."""
        clean = 2 * images - 1
        noise = torch.randn_like(clean)
        t = torch.randint(0, 1000, (len(clean),))
        predicted = self.network(self.scheduler.add_noise(clean, noise, t), t).sample
        torch.nn.functional.mse_loss(predicted, noise).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.lr_schedule.step()
        self.optimizer.zero_grad()
        self.ema.step(self.network.parameters())

    def sample(self, num: int) -> Tensor:
        """(num, 1, 32, 32) in [0, 1]."""
        self.ema.store(self.network.parameters())
        self.ema.copy_to(self.network.parameters())
        x = torch.randn(num, 1, 32, 32)
        self.sampler.set_timesteps(50)
        for t in self.sampler.timesteps:
            x = self.sampler.step(self.network(x, t).sample, t, x).prev_sample
        self.ema.restore(self.network.parameters())
        return (x.clamp(-1, 1) + 1) / 2

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())


class Pythae:
    """pythae's VAE with the convolutional networks of its MNIST benchmark: 16 latents, Bernoulli pixels, batches of 64.

    Binarised anew at each step; Adam at 1e-3, as in its tutorial.
    """

    batch_size = 64
    side = 28

    def __init__(self) -> None:
        from pythae.models import VAE, VAEConfig
        from pythae.models.nn.benchmarks.mnist import Decoder_Conv_AE_MNIST, Encoder_Conv_VAE_MNIST

        config = VAEConfig(input_dim=(1, 28, 28), latent_dim=16, reconstruction_loss="bce")
        self.model = VAE(config, encoder=Encoder_Conv_VAE_MNIST(config), decoder=Decoder_Conv_AE_MNIST(config))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def step(self, images: Tensor) -> None:
        """One step on (N, 1, 28, 28) in [0, 1]."""
        self.model({"data": torch.bernoulli(images)}).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def sample(self, num: int) -> Tensor:
        """(num, 1, 28, 28) in [0, 1]."""
        self.model.eval()
        decoded: Tensor = self.model.decoder(torch.randn(num, 16)).reconstruction
        return decoded.float()

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    @torch.no_grad()
    def bound(self, images: Tensor) -> float:
        """The importance-weighted bound of -ln p(x) in nats, mean over images (N, 1, 28, 28) in [0, 1], binarised at random."""
        self.model.eval()
        x = torch.bernoulli(images, generator=torch.Generator().manual_seed(0))
        posterior = self.model.encoder(x)
        q = torch.distributions.Normal(posterior.embedding, (posterior.log_covariance / 2).exp())
        prior = torch.distributions.Normal(0.0, 1.0)

        def log_weights(num: int) -> Tensor:
            z = q.sample((num,))  # (num, N, 16)
            p = self.model.decoder(z.flatten(0, 1)).reconstruction.view(num, *x.shape).clamp(1e-6, 1 - 1e-6)
            log_likelihood = torch.where(x > 0, p.log(), (1 - p).log()).flatten(2).sum(2)
            return log_likelihood + (prior.log_prob(z) - q.log_prob(z)).sum(2)

        return -float(evaluator().importance_weighted_bound(log_weights, BOUND_SAMPLES, AT_ONCE).mean())


def evaluator() -> Any:
    """genai's bound, a file that needs torch alone."""
    spec = importlib.util.spec_from_file_location("bound", BOUND)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RIVALS: dict[str, Callable[[], DenoisingDiffusionPyTorch | Diffusers | Pythae]] = {
    "ddpm": DenoisingDiffusionPyTorch,
    "diffusers": Diffusers,
    "pythae": Pythae,
}


def batches(images: np.ndarray, size: int, side: int) -> Iterator[Tensor]:
    """Batches of `size` without end, shuffled anew each epoch: (size, 1, side, side) in [0, 1]."""
    margin = (side - images.shape[-1]) // 2
    padded = torch.nn.functional.pad(torch.from_numpy(images), (margin,) * 4)
    while True:
        for rows in torch.randperm(len(padded)).split(size):
            yield padded[rows].float() / 255


def main() -> None:
    """Train, sample, print the speed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=RIVALS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--num", type=int, default=10_000)
    options = parser.parse_args()
    torch.manual_seed(0)
    rival = RIVALS[options.library]()
    began, seen = time.perf_counter(), 0
    for images in batches(np.load(options.folder / "train.npy"), rival.batch_size, rival.side):
        with torch.autocast("cpu", torch.bfloat16):
            rival.step(images)
        seen += len(images)
        if time.perf_counter() - began > 60 * options.minutes:
            break
    trained = time.perf_counter()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        parts = [rival.sample(min(SAMPLE_BATCH, options.num - i)) for i in range(0, options.num, SAMPLE_BATCH)]
    seconds = time.perf_counter() - trained
    inside = slice((rival.side - 28) // 2, (rival.side - 28) // 2 + 28)
    samples = torch.cat(parts)[:, :, inside, inside].float()
    np.save(options.folder / f"{options.library}.npy", (255 * samples.clamp(0, 1)).round().to(torch.uint8).numpy())
    figures: dict[str, Any] = {"parameters": rival.num_parameters(), "images_seen": seen}
    figures |= {"training": round(seen / (trained - began), 1), "sampling": round(options.num / seconds, 1)}
    if isinstance(rival, Pythae):
        tested = np.load(options.folder / "test.npy")[:BOUND_IMAGES]
        with torch.autocast("cpu", torch.bfloat16):
            figures["nats"] = round(rival.bound(torch.from_numpy(tested).float() / 255), 2)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
