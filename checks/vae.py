"""Instant checks of notebook 04, the VAE in PyTorch."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from checks.common import (
    CheckFailed,
    close,
    correct,
    instant_check,
    keeps_dtype,
    randn,
    recognise,
    require,
    require_gaussian_draws,
    require_gradients,
    require_tensor,
    untouched,
)
from checks.common import numbers as numbers


@instant_check
def vae_loss(answer: Callable[[Tensor, Tensor, Tensor, Tensor], dict[str, Tensor]]) -> None:
    """Check `answer(logits, x, mu, logvar)`: {"loss", "recon", "kl"}, scalars in nats per image."""
    for batch, pixels, dim, steep, middle in [
        (4, 9, 2, 3, 0),
        (1, 4, 2, 3, 0),
        (7, 5, 3, 300, -40),
        (3, 5, 4, 300, 40),
    ]:
        logits, x = steep * randn(batch, pixels), (randn(batch, pixels) > 0).double()
        mu, logvar = steep * randn(batch, dim), middle + 2 * randn(batch, dim)
        mu[0, 0] = logvar[0, 0] = 0  # here q is the prior
        with untouched(logits, x, mu, logvar):
            terms = answer(logits, x, mu, logvar)
        message = f"return a dictionary with recon, kl and loss; yours is {type(terms).__name__}"
        require(isinstance(terms, dict), "dictionary", message)
        keys = f'the keys must be "loss", "recon", "kl"; yours: {sorted(terms)}'
        require({"loss", "recon", "kl"} <= terms.keys(), "keys", keys)
        for name in ("recon", "kl", "loss"):
            require_tensor(terms[name], (), f"one number for {name}")
        _compare_kl(terms["kl"], mu, logvar)
        _compare_recon(terms["recon"], logits, x)
        message = "loss must be recon + kl: the negative ELBO, with both signs positive and no further weight"
        require(close(terms["loss"], terms["recon"] + terms["kl"]), "sum", message)
    logits, mu, logvar = logits / 100, mu / 100, logvar - middle
    keeps_dtype(lambda *given: answer(*given)["loss"], logits, x, mu, logvar)
    for name in ("loss", "recon"):
        require_gradients(lambda logits, name=name: answer(logits, x, mu, logvar)[name], logits=logits)
    for name in ("loss", "kl"):
        require_gradients(lambda mu, logvar, name=name: answer(logits, x, mu, logvar)[name], mu=mu, logvar=logvar)
    correct("vae_loss: both terms in nats per image, stable, with the right gradients.")


def _compare_kl(kl: Tensor, mu: Tensor, logvar: Tensor) -> None:
    """Compare with torch.distributions, and recognise the usual slips."""
    (batch, dim), prior = mu.shape, Normal(torch.zeros_like(mu), 1.0)

    def with_sigma(power: float) -> Normal:
        return Normal(mu, (power * logvar).exp())

    q = with_sigma(0.5)
    right = kl_divergence(q, prior).sum() / batch
    twice = "you use sigma where sigma^2 = exp(logvar) belongs"
    slips = {
        ("sign", "the sign of the KL is flipped"): -right,
        ("half", "the KL is twice as large as it should be: the factor 1/2 is missing"): 2 * right,
        ("dimension-mean", "you average the KL over the latent dimensions; sum over them, then average"): right / dim,
        ("batch-sum", "you sum the KL over the batch; sum over dimensions, mean over the batch"): right * batch,
        ("no-minus-one", "KL of N(0, 1) from the prior must be 0: the - 1 of each dimension is missing"): right
        + dim / 2,
        ("reverse", "this is KL(p || q), the reverse; asked is KL(q || p)"): kl_divergence(prior, q).sum() / batch,
        ("sigma-for-variance", twice): kl_divergence(with_sigma(0.25), prior).sum() / batch,
        ("sigma-for-variance", twice + " in one term"): right + (q.stddev - q.variance).sum() / (2 * batch),
        ("variance-squared", "exp(logvar) is sigma^2 already: don't square it"): kl_divergence(
            with_sigma(1), prior
        ).sum()
        / batch,
    }
    otherwise = f"the KL is {kl:.4g} nats per image where torch.distributions has {right:.4g}: see (4.2)"
    recognise(kl, right, slips, otherwise + ", and leave mu and logvar as they are (no clamp)")


def _compare_recon(recon: Tensor, logits: Tensor, x: Tensor) -> None:
    """Compare with torch.distributions, and recognise the usual slips."""
    (batch, pixels), p = x.shape, logits.sigmoid()
    right = -Bernoulli(logits=logits).log_prob(x).sum() / batch
    error = (x - p).square().sum() / batch
    squared = "this is {} squared error; for binary pixels the reconstruction term is the binary cross-entropy (4.3)"
    slips = {
        ("recon-sign", "recon is negative; it is minus a log-probability"): -right,
        ("pixel-mean", "you average over the pixels; sum over them"): right / pixels,
        ("recon-batch-sum", "you sum over the batch; the unit is nats per image: divide by it"): right * batch,
        ("sigmoid-twice", "the sigmoid is applied twice: the loss wants the logits as they are"): -Bernoulli(logits=p)
        .log_prob(x)
        .sum()
        / batch,
        ("squared-error", squared.format("a")): error,
        ("squared-error", squared.format("half a")): error / 2,
    }
    otherwise = f"recon is {recon:.8g} nats per image where -log p(x|z) is {right:.8g}: compare with (4.3)"
    if logits.abs().max() < 50:
        recognise(recon, right, slips, otherwise)
    stable = "; for logits of several hundred use F.binary_cross_entropy_with_logits, not sigmoid and log"
    require(close(recon, right), "range", otherwise + stable)


class VAE(nn.Module):
    """What a model of the checks or hidden tests has in common with the notebook's, beside `encode` and `decode`."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1, dtype=torch.float64))  # of the device and dtype of a model's parameters

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of images that a sample of q decodes to, and q's mu and logvar."""
        mu, logvar = self.encode(x)
        return self.decode(mu + (0.5 * logvar).exp() * torch.randn_like(mu)), mu, logvar


class _Plane(VAE):
    """A model with two latent dimensions and three pixels, small enough for sums over a grid of z."""

    def __init__(self, logvar: tuple[float, float], shift: float = 0.0) -> None:
        super().__init__()
        self.logvar, self.shift = logvar, shift  # `shift` is added to the logits

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = torch.stack([x.sum(1) - 1.5, 0.8 * x[:, 0] - 0.3], dim=1)
        return mu, torch.tensor(self.logvar, dtype=x.dtype).repeat(len(x), 1)

    def decode(self, z: Tensor) -> Tensor:
        weight = torch.tensor([[1.0, -0.5, 2.0], [0.7, 1.2, -0.4]], dtype=z.dtype)
        return z @ weight + torch.tensor([0.3, -0.2, 0.1], dtype=z.dtype) + self.shift

    def by_grid(self, x: Tensor) -> dict[str, Tensor]:
        """In nats, (batch,): "evidence", "elbo", and "likelihood", the logarithm of the mean of p(x|z) over q."""
        axis, prior = torch.linspace(-7, 7, 201, dtype=torch.float64), Normal(0.0, 1.0)
        eps = torch.cartesian_prod(axis, axis)
        log_share = prior.log_prob(eps).sum(1).log_softmax(0)
        centre, log_variance = self.encode(x)
        q = Normal(centre, log_variance.exp().sqrt())
        over_prior, over_q = (
            Bernoulli(logits=self.decode(z)).log_prob(x[:, None]).sum(-1)
            for z in (eps, q.mean[:, None] + q.stddev[:, None] * eps)
        )
        return {
            "evidence": (over_prior + log_share).logsumexp(1),
            "elbo": over_q @ log_share.exp() - kl_divergence(q, Normal(torch.zeros_like(centre), 1.0)).sum(1),
            "likelihood": (over_q + log_share).logsumexp(1),
        }


@instant_check
def importance_weighted(answer: Callable[[nn.Module, Tensor, int], Tensor]) -> None:
    """Check `answer(model, x, k)`: the importance-weighted estimate of log p(x), (batch,), nats."""
    x = torch.tensor([[0.0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 1, 0]], dtype=torch.float64)
    model, k = _Plane((-0.5, 1.0)), 60_000
    with untouched(x):
        estimate = answer(model, x, k)
    require_tensor(estimate, (4,), "one number per image")
    require_tensor(answer(model, x[:1], 3), (1,), "one number per image")
    fresh = "two calls give the same estimate: draw fresh codes each time, without a seed"
    require(not torch.equal(answer(model, x, 3), answer(model, x, 3)), "not-fresh", fresh)
    right = model.by_grid(x)
    recognise(
        estimate,
        right["evidence"],
        {
            ("no-log-k", "the weights are added up but not divided by k: log k is missing"): right["evidence"]
            + math.log(k),
            ("sign", "the sign is flipped: asked is log p(x), not minus it"): -right["evidence"],
            ("mean-of-logs", "this is the ELBO, a mean of logarithms: take the logarithm of the mean"): right["elbo"],
            ("no-weights", "the weights lack p(z) / q(z|x): codes from q must be corrected for it"): right[
                "likelihood"
            ],
        },
        f"with {k} samples you get {[round(v, 2) for v in estimate.tolist()]}, exact is "
        f"{[round(v, 2) for v in right['evidence'].tolist()]}: a weight is p(x|z) p(z) / q(z|x) at the sample z; add "
        "up each of its three logarithms over the last dimension",
        rtol=0,
        atol=0.05,
    )
    model = _Plane((1.0, 1.0), shift=-2000.0)
    far, evidence = answer(model, x, k // 4), model.by_grid(x)["evidence"]
    message = f"log p(x) = {evidence[2]:.0f} comes out as {far[2]:.0f}: the weights underflow; stay with logarithms"
    require(close(far, evidence, rtol=0, atol=0.3), "underflow", message)
    cases = [((-3.0, 1.0), 4000, 0.35), ((1.5, -2.0), 7000, 0.35), ((-12.0, -9.0), 400, 0.35)]
    for logvar, n, atol in [*cases, ((11.0, -2.0), 1000, 10_000)]:  # the last ELBO is -30,000
        model = _Plane(logvar)
        singles = torch.stack([answer(model, image.expand(n, 3), 1) for image in x[1:3]])
        own = "equal images get equal estimates: each image needs codes of its own"
        require(len(singles.unique()) > 0.99 * singles.numel(), "dependent", own)
        elbo = model.by_grid(x[1:3])["elbo"]
        require(
            close(singles.mean(1), elbo, rtol=0, atol=atol),
            "elbo",
            f"with k = 1 the mean must be the ELBO, {[round(v, 2) for v in elbo.tolist()]}; yours is "
            f"{[round(v, 2) for v in singles.mean(1).tolist()]}: are the codes from q, with sigma = exp(0.5 * logvar), "
            "without a clamp?",
        )
    correct("importance_weighted: right weights, log of their mean, ELBO for k = 1, stable.")


NO_SAMPLE = "model.decode was not given a sample of q: call model(x), or reparameterize(mu, logvar)"


class Watched(nn.Module):
    """A float64 model of images (batch, 6), two latent dimensions, without noise; notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, n, dtype=torch.float64) for n in (6, 2, 2))
        self.seen: list[Tensor] = []
        self.noise: list[Tensor] = []

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mu and logvar, each (batch, 2)."""
        self.x, self.q = x, (self.layers[1](x), self.layers[2](x))
        self.seen.append(x.detach().clone())
        return self.q

    def decode(self, z: Tensor) -> Tensor:
        """Logits (batch, 6) of the images that were encoded last, whatever the code; notes the noise of the code."""
        mu, logvar = self.q
        require(z.shape == mu.shape and z.requires_grad, "no-sample", NO_SAMPLE)
        self.noise.append(((z - mu) / (0.5 * logvar).exp()).detach())
        return self.layers[0](self.x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, mu and logvar, without noise."""
        mu, logvar = self.encode(x)
        return self.layers[0](x), mu, logvar

    def terms(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """recon of `target` and kl, nats per image, by torch.distributions."""
        logits, mu, logvar = (layer(x) for layer in self.layers)
        q, prior = Normal(mu, (0.5 * logvar).exp()), Normal(torch.zeros_like(mu), 1.0)
        bernoulli = Bernoulli(logits=logits, validate_args=False)
        return -bernoulli.log_prob(target).sum() / len(x), kl_divergence(q, prior).sum() / len(x)


@instant_check
def train_step(answer: Callable[[nn.Module, torch.optim.Optimizer, Tensor], dict[str, Tensor]]) -> None:
    """Check `answer(model, optimizer, x)`: one step on grey images x (batch, D); the loss's terms, detached."""
    for batch in (1, 9):
        model, x = Watched(), 0.2 + 0.6 * torch.randint(2, (batch, 6)).double()
        _one_step(answer, model, x)
    model.seen.clear()
    for _ in range(2):
        answer(model, torch.optim.SGD(model.parameters(), lr=0.05), x.repeat(200, 1))
    drawn = torch.stack(model.seen)
    require(
        not (drawn == drawn[0]).all(),
        "not-fresh",
        "every step sees the same binary images: draw them anew in each step",
    )
    require(
        (drawn.view(-1, *x.shape).mean(0) - x).abs().max() < 0.12,  # 6 standard errors of a mean of 400 draws
        "not-the-image",
        "a pixel must be ink with its own value as the probability: binarize(x)",
    )
    if model.noise:
        noise = torch.cat(model.noise[-2:])
        require(noise.mean().abs() < 0.1 and (noise.std() - 1).abs() < 0.1, "no-sample", NO_SAMPLE)
    correct("train_step: fresh binary images, the right loss, one step downhill.")


def _one_step(answer: Callable, model: Watched, x: Tensor) -> None:
    """Check where one step leads, and the terms that come back."""
    eta = 0.05
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
        ("no-step", "the weights did not move: after zero_grad(), call backward() and then step()"): 0 * gradient,
        ("no-backward", "the step followed an old gradient: call backward() on the loss first"): 0 * gradient + 100,
        ("no-zero-grad", "old gradients were added to the new ones: call zero_grad() before backward()"): gradient
        + 100,
        ("uphill", "the step goes uphill: the sign of the loss is wrong"): -gradient,
        ("kl-missing", 'backward() was called on recon; call it on terms["loss"]'): gradient - kl_only,
        ("recon-missing", 'backward() was called on kl; call it on terms["loss"]'): kl_only,
        ("grey-target", "vae_loss was given the grey images; give it the binary ones"): slope(
            sum(model.terms(binary, x))
        ),
        ("batch-sum", "the loss is a sum over the batch; its unit is nats per image"): len(x) * gradient,
        ("two-steps", "the step is twice as long as it should be: is step() or backward() called twice?"): 2 * gradient,
    }
    otherwise = (
        "the weights moved, but not by one step down the gradient of the loss: do model and loss get one binary x?"
    )
    recognise(moved, gradient, slips, otherwise)
    _check_terms(terms, recon, kl)
    require(
        not any(value.requires_grad for value in terms.values()),
        "not-detached",
        "detach the terms that you return: otherwise each keeps its whole graph alive",
    )


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
        require(close(value, right.detach()), name, f"{name} is {value:.8g}; expected {right:.8g} nats per image")


class _Coder(VAE):
    """Given mu and logvar (batch, n), and a decoder to two pixels; notes the codes that it decodes."""

    def __init__(self, mu: Tensor, logvar: Tensor) -> None:
        super().__init__()
        self.mu, self.logvar, self.seen = mu, logvar, []
        self.weight = torch.linspace(-1, 1, 2 * mu.shape[1], dtype=torch.float64).view(-1, 2)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mu.clone(), self.logvar.clone()

    def decode(self, z: Tensor) -> Tensor:
        self.seen.append(z.detach())
        return z @ self.weight


@instant_check
def scaled_widths(answer: Callable[[nn.Module, Tensor, float], dict[str, Tensor]]) -> None:
    """Check `answer(model, x, scale)`: the terms of the loss when every sigma of q is multiplied by scale."""
    means = torch.tensor([[0.5, -1.0, 2.0], [-0.7, 0.6, 0.0]], dtype=torch.float64)  # of two images, many times
    logvars = torch.tensor([[-1.5, 0.8, 0.3], [0.5, -0.9, -2.0]], dtype=torch.float64)
    mu, logvar = (rows.repeat(50_000, 1) for rows in (means, logvars))
    for scale in (1.0, 0.5, 1.7):
        terms, z, recon = _widened(answer, mu, logvar, scale)
        _compare_widths(((z - mu) * (-0.5 * logvar).exp()).view(-1, *means.shape), logvars, scale)
        require(isinstance(terms, dict) and "kl" in terms, "dictionary", "return what vae_loss returns")
        require(
            scale == 1 or not close(terms["kl"].detach(), _kl_of(means, logvars, 1.0)),
            "kl-not-scaled",
            "the KL is that of the old widths: give vae_loss the scaled logvar",
        )
        _check_terms(terms, recon, _kl_of(means, logvars, scale))

    def draw(mu: Tensor, logvar: Tensor) -> Tensor:
        """The codes, with their widths divided by scale."""
        mu, logvar = mu.double(), logvar.double()
        return mu + (_widened(answer, mu, logvar, scale)[1] - mu) / scale

    require_gaussian_draws(draw)
    for far in (-20.0, 20.0):
        mu, logvar = means[:1], torch.full_like(means[:1], far)
        terms, _, recon = _widened(answer, mu, logvar, scale)
        _check_terms(terms, recon, _kl_of(mu, logvar, scale))
    correct("scaled_widths: sample and KL both have the new widths.")


def _widened(answer: Callable, mu: Tensor, logvar: Tensor, scale: float) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """What `answer` returns for random images, the codes that it decodes, and recon of these."""
    x, model = torch.randint(0, 2, (len(mu), 2)).double(), _Coder(mu, logvar)
    with untouched(x):
        terms = answer(model, x, scale)
    require(model.seen, "not-decoded", "decode a sample: model.decode(reparameterize(mu, logvar))")
    z = model.seen[-1]
    require_tensor(z, mu.shape, "one code per image")
    return terms, z, -Bernoulli(logits=z @ model.weight, validate_args=False).log_prob(x).sum() / len(x)


def _compare_widths(noise: Tensor, logvar: Tensor, scale: float) -> None:
    """Compare (z - mu) / sigma (repeats, images, n) with noise of width scale, and recognise the usual slips."""
    require(not (noise == noise[0]).all(), "no-sample", "the codes are not samples: use reparameterize(mu, logvar)")
    slips = {
        ("sample-not-scaled", "the sample has q's old widths: scale them before you call reparameterize"): 1.0,
        ("variance-scaled", "the sample's variance is multiplied by scale; the width sigma must be"): math.sqrt(scale),
        ("scaled-twice", "the sample's widths are multiplied by scale squared"): scale**2,
        ("logvar-scaled", "logvar is multiplied by scale; sigma must be"): (0.5 * (scale - 1) * logvar).exp(),
    }
    found = noise.std(0)
    if not close(found, scale, rtol=0.03):
        for (code, message), wrong in slips.items():
            require(not close(found, wrong, rtol=0.03), code, message)
        raise CheckFailed("width", "the sample's widths are not scale times sigma")
    average = noise.mean(0) / scale  # of the two images; 0.019 and 0.027 are 6 standard errors
    centred = average.mean(0).abs().max() < 0.019 and average.abs().max() < 0.027
    require(centred, "mean", "the mean of q must stay where it is, for each image its own mu")


def _kl_of(mu: Tensor, logvar: Tensor, scale: float) -> Tensor:
    """KL to the prior when the widths are multiplied by scale, nats per image."""
    q = Normal(mu, scale * (0.5 * logvar).exp())
    return kl_divergence(q, Normal(torch.zeros_like(mu), 1.0)).sum(1).mean()
