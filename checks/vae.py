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
    require_items,
    require_tensor,
    untouched,
)
from checks.common import numbers as numbers


@instant_check
def vae_class(answer: type[nn.Module]) -> None:
    """Check the class `answer(input_dim, hidden_dim, latent_dim)` with encode, reparameterize, decode and forward."""
    model = answer(6, 8, 3)
    _sampling("reparameterize", model, model.reparameterize)
    for batch in (6, 1):
        _shapes(answer(10, 8, 3), torch.rand(batch, 10))
    model.encoder = model.decoder = nn.Sequential()  # these hand on what they get: x is mu and logvar, logits are z
    _parameters(model)
    _sampling("what forward decodes", model, lambda mu, logvar: model(torch.cat([mu, logvar], dim=1))[0])
    try:
        model.reparameterize(*torch.zeros(2, 6, 3, device="meta"))  # a device without numbers
    except RuntimeError as error:  # a right answer may fail there too, but not because of two devices
        message = "eps is drawn on the CPU, wherever mu is, and fails on a GPU: torch.randn_like(mu)"
        require("device" not in str(error), "device", message)
    correct("VAE: shapes, two halves, one fresh epsilon for each number, sigma = exp(logvar / 2), gradients to both.")


def _sampling(name: str, model: nn.Module, draw: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Whether `draw(mu, logvar)` samples as it should, in training and afterwards."""
    for training in (True, False):
        model.train(training)
        fresh = training or not torch.equal(*(draw(*torch.zeros(2, 6, 3)) for _ in range(2)))
        require(fresh, "eval", f"{name}: in eval mode no fresh eps is drawn; a VAE samples after training too")
        try:
            require_gaussian_draws(draw, (6, 3), (1, 3))
        except CheckFailed as failure:
            raise CheckFailed(failure.code, f"{name}: {failure}") from None


def _shapes(model: nn.Module, x: Tensor) -> None:
    """The shape of everything that the methods return."""
    encoded, batch = model.encode(x), len(x)
    cut = "encode must return two tensors, mu and logvar: cut the encoder's output in two with .chunk(2, dim=-1)"
    require_items(encoded, 2, "pair", cut)
    for name, value in zip(("mu", "logvar"), encoded, strict=True):
        message = f"{name} has shape {tuple(value.shape)}; expected {(batch, 3)}: chunk along dim=-1"
        require(value.shape == (batch, 3), "chunk", message)
    z = torch.randn(batch, 3)
    message = "decode must return the decoder's output as it is: logits, without a sigmoid (the loss applies it)"
    require(torch.equal(model.decode(z), model.decoder(z)), "sigmoid", message)
    with untouched(x):
        output = model(x)
    require_items(output, 3, "triple", "forward must return logits, mu, logvar")
    shapes, expected = [tuple(value.shape) for value in output], [(batch, 10), (batch, 3), (batch, 3)]
    require(shapes == expected, "shape", f"forward returns shapes {shapes}; logits, mu, logvar have {expected}")


def _parameters(model: nn.Module) -> None:
    """The halves of the encoder's output come out of encode and of forward as they are, with their gradients."""
    x = (30 * randn(5, 6)).requires_grad_()
    for name, parameters in {"encode": model.encode(x), "forward": model(x)[1:]}.items():
        message = f"{name} must give the first half of the encoder's output as mu, the second as logvar, as they are"
        require(torch.equal(torch.cat([*parameters], dim=1), x), "halves", message + ": no exp, no clamp")
        (gradient,) = torch.autograd.grad(sum((p.sum() for p in parameters), 0 * x.sum()), x)
        require(close(gradient, 1.0), "detached", f"mu and logvar of {name} are cut off from the encoder: no .detach()")


@instant_check
def vae_loss(answer: Callable[[Tensor, Tensor, Tensor, Tensor], dict[str, Tensor]]) -> None:
    """Check `answer(logits, x, mu, logvar)`: {"loss", "recon", "kl"}, scalars in nats per image."""
    for batch, pixels, dim, steep, middle in [
        (4, 9, 2, 3, 0),
        (1, 4, 2, 3, 0),
        (7, 5, 3, 300, -40),
        (3, 5, 4, 300, 40),
    ]:
        logits, x = steep * randn(batch, pixels), (randn(pixels, batch).T > 0).double()
        mu, logvar = 2 * randn(batch, dim), middle + 2 * randn(batch, dim)
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
    logits, logvar = logits / 100, logvar - middle
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
    recognise(
        kl, right, slips, f"the KL is {kl:.4g} nats per image where torch.distributions has {right:.4g}: see (4.2)"
    )


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
    otherwise = f"recon is {recon:.4f} nats per image where -log p(x|z) is {right:.4f}: compare with (4.3)"
    if logits.abs().max() < 50:
        recognise(recon, right, slips, otherwise)
    stable = "; for logits of several hundred use F.binary_cross_entropy_with_logits, not sigmoid and log"
    require(close(recon, right), "range", otherwise + stable)


@instant_check
def manifold_codes(answer: Callable[[int], Tensor]) -> None:
    """Check `answer(n)`: codes (n * n, 2), equally spaced in probability under N(0, I), top row first."""
    for n in (4, 7, 1, 400):
        with untouched():
            codes = answer(n)
        require_tensor(codes, (n * n, 2), f"one code for each of {n} by {n} tiles", getattr(codes, "dtype", None))
        message = "a code is infinite: use midpoints (0.5/n, 1.5/n, ...), not 0 and 1"
        require(codes.isfinite().all(), "infinite", message)
        steps = codes.double().view(n, n, 2)[0, :, 0].diff()
        require(
            n == 1 or not steps.all() or not close(steps, steps[:1].expand_as(steps), atol=1e-4),
            "linear",
            "the codes are equally spaced in z; asked are equal steps in probability: torch.special.ndtri(u)",
        )
        midpoints = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        right = torch.cartesian_prod(midpoints.flip(0), midpoints).flip(1)
        rows, z1_left, z2_up = right.view(n, n, 2), torch.tensor([1, 0]), torch.tensor([0, 1])
        slips = {
            ("exchanged", "z1 and z2 are exchanged: z1 must grow within a row, and the rows differ in z2"): right.flip(
                1
            ),
            ("transposed", "z1 must grow within a row, not down the rows: meshgrid's indexing"): rows.transpose(0, 1),
            ("upside-down", "the picture is upside down: the first row has the largest z2"): (right - z2_up).abs(),
            ("across", "within a row z1 must grow, from left to right"): (right - z1_left).abs(),
        }
        slips = {slip: wrong.reshape(-1, 2) for slip, wrong in slips.items()}
        otherwise = f"not the grid: within each row Phi(z1) must grow, 0.5/n, 1.5/n, ..., and Phi(z2) fall; n = {n}"
        recognise(Normal(0.0, 1.0).cdf(codes.double()), right, slips, otherwise, atol=1e-5)
    correct("manifold_codes: equal steps in probability, z1 to the right, z2 upwards.")


@instant_check
def gaussian_recon(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Check `answer(x_hat, x, variance)`: -log N(x; x_hat, variance * I), nats per image, a scalar."""
    for batch, pixels, variance in [(3, 4, 0.25), (1, 3, 3.0), (2, 784, 0.01), (5, 9, 1e-6), (5, 9, 1e4)]:
        x, x_hat = torch.rand(batch, pixels, dtype=torch.float64), 3 * randn(batch, pixels)
        with untouched(x, x_hat):
            value = answer(x_hat, x, variance)
        require_tensor(value, (), "one number, nats per image")
        constant = pixels * -Normal(0.0, math.sqrt(variance)).log_prob(torch.zeros(1).double()).item()
        error = -Normal(x_hat, math.sqrt(variance)).log_prob(x).sum() / batch - constant
        pixel_mean = "you average over the pixels; sum over them, mean over the batch"
        batch_sum = "you sum over the batch; take the mean over the images"
        slips = {
            ("sign", "the sign is flipped: asked is minus the log-density"): -error - constant,
            ("half", "the factor 1/2 in front of the squared error is missing"): 2 * error + constant,
            ("sigma", "you divide by sigma; divide by sigma^2, which `variance` is"): error * math.sqrt(variance)
            + constant,
            ("variance-squared", "you square `variance`, but it is sigma^2 already"): error / variance + constant,
            ("no-variance", "`variance` plays no part in the error: divide by it"): error * variance + constant,
            ("pixel-mean", pixel_mean): (error + constant) / pixels,
            ("pixel-mean", pixel_mean + ", the error too"): error / pixels + constant,
            ("batch-sum", batch_sum): (error + constant) * batch,
            ("batch-sum", batch_sum + " of the error too"): error * batch + constant,
            ("no-constant", "the constant D/2 log(2 pi sigma^2) is missing"): error,
            ("constant-sign", "the constant D/2 log(2 pi sigma^2) has the wrong sign"): error - constant,
            ("constant-once", "the constant counts once; it belongs to each of the D pixels"): error
            + constant / pixels,
            ("constant-half", "the constant is D/2 log(2 pi sigma^2), not half of it"): error + constant / 2,
            ("constant-double", "the factor 1/2 of the constant is missing"): error + 2 * constant,
            ("no-2-pi", "log 2 pi is missing: for sigma = 1 the constant is not zero"): error
            + pixels * math.log(variance) / 2,
        }
        otherwise = f"for variance {variance:g} you have {value:.6g} nats per image, -log N is {error + constant:.6g}"
        recognise(value, error + constant, slips, otherwise, rtol=1e-6)
    keeps_dtype(lambda x_hat, x: answer(x_hat, x, 0.5), x_hat, x)
    require_gradients(lambda x_hat: answer(x_hat, x[:, :3], 0.5), x_hat=x_hat[:, :3])
    correct("gaussian_recon: half the squared error over sigma^2, and the constant for every pixel.")


class _Plane(nn.Module):
    """A model with two latent dimensions and three pixels, small enough for sums over a grid of z."""

    def __init__(self, logvar: tuple[float, float], shift: float = 0.0) -> None:
        super().__init__()
        self.logvar, self.shift = logvar, shift  # `shift` is added to the logits

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = torch.stack([x.sum(1) - 1.5, 0.8 * x[:, 0] - 0.3], dim=1)
        return mu, torch.tensor(self.logvar, dtype=x.dtype).expand(len(x), 2)

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return torch.normal(mu, logvar.exp().sqrt())

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
    model, k = _Plane((-0.5, 1.0)), 50_000
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
        f"{[round(v, 2) for v in right['evidence'].tolist()]}: sum over the last dimension, in p(z) and in q alike",
        rtol=0,
        atol=0.05,
    )
    for logvar in [(-3.0, 1.0), (1.5, -2.0)]:
        model = _Plane(logvar)
        singles = torch.stack([answer(model, image.expand(4000, 3), 1) for image in x[1:3]])
        own = "equal images get equal estimates: each image needs codes of its own"
        require(len(singles.unique()) > 0.99 * singles.numel(), "dependent", own)
        elbo = model.by_grid(x[1:3])["elbo"]
        require(
            close(singles.mean(1), elbo, rtol=0, atol=0.45),
            "elbo",
            f"with k = 1 the mean must be the ELBO, {[round(v, 2) for v in elbo.tolist()]}; yours is "
            f"{[round(v, 2) for v in singles.mean(1).tolist()]}: is sigma = exp(0.5 * logvar)?",
        )
    model = _Plane((1.0, 1.0), shift=-2000.0)
    far, evidence = answer(model, x, k), model.by_grid(x)["evidence"]
    message = f"log p(x) = {evidence[2]:.0f} comes out as {far[2]:.0f}: the weights underflow; stay with logarithms"
    require(close(far, evidence, rtol=0, atol=0.3), "underflow", message)
    correct("importance_weighted: right weights, log of their mean, ELBO for k = 1, stable.")
