"""Instant checks of notebook 08, a VAE for your own pictures."""

import math
from collections.abc import Callable
from statistics import NormalDist

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from checks.common import (
    correct,
    generator,
    instant_check,
    keeps_dtype,
    require,
    require_gradients,
    require_tensor,
    untouched,
)
from checks.common import numbers as numbers


@instant_check
def log_level(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check `answer(x, mean, log_scale)`: log-probabilities of 8-bit levels, like x, nats."""
    random = generator()
    x = torch.randint(0, 256, (4, 3, 2, 5), generator=random).double() / 255
    mean = torch.rand(x.shape, generator=random, dtype=torch.float64)
    log_scale = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64).view(3, 1, 1)
    with untouched(x, mean, log_scale):
        value = answer(x, mean, log_scale)
    require_tensor(value, x.shape, "one number for each pixel and channel; don't add them up")
    require(not value.isnan().any(), "nan", "some results are nan: is it the logarithm of a negative number?")
    require(not (value >= 0).all(), "sign", "all results are positive; the logarithm of a probability is negative")
    _check_totals(answer)
    _check_tails(answer)
    require(
        torch.allclose(value, _probability(x, mean, log_scale).log(), atol=1e-8),
        "value",
        "every set of 256 probabilities has the sum 1, but single ones differ from (8.1): which level gets which?",
    )
    inner, edges = torch.tensor([[0.2, 0.6, 0.9], [0.0, 1.0, 0.0]], dtype=torch.float64).view(2, 1, 1, 1, 3)
    narrow = torch.tensor([-3.0], dtype=torch.float64).view(1, 1, 1)
    for pixels in (inner, edges):
        around = pixels + torch.tensor([0.1, -0.06, 0.0], dtype=torch.float64)
        require_gradients(lambda mean, scale, pixels=pixels: answer(pixels, mean, scale), mean=around, log_scale=narrow)
    keeps_dtype(answer, x, mean, log_scale)
    correct("log_level: 256 probabilities with the sum 1, open ends, stable far from the mean, right gradients.")


def _probability(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """(8.1) by cutting the line into 256 pieces, mirrored so that x is below the mean, where differences are exact."""
    x, mean = torch.where(x > mean, 1 - x, x), torch.where(x > mean, 1 - mean, mean)
    cuts = (torch.arange(255, dtype=torch.float64) + 0.5) / 255
    below = 0.5 * torch.erfc((mean.unsqueeze(-1) - cuts) / (log_scale.exp().unsqueeze(-1) * math.sqrt(2)))
    below = F.pad(F.pad(below, (1, 0), value=0.0), (0, 1), value=1.0)
    return below.diff(dim=-1).gather(-1, (x * 255).round().long().unsqueeze(-1)).squeeze(-1)


def _check_totals(answer: Callable) -> None:
    """The probabilities of all 256 levels have the sum 1, in the middle, at the ends and beyond them."""
    levels = (torch.arange(256, dtype=torch.float64) / 255).view(1, 1, 1, 256)
    for centre, scale in [(0.5, 0.02), (0.02, 0.05), (1.0, 0.1), (-0.1, 0.1), (0.4, 0.6), (0.5, 1.5)]:
        log_scale = torch.tensor(scale, dtype=torch.float64).log().view(1, 1, 1)
        log_p = answer(levels, torch.full_like(levels, centre), log_scale)
        total = log_p.exp().sum().item()
        middle = log_p[..., 1:255].exp().sum().item()
        expected = NormalDist(centre, scale).cdf(254.5 / 255) - NormalDist(centre, scale).cdf(0.5 / 255)
        require(
            not math.isclose(total, 255, rel_tol=0.2),
            "density",
            "the numbers have the sum 255: this is a density; multiply by the width of a level, 1/255",
        )
        require(
            not math.isclose(middle, 2 * expected, rel_tol=0.05),
            "wide",
            "neighbouring levels overlap: each reaches half of 1/255 to either side",
        )
        require(
            math.isclose(middle, expected, rel_tol=1e-4),
            "middle",
            f"levels 1 to 254 have the total probability {middle:.4f} where (8.1) gives {expected:.4f} "
            f"(mean {centre}, scale {scale}): is the scale exp(log_scale), h = 1/510, and the mean used as it is?",
        )
        require(
            math.isclose(total, 1.0, rel_tol=1e-6),
            "ends",
            f"the 256 probabilities have the sum {total:.6f}, not 1: level 0 reaches down to -infinity, level 255 up "
            "to +infinity",
        )


def _check_tails(answer: Callable) -> None:
    """Far from the mean the probability is tiny but its logarithm is an ordinary number."""
    x = torch.tensor([0.6, 0.2, 1.0, 0.0], dtype=torch.float64).view(1, 1, 1, 4)
    x = (x * 255).round() / 255
    mean = torch.tensor([0.1, 0.9, -0.2, 1.1], dtype=torch.float64).view(1, 1, 1, 4)
    for scale, dtype, rtol in [(0.02, torch.float32, 1e-3), (5e-4, torch.float64, 1e-6)]:
        log_scale = torch.tensor(math.log(scale), dtype=dtype).view(1, 1, 1).requires_grad_()
        centre = mean.to(dtype).requires_grad_()
        value = answer(x.to(dtype), centre, log_scale)
        distance = ((x - mean).abs() - 0.5 / 255) / scale
        inside = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
        near, far = _log_tail(distance), _log_tail(distance + 1 / (255 * scale))
        expected = near + inside * torch.log1p(-torch.exp(far - near))
        i = ((value.double() - expected) / expected).abs().nan_to_num(math.inf).argmax().item()
        require(
            value.isfinite().all() and torch.allclose(value.double(), expected, rtol=rtol),
            "far",
            f"for x = {x.flatten()[i]:.1f}, mean {mean.flatten()[i]:.1f} and scale {scale} the logarithm should be "
            f"{expected.flatten()[i]:.1f} and is {value.flatten()[i]:.1f}: mirror the bell where x is above the "
            "mean, take logarithms first, never of a difference of two numbers near 1, "
            "and don't clamp log_scale",
        )
        beyond = answer(torch.tensor([[[[0.0, 1.0]]]], dtype=dtype), 3 * centre[..., 2:] - 0.6, log_scale)
        total = value.sum() + beyond.sum()
        slopes = torch.autograd.grad(total, [centre, log_scale], allow_unused=True) if total.requires_grad else []
        require(
            all(slope is None or slope.isfinite().all() for slope in slopes),
            "far-gradient",
            "far from the mean, or at an end, the gradient is not finite: torch.where passes on nan and infinity even "
            "from the side that it does not choose",
        )


def _log_tail(t: Tensor) -> Tensor:
    """The logarithm of the Gaussian area beyond t standard deviations, by its series for large t."""
    series = 1 - t**-2 + 3 * t**-4 - 15 * t**-6
    return -0.5 * t.square() - torch.log(t * math.sqrt(2 * math.pi)) + series.log()


class _Recorder(nn.Module):
    """A model whose every result tells what went in."""

    classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(3, 1, 1, dtype=torch.float64))
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        code = self.one * torch.stack([x.flatten(1).sum(1), labels.to(x.dtype)], dim=1)
        return code, code * 0 + 0.4

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        require(isinstance(z, Tensor), "tuple", "encode returns a pair, mu and logvar; give decode mu alone")
        parts = torch.cat([z, labels.to(z.dtype)[:, None]], dim=1)
        return parts[:, :, None, None].repeat(1, 1, 2, 2)


@instant_check
def swap_label(answer: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check `answer(model, x, labels, new)`: the pictures x with their own style and the labels `new`."""
    random = generator()
    model = _Recorder()
    for batch in (5, 1):
        x = torch.rand(batch, 3, 2, 2, generator=random, dtype=torch.float64)
        labels, new = torch.arange(batch) % 3 + 1, torch.arange(batch) % 4 + 6
        with untouched(x, labels, new):
            pictures = answer(model, x, labels, new)
        require_tensor(pictures, (batch, 3, 2, 2), "one picture for each")
        require(not torch.equal(pictures, x), "given", "these are the given pictures: encode, then decode")
        as_drawn = "return what the decoder gives as it is: no sigmoid, no clamp"
        require(pictures.max() > 1, "changed", as_drawn)
        sums, encoded, decoded = pictures[:, :, 0, 0].unbind(1)
        require(
            torch.equal(decoded, new.double()),
            "decoded",
            f"the decoder was given the labels {decoded.tolist()}; it should draw the new ones, {new.tolist()}",
        )
        own = labels.double()
        require(
            not torch.allclose(encoded, new.double()),
            "encoded",
            "the encoder was given the new labels; it should read the style of a picture under its own label",
        )
        noisy = not torch.equal(pictures, answer(model, x, labels, new))
        require(not noisy, "noise", "two calls differ: the style is mu, the most likely code, without noise")
        require(
            torch.allclose(encoded, own) and torch.allclose(sums, x.flatten(1).sum(1)),
            "style",
            "the code that is decoded is not the mean mu that the encoder gives for the picture and its own label",
        )
    correct("swap_label: the style is read under the old label and drawn under the new one.")
