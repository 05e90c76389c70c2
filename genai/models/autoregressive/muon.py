"""torch's Muon with its products in float32, all matrices of one shape at once: for processors without bfloat16."""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Float32Muon(torch.optim.Muon):
    """Muon (Jordan et al. 2024) as in torch, which iterates in bfloat16: that is many times slower on most CPUs.

    Its options are those of torch.optim.Muon: lr, weight_decay, momentum, nesterov, ns_coefficients, eps, ns_steps and
    adjust_lr_fn (`original` or `match_rms_adamw`).
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; the closure runs before it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                updates = torch.stack([self.momentum_of(parameter, group) for parameter in parameters])  # (B, rows, columns)
                updates = orthogonalised(updates, group["ns_coefficients"], group["ns_steps"], group["eps"])
                is_like_adam = group["adjust_lr_fn"] == "match_rms_adamw"
                scale = 0.2 * math.sqrt(max(shape)) if is_like_adam else math.sqrt(max(1.0, shape[0] / shape[1]))
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, list(updates.unbind()), alpha=-group["lr"] * scale)
        return loss

    def momentum_of(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Add the gradient to the parameter's momentum; returns the direction of its update."""
        state, momentum = self.state[parameter], group["momentum"]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter.grad)  # type: ignore[arg-type]
        buffer: Tensor = state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(buffer, momentum) if group["nesterov"] else buffer  # type: ignore[union-attr]


def orthogonalised(updates: Tensor, coefficients: tuple[float, float, float], num_steps: int, eps: float) -> Tensor:
    """U V^T of matrices U S V^T (B, rows, columns), with singular values of about 1, by Newton-Schulz iterations."""
    a, b, c = coefficients
    is_tall = updates.shape[1] > updates.shape[2]
    x = updates.mT if is_tall else updates
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(num_steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x
