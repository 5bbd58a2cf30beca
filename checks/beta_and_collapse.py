"""Instant checks of notebook 06, the weight of the KL and dimensions that die."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from checks.common import (
    close,
    correct,
    generator,
    instant_check,
    keeps_dtype,
    recognise,
    require,
    require_gradients,
    require_tensor,
    untouched,
)
from checks.common import numbers as numbers


@instant_check
def gaussian_recon(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Check `answer(x_hat, x, variance)`: -log N(x; x_hat, variance * I), nats per image, a scalar."""
    random = generator()
    for batch, pixels, variance in [(1, 3, 5.0), (3, 4, 0.25), (5, 9, 2.0), (2, 784, 0.01)]:
        x, x_hat = torch.rand(2, batch, pixels, generator=random, dtype=torch.float64)
        with untouched(x, x_hat):
            value = answer(x_hat, x, variance)
        require_tensor(value, (), "one number, nats per image")
        perfect = answer(x, x, variance)
        off = x.clone()
        off[:, 0] += 2.0
        cost = (answer(off, x, variance) - perfect) * variance  # of one pixel off by 2: half a squared error
        slips = {
            ("sign", "the sign is flipped: asked is minus the log-density"): -2.0,
            ("half", "the factor 1/2 in front of the squared error is missing"): 4.0,
            ("not-squared", "the error is not squared: a pixel off by 2 must cost 4 times one off by 1"): 1.0,
            ("sigma", "you divide by sigma; divide by sigma^2, which `variance` is"): 2 * math.sqrt(variance),
            ("variance-squared", "you square `variance`, but it is sigma^2 already"): 2 / variance,
            ("pixel-mean", "you average over the pixels; sum over them, mean over the batch"): 2 / pixels,
        }
        if batch > 1:
            slips["batch-sum", "you sum over the batch; take the mean over the images"] = 2.0 * batch
        recognise(
            cost,
            2.0,
            slips,
            f"one pixel off by 2 must cost 2 over sigma^2; for {variance} it costs {cost / variance:.8g} nats (no eps)",
        )
        _check_constant(answer, perfect, batch, pixels, variance)
        expected = -Normal(x_hat, math.sqrt(variance)).log_prob(x).sum() / batch
        require(close(value, expected), "value", "it doesn't agree with torch.distributions on random numbers")
    require_gradients(lambda x_hat: answer(x_hat, x[:, :3], 0.5), x_hat=x_hat[:, :3])
    correct("gaussian_recon: half the squared error over sigma^2, and the constant for every pixel.")


def _check_constant(answer: Callable, perfect: Tensor, batch: int, pixels: int, variance: float) -> None:
    """Check what a perfect reconstruction costs: the density of one pixel must have the integral 1."""
    pixel = torch.zeros(1, 1, dtype=torch.float64)
    require(perfect != 0, "no-constant", "the constant D/2 log(2 pi sigma^2) is missing")
    one = answer(pixel, pixel, variance)
    fixed = "the constant does not depend on the number of pixels D: it belongs to each of the x.shape[1] pixels"
    require(not close(perfect, one), "constant-once", fixed)
    require(
        abs(answer(pixel, pixel, 1.0)) > 1e-9, "no-2-pi", "log 2 pi is missing: for sigma = 1 the constant is not zero"
    )
    step = math.sqrt(variance) / 20
    density = step * sum(math.exp(-answer(pixel + step * i, pixel, variance)) for i in range(-200, 201))
    require(
        math.isclose(density, 1.0, rel_tol=1e-6),
        "integral",
        f"exp(-recon) of one pixel must have the integral 1 and has {density:.4g}: look at the constant",
    )
    whole_batch = "the constant grows with the batch, too: D is the number of pixels of one image, x.shape[1]"
    require(batch == 1 or not close(perfect, batch * pixels * one), "constant-batch", whole_batch)
    require(close(perfect, pixels * one), "constant", "the constant must be proportional to the number of pixels")


@instant_check
def log_aggregate(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check `answer(z, mu, logvar)`: log q(z) (n,) at codes z (n, d) for N posteriors mu, logvar (N, d), in nats."""
    random = generator()
    for n, N, d in [(1, 1, 2), (4, 3, 2), (3, 5, 4)]:
        z, mu = (2 * torch.randn(rows, d, generator=random, dtype=torch.float64) for rows in (n, N))
        logvar = 4 * torch.rand(N, d, generator=random, dtype=torch.float64) - 3
        with untouched(z, mu, logvar):
            value = answer(z, mu, logvar)
        require_tensor(value, (n,), "log q(z), one number for each of the codes z")
        require(value.isfinite().all(), "not-finite", "the result is not finite; stay with logarithms throughout")
        sigma = torch.exp(logvar / 2)
        message = "it doesn't agree with torch.distributions' mixture on random numbers"
        recognise(value, _mixture(mu, sigma).log_prob(z), _slips(z, mu, logvar), message)
    steps, zeros = torch.tensor([[0.0, 0.0], [90.0, 90.0]], dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64)
    far = answer(40 + steps, 40 + zeros, zeros)  # a code in the middle of the posteriors, and one far from them
    require(
        far.isfinite().all(),
        "underflow",
        "for a code that is far from all posteriors the densities underflow to 0; "
        "add them up with torch.logsumexp, from their logarithms: it takes out the largest one of each code",
    )
    right = -0.5 * steps.square().sum(1) - math.log(2 * math.pi)
    nothing = "far from all posteriors the value is wrong: no eps and no clamp, torch.logsumexp needs none"
    require(close(far, right), "far", nothing)
    uneven = answer(zeros, zeros, zeros + torch.tensor([-20.0, 15.0]))
    message = "where logvar is -20 or 15 the value is wrong: leave it and sigma as they are (no clamp, no eps)"
    require(close(uneven, 2.5 - math.log(2 * math.pi)), "range", message)
    keeps_dtype(answer, z, mu, logvar)
    correct("log_aggregate: the mean of the densities, its logarithm in nats, also far away.")


def _mixture(mu: Tensor, sigma: Tensor) -> MixtureSameFamily:
    """The mixture, with equal weights, of Gaussians with these means and standard deviations (N, d)."""
    weights = Categorical(torch.ones_like(mu[:, 0]))
    return MixtureSameFamily(weights, Independent(Normal(mu, sigma), 1))


def _slips(z: Tensor, mu: Tensor, logvar: Tensor) -> dict[tuple[str, str], Tensor]:
    """What usual slips give, by their code and message. With one posterior some are right, and never looked at."""
    N, d, sigma, log_2_pi = *mu.shape, torch.exp(logvar / 2), math.log(2 * math.pi)
    right = _mixture(mu, sigma).log_prob(z)
    log_q = Independent(Normal(mu, sigma), 1).log_prob(z[:, None])  # (n, N), each code in each posterior
    half_squares, log_sigma = ((z[:, None] - mu) / sigma).square().sum(-1) / 2, logvar.sum(1) / 2
    marginals = sum(_mixture(mu[:, [j]], sigma[:, [j]]).log_prob(z[:, [j]]) for j in range(d))
    mix_late = "you mix each dimension by itself; first add up the dimensions of each posterior, then mix"

    def mixed(log_q: Tensor) -> Tensor:
        return log_q.logsumexp(1) - math.log(N)

    return {
        ("no-log-n", "you add the N densities; take their mean: subtract log N"): right + math.log(N),
        ("log-n-sign", "subtract log N, which divides by N; you add it"): right + 2 * math.log(N),
        ("log-n", "N is the number of posteriors, len(mu); you take that of the codes"): right + math.log(N / len(z)),
        ("no-2-pi", "log 2 pi is missing: half of it for each dimension"): right + d / 2 * log_2_pi,
        ("2-pi-once", "half of log 2 pi belongs to each dimension; you count it once"): right + (d - 1) / 2 * log_2_pi,
        ("half", "the factor 1/2 in front of the squared distance is missing"): mixed(log_q - half_squares),
        ("no-sigma", "log sigma, half of logvar, is missing: subtract it for each dimension"): mixed(log_q + log_sigma),
        ("logvar", "you subtract logvar; log sigma is half of it"): mixed(log_q - log_sigma),
        ("mean-of-logs", "you average the logarithms; average the densities, then take the logarithm"): log_q.mean(1),
        ("sigma-is-exp", "you use exp(logvar), the variance, as sigma"): _mixture(mu, sigma**2).log_prob(z),
        ("marginals", mix_late): marginals,
        ("dimension-mean", "you average over the dimensions of the code; add up their logarithms"): mixed(log_q / d),
        ("eps", "you add a small number inside the logarithm; torch.logsumexp needs none"): (right.exp() + 1e-10).log(),
        ("sign", "the sign is flipped: asked is log q(z)"): -right,
        ("density", "this is q(z) itself; asked is its logarithm"): right.exp(),
    }
