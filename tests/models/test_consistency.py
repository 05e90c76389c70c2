"""Consistency tuning: its noise levels, its fixed point, and sampling in one step."""

import pytest
import torch
from torch import Tensor, nn

from genai.models.diffusion.consistency import Consistency
from genai.models.diffusion.preconditioning import append_dims
from genai.models.diffusion.samplers import consistency


def test_the_loss_is_denoising_at_first_and_the_levels_approach() -> None:
    t = torch.tensor([0.1, 1.0, 10.0])
    tuning = Consistency(doubling_kimg=10)
    assert float(tuning.lower_level(t, 0)[0]) == 0  # n(t) is more than 2
    assert float(tuning.lower_level(t, 0)[2]) == pytest.approx(5.0, abs=0.01)
    gaps = [float((t - tuning.lower_level(t, images))[1]) for images in (0, 20_000, 40_000, 60_000)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.2


def test_the_true_consistency_function_has_no_loss() -> None:
    """Where all data are 0, every trajectory ends there."""
    x_0 = torch.zeros(4, 1, 2, 2)
    loss = Consistency(10)(
        lambda x, sigma: torch.zeros_like(x), x_0, torch.tensor([0.1, 1.0, 5.0, 50.0]), torch.randn(4, 1, 2, 2), 10**5
    )
    assert float(loss.max()) < 1e-4


@pytest.mark.slow
def test_one_step_samples_a_gaussian_after_tuning() -> None:
    """D(x; sigma) = a(sigma) x: one step of a denoiser has far too small a standard deviation, consistency the right one."""
    torch.manual_seed(0)
    std = 0.5

    class Linear(nn.Module):
        """c_skip x + c_out (x / sigma-scaled) * w(ln sigma): a small table of slopes."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            total = (sigma**2 + std**2).sqrt()
            w = self.layers(sigma.log()[:, None] / 4)[:, 0]
            return append_dims(std**2 / total**2) * x + append_dims(sigma * std / total**2 * w) * x

    network = Linear()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    tuning = Consistency(doubling_kimg=20)
    for step in range(600):
        x_0 = std * torch.randn(256, 1, 2, 2)
        t = (1.5 * torch.randn(256)).exp()
        loss = tuning(network, x_0, t, torch.randn_like(x_0), step * 256).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = 5.0 * torch.randn(2000, 1, 2, 2)
    samples = consistency(network, x, torch.tensor([5.0, 0.0]), lambda: torch.zeros(0))
    denoised_std = std**2 / (std**2 + 25) * 5.0
    assert denoised_std < 0.06
    assert float(samples.detach().std()) > 0.35


def test_two_steps_add_new_noise_between() -> None:
    seen = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append((float(x.mean()), float(sigma[0])))
        return torch.zeros_like(x)

    consistency(denoise, torch.full((1, 1, 2, 2), 80.0), torch.tensor([80.0, 0.8, 0.0]), lambda: torch.ones(1, 1, 2, 2))
    assert seen == [(80.0, 80.0), (pytest.approx(0.8), pytest.approx(0.8))]
