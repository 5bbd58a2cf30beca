"""Instant checks for notebook 04, the VAE in PyTorch."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

from checks.common import correct, instant_check, require
from checks.common import numbers as numbers


def _generator() -> torch.Generator:
    """A generator of the check's own, so that the notebook's random numbers stay as they are."""
    generator = torch.Generator()
    generator.seed()
    return generator


@instant_check
def vae_class(answer: type[nn.Module]) -> None:
    """Check the class `answer(input_dim, hidden_dim, latent_dim)` with encode, reparameterize, decode and forward."""
    with torch.random.fork_rng():
        torch.seed()
        model = answer(10, 8, 3)
        _shapes(model, torch.rand(6, 10))
        _sampling(model)
        _forward(answer(10, 8, 3), torch.rand(6, 10))
    correct("VAE: shapes, two halves, one fresh epsilon for each number, sigma = exp(logvar / 2), gradients to both.")


def _shapes(model: nn.Module, x: Tensor) -> None:
    encoded = model.encode(x)
    require(
        isinstance(encoded, tuple | list) and len(encoded) == 2,
        "encode must return two tensors, mu and logvar: cut the encoder's output in two with .chunk(2, dim=-1)",
    )
    mu, logvar = encoded
    for name, value in {"mu": mu, "logvar": logvar}.items():
        require(value.shape == (6, 3), f"{name} has shape {tuple(value.shape)}; expected (6, 3): chunk along dim=-1")
    require(
        torch.allclose(torch.cat([mu, logvar], dim=1), model.encoder(x)),
        "mu and logvar must be the first and the second half of the encoder's output, as they are: no exp, no softplus",
    )
    z = model.reparameterize(mu, logvar)
    require(z.shape == (6, 3), f"reparameterize gives shape {tuple(z.shape)}; expected that of mu, (6, 3)")
    logits = model.decode(z)
    require(logits.shape == (6, 10), f"decode gives shape {tuple(logits.shape)}; expected (6, 10)")
    require(
        torch.allclose(logits, model.decoder(z)),
        "decode must return the decoder's output as it is: logits, without a sigmoid (the loss applies it)",
    )


def _sampling(model: nn.Module) -> None:
    mu, logvar = torch.full((20_000, 3), 5.0), torch.full((20_000, 3), 2 * math.log(3.0))  # sigma = 3
    z = model.reparameterize(mu, logvar)
    require(not torch.allclose(z, mu), "reparameterize returns mu itself; add sigma * eps")
    noise = (z - mu) / 3
    require(
        noise.var(0).min() > 1e-3, "one eps serves the whole batch; every image needs its own: torch.randn_like(mu)"
    )
    require(noise.var(1).min() > 1e-9, "one eps serves all dimensions of an image; draw one for each number")
    require(
        abs(z.mean() - 5) < 0.3,
        f"samples for mu = 5 have mean {z.mean():.2f}: eps has mean 0 (randn, not rand), mu is added once",
    )
    spread = z.std().item()
    require(
        abs(spread - 9) > 0.5, "the samples spread by exp(logvar), which is the variance; sigma is exp(0.5 * logvar)"
    )
    require(abs(spread - math.log(9.0)) > 0.1, "the samples spread by logvar itself; sigma is exp(0.5 * logvar)")
    require(abs(spread - 3) < 0.15, f"sigma = 3 was asked for (logvar = log 9) and the samples spread by {spread:.2f}")
    model.eval()
    require(
        not torch.equal(model.reparameterize(mu, logvar), model.reparameterize(mu, logvar)),
        "in eval mode no fresh eps is drawn; a VAE samples after training too",
    )
    model.train()


def _forward(model: nn.Module, x: Tensor) -> None:
    output = model(x)
    require(isinstance(output, tuple | list) and len(output) == 3, "forward must return logits, mu, logvar")
    logits, mu, logvar = output
    require(
        logits.shape == (6, 10) and mu.shape == logvar.shape == (6, 3),
        f"forward returns shapes {[tuple(t.shape) for t in output]}; expected logits (6, 10), mu (6, 3), logvar (6, 3)",
    )
    require(
        torch.allclose(mu, model.encode(x)[0]) and torch.allclose(logvar, model.encode(x)[1]),
        "forward must return mu and logvar of encode(x), in this order",
    )
    require(not torch.equal(model(x)[0], logits), "two calls gave the same logits: decode a fresh sample, not mu")
    logits.square().sum().backward()
    gradient = model.encoder[-1].weight.grad
    require(
        gradient is not None and gradient[:3].abs().sum() > 0,
        "no gradient reaches mu: sample by mu + sigma * eps, without .detach(), .data or torch.normal",
    )
    require(gradient[3:].abs().sum() > 0, "no gradient reaches logvar: is sigma detached, or not used?")


@instant_check
def vae_loss(answer: Callable[[Tensor, Tensor, Tensor, Tensor], dict[str, Tensor]]) -> None:
    """Check `answer(logits, x, mu, logvar)`: {"loss", "recon", "kl"}, scalars in nats per image."""
    generator = _generator()
    for batch, pixels, dim in [(4, 9, 2), (7, 5, 3)]:
        logits = 3 * torch.randn(batch, pixels, generator=generator, dtype=torch.float64)
        x = torch.randint(0, 2, (batch, pixels), generator=generator).double()
        mu, logvar = torch.randn(2, batch, dim, generator=generator, dtype=torch.float64)
        given = [t.clone() for t in (logits, x, mu, logvar)]
        terms = answer(logits, x, mu, logvar)
        require(
            isinstance(terms, dict), f"return a dictionary with recon, kl and loss; yours is {type(terms).__name__}"
        )
        require(
            {"loss", "recon", "kl"} <= terms.keys(), f'the keys must be "loss", "recon", "kl"; yours: {sorted(terms)}'
        )
        for name in ("recon", "kl", "loss"):
            require(terms[name].ndim == 0, f"{name} has shape {tuple(terms[name].shape)}; return one number")
        require(
            all(torch.equal(a, b) for a, b in zip(given, (logits, x, mu, logvar), strict=True)),
            "your function changes its input in place",
        )
        _check_kl(answer, terms["kl"], logits, x, mu, logvar)
        _check_recon(terms["recon"], logits, x)
        require(
            torch.allclose(terms["loss"], terms["recon"] + terms["kl"]),
            "loss must be recon + kl: the negative ELBO, with both signs positive and no further weight",
        )
    extreme = answer(torch.tensor([[200.0, -200.0]]), torch.tensor([[0.0, 1.0]]), torch.zeros(1, 1), torch.zeros(1, 1))
    require(
        torch.isfinite(extreme["recon"]),
        "recon is not finite for logits of 200: use F.binary_cross_entropy_with_logits, not sigmoid and log",
    )
    parameters = [t.requires_grad_() for t in (logits, mu, logvar)]
    gradients = torch.autograd.grad(answer(logits, x, mu, logvar)["loss"], parameters, allow_unused=True)
    for name, gradient in zip(("logits", "mu", "logvar"), gradients, strict=True):
        require(gradient is not None, f"no gradient reaches {name}: leave out .detach(), .item() and torch.no_grad()")
    correct("vae_loss: both terms in nats per image, stable, with gradients.")


def _check_kl(answer: Callable, kl: Tensor, logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> None:
    batch, dim = mu.shape

    def kl_of(mean: Tensor, log_variance: Tensor) -> float:
        return answer(logits, x, mean, log_variance)["kl"].item()

    zeros = torch.zeros_like(mu)
    require(abs(kl_of(zeros, zeros)) < 1e-9, "KL of N(0, 1) from the prior must be 0: check the - 1 and the signs")
    one = torch.zeros_like(mu)
    one[:, 0] = 2.0  # KL = 2 nats for each image
    value = kl_of(one, zeros)
    require(value > 0, "the KL is negative: its sign is flipped")
    require(abs(value - 4) > 1e-6, "mu = 2 in one dimension must cost 2 nats and costs 4: the factor 1/2 is missing")
    require(
        abs(value - 2 / dim) > 1e-6,
        "you average the KL over the latent dimensions; sum over them (dim=1), then average",
    )
    require(abs(value - 2 * batch) > 1e-6, "you sum the KL over the batch; sum over dimensions, mean over the batch")
    require(abs(value - 2) < 1e-6, f"mu = 2 in one dimension must cost 2 nats per image; it costs {value:.4g}")
    wide = kl_of(zeros, torch.full_like(mu, math.log(4.0))) / dim  # sigma = 2
    reverse, with_sigma = 0.5 * (1 / 4 + math.log(4.0) - 1), 0.5 * (2 - math.log(2.0) - 1)
    require(abs(wide - reverse) > 1e-6, "this is KL(p || q), the reverse; asked is KL(q || p)")
    require(
        abs(wide - with_sigma) > 1e-6,
        "you use sigma where sigma^2 belongs: logvar is the logarithm of the variance, sigma^2 = exp(logvar)",
    )
    expected = 0.5 * (4 - math.log(4.0) - 1)
    require(
        abs(wide - expected) < 1e-6, f"sigma = 2, mu = 0 must cost {expected:.4f} nats a dimension, costs {wide:.4f}"
    )
    require(abs(kl_of(-mu, logvar) - kl) < 1e-9, "the KL must not change with the sign of mu")


def _check_recon(recon: Tensor, logits: Tensor, x: Tensor) -> None:
    batch, pixels = x.shape
    expected = -Bernoulli(logits=logits).log_prob(x).sum() / batch
    twice = -Bernoulli(logits=logits.sigmoid()).log_prob(x).sum() / batch
    require(recon > 0, "recon is negative; it is minus a log-probability")
    require(not torch.allclose(recon, expected / pixels), "you average over the pixels; sum over them")
    require(
        not torch.allclose(recon, expected * batch), "you sum over the batch; the unit is nats per image: divide by it"
    )
    require(
        not torch.allclose(recon, twice),
        "the sigmoid is applied twice: binary_cross_entropy_with_logits wants the logits as they are",
    )
    error = (x - logits.sigmoid()).square().sum() / batch
    require(
        not torch.allclose(recon, error) and not torch.allclose(recon, error / 2),
        "this is a squared error; for binary pixels the reconstruction term is the binary cross-entropy (4.3)",
    )
    require(
        torch.allclose(recon, expected),
        f"recon is {recon:.4f} nats per image where -log p(x|z) is {expected:.4f}: compare with (4.3)",
    )


@instant_check
def manifold_codes(answer: Callable[[int], Tensor]) -> None:
    """Check `answer(n)`: codes (n * n, 2), equally spaced in probability under N(0, I), top row first."""
    for n in (3, 8):
        codes = answer(n)
        require(
            isinstance(codes, Tensor) and codes.shape == (n * n, 2),
            f"expected a tensor of shape ({n * n}, 2) for n = {n}; yours: {tuple(getattr(codes, 'shape', ()))}",
        )
        require(torch.isfinite(codes).all(), "a code is infinite: use midpoints (0.5/n, 1.5/n, ...), not 0 and 1")
        u = Normal(0.0, 1.0).cdf(codes.double()).view(n, n, 2)
        midpoints = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        across, down = u[0, :, 0], u[:, 0, 1]
        require(
            not torch.allclose(across, across[:1].expand(n)),
            "z1 and z2 are exchanged: z1 must grow within a row, and the rows differ in z2",
        )
        steps = codes.view(n, n, 2).double().diff(dim=1)[0, :, 0]
        require(
            n < 4 or not torch.allclose(steps, steps[:1].expand_as(steps), atol=1e-4),
            "the codes are equally spaced in z; asked are equal steps in probability: torch.special.ndtri(u)",
        )
        require(torch.allclose(across, midpoints, atol=1e-4), "within a row, Phi(z1) grows: 0.5/n, 1.5/n, ...")
        require(
            not torch.allclose(down, midpoints, atol=1e-4),
            "the picture is upside down: the first row has the largest z2",
        )
        require(
            torch.allclose(down, midpoints.flip(0), atol=1e-4),
            "down the rows, Phi(z2) falls to 0.5/n",
        )
        require(
            torch.allclose(u[..., 0], across.expand(n, n), atol=1e-4)
            and torch.allclose(u[..., 1], down[:, None].expand(n, n), atol=1e-4),
            "not a grid: every row must have the same z1 values and one z2",
        )
    correct("manifold_codes: equal steps in probability, z1 to the right, z2 upwards.")


@instant_check
def gaussian_recon(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Check `answer(x_hat, x, variance)`: -log N(x; x_hat, variance * I), nats per image, a scalar."""
    generator = _generator()
    for batch, pixels, variance in [(3, 4, 0.25), (5, 9, 2.0), (2, 784, 0.01)]:
        x, x_hat = torch.rand(2, batch, pixels, generator=generator, dtype=torch.float64)
        value = answer(x_hat, x, variance)
        require(isinstance(value, Tensor) and value.ndim == 0, "return one number (a scalar tensor), nats per image")
        perfect = answer(x, x, variance).item()
        off = x.clone()
        off[:, 0] += 1.0
        cost = (answer(off, x, variance).item() - perfect) * variance  # of one pixel, off by 1: half a squared error
        named = {
            "the sign is flipped: asked is minus the log-density": -0.5,
            "the factor 1/2 in front of the squared error is missing": 1.0,
            "you divide by sigma; the squared error is divided by sigma^2, which `variance` is": math.sqrt(variance)
            / 2,
            "you square `variance`, but it is sigma^2 already": 0.5 / variance,
            "you average over the pixels; sum over them, mean over the batch": 0.5 / pixels,
            "you sum over the batch; take the mean over the images": 0.5 * batch,
        }
        for message, wrong in named.items():
            require(not math.isclose(cost, wrong, rel_tol=1e-6), message)
        require(
            math.isclose(cost, 0.5, rel_tol=1e-6),
            f"one pixel off by 1 must cost 1/2 over sigma^2; for {variance} it costs {cost / variance:.4g} nats",
        )
        _check_constant(answer, perfect, pixels, variance)
    require(answer(x_hat.requires_grad_(), x, 0.5).requires_grad, "no gradient reaches x_hat")
    correct("gaussian_recon: half the squared error over sigma^2, and the constant for every pixel.")


def _check_constant(answer: Callable, perfect: float, pixels: int, variance: float) -> None:
    """Check what a perfect reconstruction costs: the density of one pixel must have the integral 1."""
    pixel = torch.zeros(1, 1, dtype=torch.float64)
    require(perfect != 0, "the constant D/2 log(2 pi sigma^2) is missing")
    one = answer(pixel, pixel, variance).item()
    require(
        not math.isclose(perfect, one),
        "the constant counts once; it belongs to each of the D pixels (mind their number)",
    )
    require(
        abs(answer(pixel, pixel, 1.0)) > 1e-9, "log 2 pi is missing from the constant: for sigma = 1 it is not zero"
    )
    step = math.sqrt(variance) / 20
    density = [math.exp(-answer(pixel + step * i, pixel, variance)) for i in range(-200, 201)]
    require(
        math.isclose(step * sum(density), 1.0, rel_tol=1e-6),
        f"exp(-recon) of one pixel must have the integral 1 and has {step * sum(density):.4g}: look at the constant",
    )
    require(math.isclose(perfect, pixels * one, rel_tol=1e-9), "the constant must grow with the number of pixels")


class _Line(nn.Module):
    """A model with one latent dimension and three pixels, whose p(x) a sum over a grid gives exactly."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.sum(1, keepdim=True) - 1.5, torch.full((len(x), 1), -0.5, dtype=x.dtype)

    def decode(self, z: Tensor) -> Tensor:
        return self.scale * z * torch.tensor([1.0, -0.5, 2.0], dtype=z.dtype) + 0.3

    def log_px(self, x: Tensor) -> Tensor:
        grid = torch.linspace(-9, 9, 9001, dtype=torch.float64)[:, None]
        log_lik = Bernoulli(logits=self.decode(grid)[:, None]).log_prob(x).sum(-1)
        log_joint = log_lik + Normal(0.0, 1.0).log_prob(grid)
        return torch.logsumexp(log_joint, dim=0) + math.log(18 / 9000)


@instant_check
def importance_weighted(answer: Callable[[nn.Module, Tensor, int], Tensor]) -> None:
    """Check `answer(model, x, k)`: the importance-weighted estimate of log p(x), (batch,), nats."""
    x = torch.tensor([[0.0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 1, 0]], dtype=torch.float64)
    model = _Line(1.0)
    with torch.random.fork_rng():
        torch.seed()
        estimate = answer(model, x, 50_000)
        one_sample = answer(model, x[1:2].expand(4000, 3), 1).mean()
        far = answer(_Line(1e5), x[:2], 10)
    require(isinstance(estimate, Tensor), f"return a tensor of shape (batch,); you return {type(estimate).__name__}")
    require(estimate.shape == (4,), f"shape {tuple(estimate.shape)} for 4 images; expected (4,): one number per image")
    exact = model.log_px(x)
    mu, logvar = model.encode(x)
    kl = 0.5 * (mu.square() + logvar.exp() - logvar - 1).sum(1)
    shift = (estimate - exact).mean().item()
    require(abs(shift - math.log(50_000)) > 0.3, "log k is missing: the weights are added up but not divided by k")
    require(
        not (estimate > 0).all(), "all estimates are positive; log-probabilities of binary images can't be: the sign?"
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        z = Normal(mu, (0.5 * logvar).exp()).sample((50_000,))
        log_lik = Bernoulli(logits=model.decode(z)).log_prob(x).sum(-1)
    elbo = log_lik.mean(0) - kl
    require(
        not torch.allclose(estimate, elbo, atol=0.03),
        "this is the ELBO, a mean of logarithms; take the logarithm of the mean of the weights: logsumexp - log k",
    )
    require(
        not torch.allclose(estimate, log_lik.exp().mean(0).log(), atol=0.03),
        "the weights lack p(z) / q(z|x): codes drawn from q must be corrected for it",
    )
    require(
        torch.allclose(estimate, exact, atol=0.05),
        f"with 50,000 samples you get {[round(v, 2) for v in estimate.tolist()]}, exact is "
        f"{[round(v, 2) for v in exact.tolist()]}: is sigma = exp(0.5 * logvar), are all sums over the last dimension?",
    )
    require(
        abs(one_sample - elbo[1]) < 0.1,
        f"with k = 1 its mean must be the ELBO, {elbo[1]:.2f}; yours is {one_sample:.2f}: one fresh sample per image?",
    )
    require(torch.isfinite(far).all(), "very small probabilities underflow: stay with logarithms, torch.logsumexp")
    correct("importance_weighted: right weights, log of their mean, stable.")
