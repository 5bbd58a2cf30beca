"""Instant checks of notebook 04, the VAE in PyTorch."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from checks.common import (
    close,
    correct,
    generator,
    instant_check,
    recognise,
    require,
    require_gradients,
    require_tensor,
    untouched,
)
from checks.common import numbers as numbers


@instant_check
def vae_class(answer: type[nn.Module]) -> None:
    """Check the class `answer(input_dim, hidden_dim, latent_dim)` with encode, reparameterize, decode and forward."""
    model = answer(10, 8, 3)
    for batch in (6, 1):
        _shapes(model, torch.rand(batch, 10))
    _sampling(model)
    _forward(answer(10, 8, 3), torch.rand(6, 10))
    correct("VAE: shapes, two halves, one fresh epsilon for each number, sigma = exp(logvar / 2), gradients to both.")


def _shapes(model: nn.Module, x: Tensor) -> None:
    encoded = model.encode(x)
    require(
        isinstance(encoded, tuple | list) and len(encoded) == 2,
        "pair",
        "encode must return two tensors, mu and logvar: cut the encoder's output in two with .chunk(2, dim=-1)",
    )
    mu, logvar = encoded
    for name, value in {"mu": mu, "logvar": logvar}.items():
        require(
            value.shape == (len(x), 3),
            "chunk",
            f"{name} has shape {tuple(value.shape)}; expected {(len(x), 3)}: chunk along dim=-1",
        )
    require(
        torch.equal(torch.cat([mu, logvar], dim=1), model.encoder(x)),
        "halves",
        "mu and logvar must be the first and the second half of the encoder's output, as they are: no exp, no softplus",
    )
    z = model.reparameterize(mu, logvar)
    require(z.shape == mu.shape, "shape", f"reparameterize gives shape {tuple(z.shape)}; expected {tuple(mu.shape)}")
    logits = model.decode(z)
    require(logits.shape == x.shape, "shape", f"decode gives shape {tuple(logits.shape)}; expected {tuple(x.shape)}")
    require(
        torch.equal(logits, model.decoder(z)),
        "sigmoid",
        "decode must return the decoder's output as it is: logits, without a sigmoid (the loss applies it)",
    )


def _sampling(model: nn.Module) -> None:
    logvars = torch.tensor([-3.0, 0.5, 2 * math.log(3.0)])
    mu, logvar = torch.full((20_000, 3), 5.0), logvars.expand(20_000, 3).contiguous()
    sigma = (0.5 * logvars).exp()
    with untouched(mu, logvar):
        z = model.reparameterize(mu, logvar)
    require(not torch.equal(z, mu), "no-noise", "reparameterize returns mu itself; add sigma * eps")
    noise = (z - mu) / sigma
    require(noise.var(0).min() > 1e-3, "one-eps-for-batch", "one eps serves the whole batch; every image needs its own")
    correlations = torch.corrcoef(torch.cat([noise[:10_000], noise[10_000:], noise[:10_000].flip(0)], 1).T)
    require(
        (correlations - torch.eye(9)).abs().max() < 0.1,
        "dependent",
        "the noise of different numbers is correlated; draw an independent eps for each: torch.randn_like(mu)",
    )
    slip = "the samples spread by exp(logvar), which is the variance; sigma is exp(0.5 * logvar)"
    require(not torch.allclose(z.std(0), sigma**2, rtol=0.05), "sigma-is-exp", slip)
    require(
        not torch.allclose(z.std(0), logvars.abs(), rtol=0.05),
        "sigma-is-logvar",
        "the samples spread by logvar itself; sigma is exp(0.5 * logvar)",
    )
    require(
        ((z.mean(0) - 5).abs() < 0.1 * sigma).all(),
        "mean",
        f"samples for mu = 5 have means {z.mean(0).tolist()}: eps has mean 0 (randn, not rand), mu is added once",
    )
    require(
        torch.allclose(z.std(0), sigma, rtol=0.05),
        "sigma",
        f"for sigma = {sigma.tolist()} the samples spread by {z.std(0).tolist()}: sigma is exp(0.5 * logvar)",
    )
    model.eval()
    again = [model.reparameterize(mu, logvar) for _ in range(2)]
    require(not torch.equal(*again), "eval", "in eval mode no fresh eps is drawn; a VAE samples after training too")
    model.train()


def _forward(model: nn.Module, x: Tensor) -> None:
    output = model(x)
    require(isinstance(output, tuple | list) and len(output) == 3, "triple", "forward must return logits, mu, logvar")
    logits, mu, logvar = output
    require(
        logits.shape == (6, 10) and mu.shape == logvar.shape == (6, 3),
        "shape",
        f"forward returns shapes {[tuple(t.shape) for t in output]}; expected logits (6, 10), mu (6, 3), logvar (6, 3)",
    )
    require(
        all(torch.allclose(a, b) for a, b in zip((mu, logvar), model.encode(x), strict=True)),
        "order",
        "forward must return mu and logvar of encode(x), in this order",
    )
    require(not torch.equal(model(x)[0], logits), "mean-decoded", "two calls gave the same logits: decode a sample")
    mu, logvar = (torch.randn(6, 3, requires_grad=True) for _ in range(2))
    z = model.reparameterize(mu, logvar)
    eps = ((z - mu) / (0.5 * logvar).exp()).detach()
    by_mu, by_logvar = (
        torch.autograd.grad(z.sum(), p, retain_graph=True, allow_unused=True)[0] if z.requires_grad else None
        for p in (mu, logvar)
    )
    require(
        by_mu is not None and torch.allclose(by_mu, torch.ones_like(mu)),
        "mu-gradient",
        "no gradient reaches mu: sample by mu + sigma * eps, without .detach(), .data or torch.normal",
    )
    require(
        by_logvar is not None and torch.allclose(by_logvar, 0.5 * (0.5 * logvar).exp() * eps, atol=1e-5),
        "logvar-gradient",
        "the gradient of z with respect to logvar is not sigma * eps / 2: is sigma detached, or not used?",
    )
    logits.square().sum().backward()
    reached = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters()]
    require(all(reached), "no-gradient", "no gradient of the logits reaches some of the weights: leave out .detach()")


@instant_check
def vae_loss(answer: Callable[[Tensor, Tensor, Tensor, Tensor], dict[str, Tensor]]) -> None:
    """Check `answer(logits, x, mu, logvar)`: {"loss", "recon", "kl"}, scalars in nats per image."""
    random = generator()
    for batch, pixels, dim in [(1, 4, 2), (4, 9, 2), (7, 5, 3)]:
        logits = 3 * torch.randn(batch, pixels, generator=random, dtype=torch.float64)
        x = torch.randint(0, 2, (batch, pixels), generator=random).double()
        mu, logvar = 2 * torch.randn(2, batch, dim, generator=random, dtype=torch.float64)
        with untouched(logits, x, mu, logvar):
            terms = answer(logits, x, mu, logvar)
        require(
            isinstance(terms, dict),
            "dictionary",
            f"return a dictionary with recon, kl and loss; yours is {type(terms).__name__}",
        )
        require(
            {"loss", "recon", "kl"} <= terms.keys(),
            "keys",
            f'the keys must be "loss", "recon", "kl"; yours: {sorted(terms)}',
        )
        for name in ("recon", "kl", "loss"):
            require_tensor(terms[name], (), f"one number for {name}")
        _check_kl(answer, logits, x, mu, logvar)
        _check_recon(terms["recon"], logits, x)
        require(
            close(terms["loss"], terms["recon"] + terms["kl"]),
            "sum",
            "loss must be recon + kl: the negative ELBO, with both signs positive and no further weight",
        )
    extreme = answer(torch.tensor([[200.0, -200.0]]), torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2), torch.zeros(1, 2))
    require(
        torch.isfinite(extreme["recon"]),
        "not-finite",
        "recon is not finite for logits of 200: use F.binary_cross_entropy_with_logits, not sigmoid and log",
    )
    require_gradients(
        lambda logits, mu, logvar: answer(logits, x, mu, logvar)["loss"], logits=logits, mu=mu, logvar=logvar
    )
    correct("vae_loss: both terms in nats per image, stable, with the right gradients.")


def _check_kl(answer: Callable, logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> None:
    batch, dim = mu.shape

    def kl_of(mean: Tensor, log_variance: Tensor) -> Tensor:
        return answer(logits, x, mean, log_variance)["kl"].detach()

    zeros, one = torch.zeros_like(mu), torch.zeros_like(mu)
    one[:, 0] = 2.0  # KL = 2 nats for each image
    slip = "KL of N(0, 1) from the prior must be 0: the - 1 of each dimension is missing"
    recognise(
        kl_of(zeros, zeros),
        0.0,
        {("no-minus-one", slip): dim / 2},
        "KL of N(0, 1) from the prior must be 0: check the - 1 and the signs",
    )
    slips = {
        ("sign", "the KL is negative: its sign is flipped"): -2.0,
        ("half", "mu = 2 in one dimension must cost 2 nats and costs 4: the factor 1/2 is missing"): 4.0,
        ("dimension-mean", "you average the KL over the latent dimensions; sum over them, then average"): 2.0 / dim,
    }
    if batch > 1:
        slips["batch-sum", "you sum the KL over the batch; sum over dimensions, mean over the batch"] = 2.0 * batch
    recognise(kl_of(one, zeros), 2.0, slips, "mu = 2 in one dimension must cost 2 nats per image")
    recognise(
        kl_of(zeros, torch.full_like(mu, math.log(4.0))) / dim,
        1.5 - math.log(2.0),
        {
            ("reverse", "this is KL(p || q), the reverse; asked is KL(q || p)"): math.log(2.0) - 3 / 8,
            ("sigma-for-variance", "you use sigma where sigma^2 = exp(logvar) belongs"): (1 - math.log(2.0)) / 2,
            ("variance-squared", "exp(logvar) is sigma^2 already: don't square it"): 7.5 - math.log(2.0),
        },
        f"sigma = 2, mu = 0 must cost {1.5 - math.log(2.0):.4f} nats a dimension",
    )
    expected = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(torch.zeros_like(mu), 1.0)).sum() / batch
    require(close(kl_of(mu, logvar), expected), "kl", "the KL doesn't agree with torch.distributions on random numbers")


def _check_recon(recon: Tensor, logits: Tensor, x: Tensor) -> None:
    batch, pixels = x.shape
    expected = -Bernoulli(logits=logits).log_prob(x).sum() / batch
    error = (x - logits.sigmoid()).square().sum() / batch
    twice = -Bernoulli(logits=logits.sigmoid()).log_prob(x).sum() / batch
    squared = "this is a squared error; for binary pixels the reconstruction term is the binary cross-entropy (4.3)"
    slips = {
        ("recon-sign", "recon is negative; it is minus a log-probability"): -expected,
        ("pixel-mean", "you average over the pixels; sum over them"): expected / pixels,
        ("sigmoid-twice", "the sigmoid is applied twice: the loss wants the logits as they are"): twice,
        ("squared-error", squared): error,
        ("half-squared-error", squared): error / 2,
    }
    if batch > 1:
        slips["recon-batch-sum", "you sum over the batch; the unit is nats per image: divide by it"] = expected * batch
    recognise(
        recon,
        expected,
        slips,
        f"recon is {recon:.4f} nats per image where -log p(x|z) is {expected:.4f}: compare with (4.3)",
    )


@instant_check
def manifold_codes(answer: Callable[[int], Tensor]) -> None:
    """Check `answer(n)`: codes (n * n, 2), equally spaced in probability under N(0, I), top row first."""
    for n in (4, 7):
        codes = answer(n)
        require_tensor(codes, (n * n, 2), f"one code for each of {n} by {n} tiles", getattr(codes, "dtype", None))
        codes = codes.double()
        require(
            codes.isfinite().all(), "infinite", "a code is infinite: use midpoints (0.5/n, 1.5/n, ...), not 0 and 1"
        )
        u = Normal(0.0, 1.0).cdf(codes).view(n, n, 2)
        midpoints = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        across, down = u[0, :, 0], u[:, 0, 1]
        require(
            not torch.allclose(across, across[:1].expand(n)),
            "exchanged",
            "z1 and z2 are exchanged: z1 must grow within a row, and the rows differ in z2",
        )
        steps = codes.view(n, n, 2).diff(dim=1)[0, :, 0]
        require(
            not torch.allclose(steps, steps[:1].expand_as(steps), atol=1e-4),
            "linear",
            "the codes are equally spaced in z; asked are equal steps in probability: torch.special.ndtri(u)",
        )
        require(
            torch.allclose(across, midpoints, atol=1e-4), "across", "within a row, Phi(z1) grows: 0.5/n, 1.5/n, ..."
        )
        require(
            not torch.allclose(down, midpoints, atol=1e-4),
            "upside-down",
            "the picture is upside down: the first row has the largest z2",
        )
        require(torch.allclose(down, midpoints.flip(0), atol=1e-4), "down", "down the rows, Phi(z2) falls to 0.5/n")
        right = torch.stack([across.expand(n, n), down[:, None].expand(n, n)], dim=-1)
        require(
            torch.allclose(u, right, atol=1e-4), "grid", "not a grid: every row must have the same z1 values and one z2"
        )
    correct("manifold_codes: equal steps in probability, z1 to the right, z2 upwards.")


@instant_check
def gaussian_recon(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Check `answer(x_hat, x, variance)`: -log N(x; x_hat, variance * I), nats per image, a scalar."""
    random = generator()
    for batch, pixels, variance in [(1, 3, 3.0), (3, 4, 0.25), (5, 9, 2.0), (2, 784, 0.01)]:
        x, x_hat = torch.rand(2, batch, pixels, generator=random, dtype=torch.float64)
        with untouched(x, x_hat):
            value = answer(x_hat, x, variance)
        require_tensor(value, (), "one number, nats per image")
        perfect = answer(x, x, variance)
        off = x.clone()
        off[:, 0] += 1.0
        cost = (answer(off, x, variance) - perfect) * variance  # of one pixel off by 1: half a squared error
        slips = {
            ("sign", "the sign is flipped: asked is minus the log-density"): -0.5,
            ("half", "the factor 1/2 in front of the squared error is missing"): 1.0,
            ("sigma", "you divide by sigma; divide by sigma^2, which `variance` is"): math.sqrt(variance) / 2,
            ("variance-squared", "you square `variance`, but it is sigma^2 already"): 0.5 / variance,
            ("pixel-mean", "you average over the pixels; sum over them, mean over the batch"): 0.5 / pixels,
        }
        if batch > 1:
            slips["batch-sum", "you sum over the batch; take the mean over the images"] = 0.5 * batch
        recognise(
            cost,
            0.5,
            slips,
            f"one pixel off by 1 must cost 1/2 over sigma^2; for {variance} it costs {cost / variance:.4g} nats",
        )
        _check_constant(answer, perfect, pixels, variance)
        expected = -Normal(x_hat, math.sqrt(variance)).log_prob(x).sum() / batch
        require(close(value, expected), "value", "it doesn't agree with torch.distributions on random numbers")
    require_gradients(lambda x_hat: answer(x_hat, x[:, :3], 0.5), x_hat=x_hat[:, :3])
    correct("gaussian_recon: half the squared error over sigma^2, and the constant for every pixel.")


def _check_constant(answer: Callable, perfect: Tensor, pixels: int, variance: float) -> None:
    """Check what a perfect reconstruction costs: the density of one pixel must have the integral 1."""
    pixel = torch.zeros(1, 1, dtype=torch.float64)
    require(perfect != 0, "no-constant", "the constant D/2 log(2 pi sigma^2) is missing")
    one = answer(pixel, pixel, variance)
    require(not close(perfect, one), "constant-once", "the constant counts once; it belongs to each of the D pixels")
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
    require(close(perfect, pixels * one), "constant", "the constant must grow with the number of pixels")


class _Plane(nn.Module):
    """A model with two latent dimensions and three pixels, whose ELBO and p(x) a sum over a grid gives exactly."""

    def __init__(self, logvar: tuple[float, float], scale: float = 1.0) -> None:
        super().__init__()
        self.logvar, self.scale = logvar, scale

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = torch.stack([x.sum(1) - 1.5, 0.8 * x[:, 0] - 0.3], dim=1)
        return mu, torch.tensor(self.logvar, dtype=x.dtype).expand(len(x), 2)

    def decode(self, z: Tensor) -> Tensor:
        weight = torch.tensor([[1.0, -0.5, 2.0], [0.7, 1.2, -0.4]], dtype=z.dtype)
        return self.scale * (z @ weight + torch.tensor([0.3, -0.2, 0.1], dtype=z.dtype))

    def log_px(self, x: Tensor) -> Tensor:
        """The evidence in nats, (batch,)."""
        z, log_prior = _grid()
        return torch.logsumexp(self._log_likelihood(z, x) + log_prior, dim=1)

    def elbo(self, x: Tensor) -> Tensor:
        """The ELBO in nats, (batch,)."""
        centre, log_variance = self.encode(x)
        eps, log_weight = _grid()
        z = centre[:, None] + (0.5 * log_variance).exp()[:, None] * eps
        q, prior = Normal(centre, (0.5 * log_variance).exp()), Normal(torch.zeros_like(centre), 1.0)
        return (log_weight.exp() * self._log_likelihood(z, x)).sum(1) - kl_divergence(q, prior).sum(1)

    def _log_likelihood(self, z: Tensor, x: Tensor) -> Tensor:
        return Bernoulli(logits=self.decode(z)).log_prob(x[:, None]).sum(-1)


def _grid() -> tuple[Tensor, Tensor]:
    """Points (n, 2) of a fine grid and the logarithms of their shares of N(0, I), (n,)."""
    axis = torch.linspace(-7, 7, 281, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    log_density = Normal(0.0, 1.0).log_prob(z).sum(1)
    return z, log_density.log_softmax(0)


@instant_check
def importance_weighted(answer: Callable[[nn.Module, Tensor, int], Tensor]) -> None:
    """Check `answer(model, x, k)`: the importance-weighted estimate of log p(x), (batch,), nats."""
    x = torch.tensor([[0.0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 1, 0]], dtype=torch.float64)
    model = _Plane((-0.5, 1.0))
    with untouched(x):
        estimate = answer(model, x, 50_000)
    require_tensor(estimate, (4,), "one number per image")
    require_tensor(answer(model, x[:1], 3), (1,), "one number per image")
    exact, elbo = model.log_px(x), model.elbo(x)
    shift = (estimate - exact).mean().item()
    require(
        abs(shift - math.log(50_000)) > 0.3,
        "no-log-k",
        "log k is missing: the weights are added up but not divided by k",
    )
    require(
        not (estimate > 0).all(),
        "sign",
        "all estimates are positive; log-probabilities of binary images can't be: the sign?",
    )
    require(
        not torch.allclose(estimate, elbo, atol=0.03),
        "mean-of-logs",
        "this is the ELBO, a mean of logarithms; take the logarithm of the mean of the weights: logsumexp - log k",
    )
    mu, logvar = model.encode(x)
    z = Normal(mu, (0.5 * logvar).exp()).sample((50_000,))
    likelihood_alone = Bernoulli(logits=model.decode(z)).log_prob(x).sum(-1).exp().mean(0).log()
    require(
        not torch.allclose(estimate, likelihood_alone, atol=0.03),
        "no-weights",
        "the weights lack p(z) / q(z|x): codes drawn from q must be corrected for it",
    )
    require(
        torch.allclose(estimate, exact, atol=0.05),
        "value",
        f"with 50,000 samples you get {[round(v, 2) for v in estimate.tolist()]}, exact is "
        f"{[round(v, 2) for v in exact.tolist()]}: are all sums over the last dimension, prior and q for each of them?",
    )
    for logvar in [(-3.0, 1.0), (1.5, -2.0)]:
        model = _Plane(logvar)
        means = torch.stack([answer(model, image.expand(20_000, 3), 1).mean() for image in x[1:3]])
        require(
            torch.allclose(means, model.elbo(x[1:3]), atol=0.15),
            "elbo",
            f"with k = 1 the mean must be the ELBO, {[round(v, 2) for v in model.elbo(x[1:3]).tolist()]}; yours is "
            f"{[round(v, 2) for v in means.tolist()]}: is sigma = exp(0.5 * logvar)?",
        )
    far = answer(_Plane((-0.5, 1.0), scale=1e5), x.repeat(25, 1), 2)
    require(torch.isfinite(far).all(), "underflow", "very small probabilities underflow: stay with logarithms")
    correct("importance_weighted: right weights, log of their mean, ELBO for k = 1, stable.")
