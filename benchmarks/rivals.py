"""MNIST diffusion by other libraries, with their own defaults scaled to two cores; called by benchmarks/diffusion.py.

    python -m venv rivals && rivals/bin/pip install denoising-diffusion-pytorch diffusers
    rivals/bin/python benchmarks/rivals.py ddpm|diffusers IMAGES.npy SAMPLES.npy --minutes 10 --num 10000

IMAGES.npy holds (N, 1, 28, 28) uint8. Needs neither genai nor a network. Prints a line of JSON: images/s of training and of
sampling, parameters, images seen.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

SAMPLE_BATCH = 250


class DenoisingDiffusionPyTorch:
    """lucidrains' Unet and GaussianDiffusion: its Trainer's batch size, Adam and EMA; dim 32 in the place of 64, three levels.

    Padded to 32 pixels. Sampled by the library's DDIM, 50 steps of its 1,000.
    """

    batch_size = 32

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

    def draw(self, num: int) -> Tensor:
        """(num, 1, 32, 32) in [0, 1]."""
        return self.ema.ema_model.sample(batch_size=num)

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.diffusion.model.parameters())


class Diffusers:
    """Hugging Face's UNet2DModel trained as its unconditional example does: AdamW, 500 warm-up steps, cosine, batches of 16.

    Widths 32, 64, 64 in the place of 128 to 512, attention at the lowest level, EMA as in the example. Padded to 32 pixels.
    Sampled by its DDIMScheduler, 50 steps.
    """

    batch_size = 16

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

    def draw(self, num: int) -> Tensor:
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


RIVALS: dict[str, Callable[[], DenoisingDiffusionPyTorch | Diffusers]] = {
    "ddpm": DenoisingDiffusionPyTorch,
    "diffusers": Diffusers,
}


def batches(images: np.ndarray, size: int) -> Iterator[Tensor]:
    """Batches of `size` without end, shuffled anew each epoch: (size, 1, 32, 32) in [0, 1]."""
    padded = torch.nn.functional.pad(torch.from_numpy(images), (2, 2, 2, 2))
    while True:
        for rows in torch.randperm(len(padded)).split(size):
            yield padded[rows].float() / 255


def main() -> None:
    """Train, draw, say how fast."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=RIVALS)
    parser.add_argument("images")
    parser.add_argument("samples")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--num", type=int, default=10_000)
    options = parser.parse_args()
    torch.manual_seed(0)
    rival = RIVALS[options.library]()
    began, seen = time.perf_counter(), 0
    for images in batches(np.load(options.images), rival.batch_size):
        with torch.autocast("cpu", torch.bfloat16):
            rival.step(images)
        seen += len(images)
        if time.perf_counter() - began > 60 * options.minutes:
            break
    trained = time.perf_counter()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        drawn = [rival.draw(min(SAMPLE_BATCH, options.num - i)) for i in range(0, options.num, SAMPLE_BATCH)]
    seconds = time.perf_counter() - trained
    samples = torch.cat(drawn)[:, :, 2:-2, 2:-2].float()
    np.save(options.samples, (255 * samples.clamp(0, 1)).round().to(torch.uint8).numpy())
    speed = {"training": round(seen / (trained - began), 1), "sampling": round(options.num / seconds, 1)}
    print(json.dumps({"parameters": rival.num_parameters(), "images_seen": seen, **speed}))


if __name__ == "__main__":
    main()
