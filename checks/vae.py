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


class _Watched(nn.Module):
    """A float64 model of images (batch, 6), two latent dimensions, without noise; notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, n, dtype=torch.float64) for n in (6, 2, 2))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.seen.append(x.detach().clone())
        return tuple(layer(x) for layer in self.layers)

    def terms(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """recon of `target` and kl, nats per image, by torch.distributions."""
        logits, mu, logvar = (layer(x) for layer in self.layers)
        q, prior = Normal(mu, (0.5 * logvar).exp()), Normal(torch.zeros_like(mu), 1.0)
        bernoulli = Bernoulli(logits=logits, validate_args=False)
        return -bernoulli.log_prob(target).sum() / len(x), kl_divergence(q, prior).sum() / len(x)


@instant_check
def train_step(answer: Callable[[nn.Module, torch.optim.Optimizer, Tensor], dict[str, Tensor]]) -> None:
    """Check `answer(model, optimizer, x)`: one step on grey images x (batch, 784); the loss's terms, detached."""
    model, eta = _Watched(), 0.05
    x = 0.1 + 0.8 * torch.rand(9, 6, generator=generator(), dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=eta)
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    for p in model.parameters():
        p.grad = torch.full_like(p, 100.0)  # left over from an earlier step
    with untouched(x):
        terms = answer(model, optimizer, x)
    moved = (nn.utils.parameters_to_vector(model.parameters()).detach() - start) / -eta
    require(model.seen, "not-run", "the model was never called: logits, mu, logvar = model(x)")
    binary = model.seen[-1]
    require(
        ((binary == 0) | (binary == 1)).all(), "grey", "the model was given grey pixels: x = binarize(x) comes first"
    )
    nn.utils.vector_to_parameters(start, model.parameters())

    def slope(loss: Tensor) -> Tensor:
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        pairs = zip(gradients, model.parameters(), strict=True)
        return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in pairs])

    recon, kl = model.terms(binary, binary)
    gradient, kl_only = slope(sum(model.terms(binary, binary))), slope(model.terms(binary, binary)[1])
    slips = {
        ("no-step", "the weights did not move: call optimizer.step()"): 0 * gradient,
        ("no-backward", "the step followed an old gradient: call backward() on the loss first"): 0 * gradient + 100,
        ("no-zero-grad", "old gradients were added to the new ones: call optimizer.zero_grad()"): gradient + 100,
        ("uphill", "the step goes uphill: the sign of the loss is wrong"): -gradient,
        ("kl-missing", 'backward() was called on recon; call it on terms["loss"]'): gradient - kl_only,
        ("recon-missing", 'backward() was called on kl; call it on terms["loss"]'): kl_only,
        ("grey-target", "vae_loss was given the grey images; give it the binary ones"): slope(
            sum(model.terms(binary, x))
        ),
        ("batch-sum", "the loss is a sum over the batch; its unit is nats per image"): 9 * gradient,
        ("two-steps", "the step is twice as long as it should be: is step() or backward() called twice?"): 2 * gradient,
    }
    recognise(moved, gradient, slips, "the weights moved, but not by one step down the gradient of the loss")
    _check_terms(terms, recon, kl)
    require(
        not any(value.requires_grad for value in terms.values()),
        "not-detached",
        "detach the terms that you return: otherwise each keeps its whole graph alive",
    )
    model.seen.clear()
    for _ in range(300):
        answer(model, optimizer, x)
    drawn = torch.stack(model.seen)
    require(
        not (drawn == drawn[0]).all(),
        "not-fresh",
        "every step sees the same binary images: draw them anew in each step",
    )
    require(
        (drawn.mean(0) - x).abs().max() < 0.12,
        "not-the-image",
        "a pixel must be ink with its own value as the probability: binarize(x)",
    )
    correct("train_step: fresh binary images, the right loss, one step downhill.")


def _check_terms(terms: dict[str, Tensor], recon: Tensor, kl: Tensor) -> None:
    """Require a dictionary with recon, kl and their sum."""
    require(
        isinstance(terms, dict) and {"loss", "recon", "kl"} <= set(terms),
        "dictionary",
        'return a dictionary with "loss", "recon" and "kl", as vae_loss does',
    )
    for name, right in {"recon": recon, "kl": kl, "loss": recon + kl}.items():
        value = terms[name].detach() if isinstance(terms[name], Tensor) else terms[name]
        require_tensor(value, (), f"{name}, one number in nats per image")
        require(close(value, right.detach()), name, f"{name} is {value:.4f}; expected {right:.4f} nats per image")


class _Coder(nn.Module):
    """Given mu and logvar (3,), and a decoder to 5 pixels; notes the codes that it decodes."""

    def __init__(self, mu: Tensor, logvar: Tensor) -> None:
        super().__init__()
        self.mu, self.logvar, self.seen = mu, logvar, []
        self.weight = torch.linspace(-1, 1, 15, dtype=torch.float64).view(3, 5)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mu.expand(len(x), 3), self.logvar.expand(len(x), 3)

    def decode(self, z: Tensor) -> Tensor:
        self.seen.append(z.detach())
        return z @ self.weight


@instant_check
def scaled_widths(answer: Callable[[nn.Module, Tensor, float], dict[str, Tensor]]) -> None:
    """Check `answer(model, x, scale)`: the terms of the loss when every sigma of q is multiplied by scale."""
    mu, logvar = torch.tensor([[0.5, -1.0, 2.0], [-1.5, 0.8, 0.3]], dtype=torch.float64)
    x = torch.randint(0, 2, (40_000, 5), generator=generator()).double()
    for scale in (1.0, 0.5, 1.7):
        model, sigma = _Coder(mu, logvar), (0.5 * logvar).exp()
        with untouched(mu, logvar, x):
            terms = answer(model, x, scale)
        require(model.seen, "not-decoded", "decode a sample: model.decode(reparameterize(mu, logvar))")
        z = model.seen[-1]
        require_tensor(z, (len(x), 3), "one code per image")
        require(not (z == z[0]).all(), "no-sample", "the codes are not samples: use reparameterize(mu, logvar)")
        width = {
            ("sample-not-scaled", "the sample has q's old widths: scale them before you call reparameterize"): sigma,
            ("variance-scaled", "the sample's variance is multiplied by scale; the width sigma must be"): sigma
            * math.sqrt(scale),
            ("scaled-twice", "the sample's widths are multiplied by scale squared"): sigma * scale**2,
            ("logvar-scaled", "logvar is multiplied by scale; sigma must be"): (0.5 * scale * logvar).exp(),
        }
        found = z.std(0)
        if not torch.allclose(found, scale * sigma, rtol=0.03):
            for (code, message), wrong in width.items():
                require(not torch.allclose(found, wrong, rtol=0.03), code, message)
        require(
            torch.allclose(found, scale * sigma, rtol=0.03), "width", "the sample's widths are not scale times sigma"
        )
        require(torch.allclose(z.mean(0), mu, atol=0.05), "mean", "the mean of q must stay where it is")

        def kl_of(q: Normal) -> Tensor:
            return kl_divergence(q, Normal(torch.zeros(3).double(), 1.0)).sum()

        kl = kl_of(Normal(mu, scale * sigma))
        require(isinstance(terms, dict) and "kl" in terms, "dictionary", "return what vae_loss returns")
        require(
            scale == 1 or not close(terms["kl"].detach(), kl_of(Normal(mu, sigma))),
            "kl-not-scaled",
            "the KL is that of the old widths: give vae_loss the scaled logvar",
        )
        recon = -Bernoulli(logits=z @ model.weight).log_prob(x).sum() / len(x)
        _check_terms(terms, recon, kl)
    correct("scaled_widths: sample and KL both have the new widths.")
