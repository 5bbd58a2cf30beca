"""The instant checks of notebook 04: every wrong answer fails with its cause, every right one passes."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Laplace, MultivariateNormal, Normal, kl_divergence
from torch.nn import functional as F

from checks import vae as check
from checks.common import CheckFailed
from tools.cells import definitions

NOTEBOOK = definitions("04_vae")


def test_notebook_answers_pass():
    check.vae_class(NOTEBOOK.VAE)
    check.vae_loss(NOTEBOOK.vae_loss)
    check.manifold_codes(NOTEBOOK.manifold_codes)
    check.gaussian_recon(NOTEBOOK.gaussian_recon)
    check.importance_weighted(NOTEBOOK.importance_weighted)


def variant(**methods):
    """The notebook's class with some methods replaced."""
    return type("Variant", (NOTEBOOK.VAE,), methods)


def sample(noise):
    """`reparameterize` with other noise or another sigma: noise(mu, logvar) is added to mu."""
    return lambda self, mu, logvar: mu + noise(mu, logvar)


def only_in_training(self, mu, logvar):
    return mu + (0.5 * logvar).exp() * torch.randn_like(mu) * self.training


def mirrored(self, mu, logvar):
    """The second half of the batch gets the noise of the first, with the other sign."""
    half = torch.randn_like(mu[: (len(mu) + 1) // 2])
    return mu + (0.5 * logvar).exp() * torch.cat([half, -half])[: len(mu)]


def blockwise(self, mu, logvar):
    """The second half of the batch gets the noise of the first in another order."""
    half = torch.randn_like(mu[: (len(mu) + 1) // 2])
    return mu + (0.5 * logvar).exp() * torch.cat([half, half[torch.randperm(len(half))]])[: len(mu)]


def across(self, mu, logvar):
    """The noise of the second dimension is that of the first in other rows."""
    eps = torch.randn_like(mu)
    eps[:, 1] = eps[:, 0].roll(17)
    return mu + (0.5 * logvar).exp() * eps


def autoregressive(self, mu, logvar):
    eps = torch.randn_like(mu)
    return mu + (0.5 * logvar).exp() * (0.9 * eps + 0.19**0.5 * eps.roll(3, 0))


def kept(self, mu, logvar):
    """The noise is drawn once for each shape."""
    store = self.__dict__.setdefault("store", {})
    eps = store.setdefault((mu.shape, mu.dtype), torch.randn_like(mu))
    return mu + (0.5 * logvar).exp() * eps


def alternating(self, mu, logvar):
    """Every second call gets the noise of the one before, with the other sign."""
    eps = self.__dict__.get("eps", torch.zeros(0))
    again = eps.shape == mu.shape and eps.dtype == mu.dtype
    eps = -eps if again else torch.randn_like(mu)
    self.eps = torch.zeros(0) if again else eps
    return mu + (0.5 * logvar).exp() * eps


def seeded(self, mu, logvar):
    torch.manual_seed(7)
    return mu + (0.5 * logvar).exp() * torch.randn_like(mu)


def converted(dtype):
    return lambda self, mu, logvar: NOTEBOOK.VAE.reparameterize(self, mu.to(dtype), logvar.to(dtype))


def in_place(self, mu, logvar):
    return mu + logvar.mul_(0.5).exp() * torch.randn_like(mu)


def forward(z=None, parameters=lambda mu, logvar: (mu, logvar)):
    """A method `forward` with its own z(model, mu, logvar), or other parameters returned."""

    def method(self, x):
        mu, logvar = self.encode(x)
        return self.decode((z or type(self).reparameterize)(self, mu, logvar)), *parameters(mu, logvar)

    return method


def encode(change):
    return lambda self, x: change(*self.encoder(x).chunk(2, dim=-1))


def overwrites(self, x):
    output = NOTEBOOK.VAE.forward(self, x)
    x.zero_()
    return output


WRONG_CLASSES = {
    "sigma-is-exp": variant(reparameterize=sample(lambda mu, logvar: logvar.exp() * torch.randn_like(mu))),
    "logvar-gradient/3": variant(reparameterize=sample(lambda mu, logvar: logvar * torch.randn_like(mu))),
    "one-eps-for-batch": variant(
        reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp() * torch.randn_like(mu[:1]))
    ),
    "one-eps-for-dimensions": variant(
        reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp() * torch.randn_like(mu[:, :1]))
    ),
    "mean": variant(reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp() * torch.rand_like(mu))),
    "no-noise": variant(reparameterize=lambda self, mu, logvar: mu),
    "dependent/2": variant(reparameterize=mirrored),
    "logvar-gradient/2": variant(
        reparameterize=sample(lambda mu, logvar: (0.25 * (logvar + logvar.detach())).exp() * torch.randn_like(mu))
    ),
    "eval": variant(reparameterize=only_in_training),
    "no-gradient": variant(reparameterize=lambda self, mu, logvar: Normal(mu, (0.5 * logvar).exp()).sample()),
    "sigma-detached": variant(
        reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp().detach() * torch.randn_like(mu))
    ),
    "sigmoid": variant(decode=lambda self, z: self.decoder(z).sigmoid()),
    "pair": variant(encode=lambda self, x: self.encoder(x)),
    "chunk": variant(encode=lambda self, x: self.encoder(x).chunk(2, dim=0)),
    "halves": variant(encode=lambda self, x: self.encoder(x).chunk(2, dim=1)[::-1]),
    "no-noise/2": variant(forward=forward(z=lambda self, mu, logvar: mu)),
    "eval/2": variant(
        forward=forward(
            z=lambda self, mu, logvar: NOTEBOOK.VAE.reparameterize(self, mu, logvar) if self.training else mu
        )
    ),
    "sigma-is-exp/2": variant(forward=forward(z=lambda self, mu, logvar: mu + logvar.exp() * torch.randn_like(mu))),
    "sigma-is-exp/3": variant(forward=forward(z=lambda self, mu, logvar: self.reparameterize(mu, 2 * logvar))),
    "one-eps-for-batch/2": variant(
        forward=forward(z=lambda self, mu, logvar: mu + (0.5 * logvar).exp() * torch.randn_like(mu[:1]))
    ),
    "mu-gradient": variant(
        forward=forward(z=lambda self, mu, logvar: 0.5 * sum(z := (self.reparameterize(mu, logvar),) * 2) - 0.5 * z[0])
    ),
    "detached": variant(forward=forward(parameters=lambda mu, logvar: (mu.detach(), logvar.detach()))),
    "detached/2": variant(forward=forward(parameters=lambda mu, logvar: (mu, (logvar + logvar.detach()) / 2))),
    "halves/2": variant(encode=encode(lambda mu, logvar: (mu, logvar.clamp(-5, 5)))),
    "halves/3": variant(forward=forward(parameters=lambda mu, logvar: (logvar, mu))),
    "in-place": variant(forward=overwrites),
    "in-place/2": variant(reparameterize=in_place),
    "not-fresh": variant(reparameterize=kept),
    "seeded": variant(reparameterize=seeded),
    "dependent/3": variant(reparameterize=alternating),
    "dependent/4": variant(reparameterize=blockwise),
    "dependent/5": variant(reparameterize=across),
    "dependent/6": variant(reparameterize=autoregressive),
    "dtype": variant(reparameterize=converted(torch.float32)),
    "dtype/2": variant(reparameterize=converted(torch.float64)),
    "device": variant(
        reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp() * torch.randn(mu.shape, dtype=mu.dtype))
    ),
    "not-normal": variant(
        reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp() * 12**0.5 * (torch.rand_like(mu) - 0.5))
    ),
    "not-normal/2": variant(
        reparameterize=sample(
            lambda mu, logvar: (0.5 * logvar).exp() * Laplace(0.0, 0.5**0.5).sample(mu.shape).to(mu.dtype)
        )
    ),
    "not-normal/3": variant(
        reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp() * torch.randn_like(mu).clamp(-3.2, 3.2))
    ),
    "range": variant(
        reparameterize=sample(lambda mu, logvar: (0.5 * logvar.clamp(-20, 20)).exp() * torch.randn_like(mu))
    ),
    "range/2": variant(reparameterize=sample(lambda mu, logvar: (2 * logvar).exp() ** 0.25 * torch.randn_like(mu))),
    "triple": variant(forward=lambda self, x: self.decode(self.encode(x)[0])),
}


@pytest.mark.parametrize("code", WRONG_CLASSES)
def test_wrong_class(code):
    with pytest.raises(CheckFailed) as caught:
        check.vae_class(WRONG_CLASSES[code])
    assert caught.value.code == code.partition("/")[0]


def layer_by_layer(self, x):
    for layer in self.encoder:
        x = layer(x)
    return x.split(x.shape[1] // 2, dim=1)


def without_names(self, x):
    mu, logvar = self.encoder(x.flatten(1)).chunk(2, dim=1)
    return [self.decoder(self.reparameterize(mu, logvar)), mu, logvar]


@pytest.mark.parametrize(
    "methods",
    [
        {"reparameterize": lambda self, mu, logvar: Independent(Normal(mu, torch.exp(logvar / 2)), 1).rsample()},
        {"reparameterize": sample(lambda mu, logvar: logvar.exp().sqrt() * torch.empty_like(mu).normal_())},
        {"reparameterize": sample(lambda mu, logvar: -(math.e ** (logvar / 2)) * torch.randn(mu.shape).to(mu))},
        {"reparameterize": sample(lambda mu, logvar: (logvar / 2).exp() * torch.randn(mu.shape, device=mu.device))},
        {"encode": layer_by_layer},
        {"encode": lambda self, x: torch.stack(self.encoder(x).chunk(2, dim=1))},
        {"forward": without_names},
    ],
)
def test_right_class(methods):
    check.vae_class(variant(**methods))


def loss(recon=None, kl=None, total=lambda recon, kl: recon + kl):
    """An answer to `vae_loss` with one part replaced."""

    def bce(logits, x):
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)

    def gaussian(mu, logvar):
        return 0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(1).mean()

    def answer(logits, x, mu, logvar):
        a, b = (recon or bce)(logits, x), (kl or gaussian)(mu, logvar)
        return {"loss": total(a, b), "recon": a, "kl": b}

    return answer


def twice(logits, x):
    return F.binary_cross_entropy_with_logits(logits.sigmoid(), x, reduction="sum") / len(x)


def overflowing(logits, x):
    p = logits.sigmoid()
    return -(x * p.log() + (1 - x) * (1 - p).log()).sum() / len(x)


def reverse(mu, logvar):
    return 0.5 * ((1 + mu**2) / logvar.exp() + logvar - 1).sum(1).mean()


def gaussian_kl(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - logvar - 1)


def logged(*given):
    """Only the loss can be differentiated."""
    terms = loss()(*given)
    return {name: term if name == "loss" else term.detach() for name, term in terms.items()}


class WarmUp:
    """Answers with a weight of the KL that grows from call to call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, *given):
        """The terms, the first two times with too small a weight."""
        self.calls += 1
        terms = loss()(*given)
        return terms | {"loss": terms["recon"] + min(1, self.calls / 3) * terms["kl"]}


def seeded_loss(*given):
    torch.manual_seed(3)
    return loss()(*given)


WRONG_LOSSES = {
    "sigma-for-variance/2": loss(kl=lambda mu, logvar: 0.5 * (mu**2 + (0.5 * logvar).exp() - logvar - 1).sum(1).mean()),
    "range/2": loss(recon=lambda a, x: F.binary_cross_entropy(a.sigmoid(), x, reduction="sum") / len(x)),
    "range/3": loss(
        recon=lambda a, x: F.binary_cross_entropy_with_logits(a.clamp(-20, 20), x, reduction="sum") / len(x)
    ),
    "value": loss(kl=lambda mu, logvar: gaussian_kl(mu, logvar.clamp(-10, 10)).sum(1).mean()),
    "value/2": loss(kl=lambda mu, logvar: gaussian_kl(mu, logvar).clamp(min=0.05).sum(1).mean()),
    "value/3": loss(kl=lambda mu, logvar: gaussian_kl(mu.mean(0, keepdim=True), logvar).sum(1).mean()),
    "no-gradient/2": logged,
    "sum/2": WarmUp(),
    "sum/3": loss(total=lambda recon, kl: recon + 4 * kl),
    "seeded": seeded_loss,
    "dtype": lambda *given: loss()(*(tensor.double() for tensor in given)),
    "in-place": loss(kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - logvar.add_(1)).sum(1).mean()),
    "half": loss(kl=lambda mu, logvar: (mu**2 + logvar.exp() - logvar - 1).sum(1).mean()),
    "dimension-mean": loss(kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - logvar - 1).mean()),
    "batch-sum": loss(kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - logvar - 1).sum()),
    "sign": loss(kl=lambda mu, logvar: -0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(1).mean()),
    "no-minus-one": loss(kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - logvar).sum(1).mean()),
    "reverse": loss(kl=reverse),
    "sigma-for-variance": loss(kl=lambda mu, logvar: 0.5 * (mu**2 + (logvar / 2).exp() - logvar / 2 - 1).sum(1).mean()),
    "pixel-mean": loss(recon=F.binary_cross_entropy_with_logits),
    "recon-batch-sum": loss(recon=lambda a, x: F.binary_cross_entropy_with_logits(a, x, reduction="sum")),
    "sigmoid-twice": loss(recon=twice),
    "squared-error": loss(recon=lambda logits, x: (logits.sigmoid() - x).square().sum() / len(x)),
    "recon-sign": loss(recon=lambda logits, x: Bernoulli(logits=logits).log_prob(x).sum() / len(x)),
    "range": loss(recon=overflowing),
    "sum": loss(total=lambda recon, kl: recon - kl),
    "no-gradient": loss(
        kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.detach().exp() - logvar.detach() - 1).sum(1).mean()
    ),
    "wrong-gradient": loss(kl=lambda mu, logvar: 0.5 * (mu * mu.detach() + logvar.exp() - logvar - 1).sum(1).mean()),
    "wrong-gradient/2": loss(total=lambda recon, kl: recon + 0.5 * (kl + kl.detach())),
    "dictionary": lambda logits, x, mu, logvar: loss()(logits, x, mu, logvar)["loss"],
    "shape": loss(kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(1)),
}


@pytest.mark.parametrize("code", WRONG_LOSSES)
def test_wrong_loss(code):
    with pytest.raises(CheckFailed) as caught:
        check.vae_loss(WRONG_LOSSES[code])
    assert caught.value.code == code.partition("/")[0]


def by_distributions(mu, logvar):
    return kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(torch.zeros_like(mu), 1)).sum(1).mean()


def by_full_covariance(mu, logvar):
    prior = MultivariateNormal(torch.zeros_like(mu), torch.eye(mu.shape[1]).to(mu))
    return kl_divergence(MultivariateNormal(mu, torch.diag_embed(logvar.exp())), prior).mean()


@pytest.mark.parametrize(
    "answer",
    [
        loss(
            kl=by_distributions, recon=lambda a, x: -Bernoulli(logits=a, validate_args=False).log_prob(x).sum(1).mean()
        ),
        loss(recon=lambda logits, x: (F.softplus(logits) - x * logits).sum(1).mean()),
        loss(recon=lambda a, x: -(x * F.logsigmoid(a) + (1 - x) * F.logsigmoid(-a)).sum(-1).mean(0)),
        loss(kl=lambda mu, logvar: 0.5 * (mu * mu + torch.expm1(logvar) - logvar).mean(0).sum()),
        loss(kl=by_full_covariance),
        lambda *given: loss()(*given) | {"elbo": -loss()(*given)["loss"]},
    ],
)
def test_right_loss(answer):
    check.vae_loss(answer)


def grid(z1, z2):
    return torch.stack([a.flatten() for a in torch.meshgrid(z1, z2, indexing="xy")], dim=1)


def normal_quantiles(n):
    return Normal(0.0, 1.0).icdf((torch.arange(n) + 0.5) / n)


def right_grid(n):
    return grid(normal_quantiles(n), normal_quantiles(n).flip(0))


WRONG_GRIDS = {
    "infinite": lambda n: grid(Normal(0.0, 1.0).icdf(torch.linspace(0, 1, n)), normal_quantiles(n)),
    "linear": lambda n: grid(torch.linspace(-0.96742, 0.96742, n), torch.linspace(0.96742, -0.96742, n)),
    "upside-down": lambda n: grid(normal_quantiles(n), normal_quantiles(n)),
    "exchanged": lambda n: grid(normal_quantiles(n), normal_quantiles(n).flip(0)).flip(1),
    "shape": lambda n: grid(normal_quantiles(n), normal_quantiles(n)).view(n, n, 2),
    "across": lambda n: grid(normal_quantiles(n).flip(0), normal_quantiles(n).flip(0)),
    "transposed": lambda n: right_grid(n).view(n, n, 2).transpose(0, 1).reshape(-1, 2),
    "value": lambda n: right_grid(n).clamp(-2.8, 2.8),
    "value/2": lambda n: Normal(0.0, 1.0).icdf(Normal(0.0, 1.0).cdf(right_grid(n)).clamp(0.002, 0.998)),
    "value/3": lambda n: right_grid(n).view(2, n * n).T,
    "value/4": lambda n: right_grid(n).mul(100).round() / 100,
    "value/5": lambda n: torch.randn(n * n, 2),
    "value/6": lambda n: torch.stack([normal_quantiles(n).repeat(n), normal_quantiles(n).flip(0).repeat(n)], 1),
    "seeded": lambda n: (torch.manual_seed(1), right_grid(n))[1],
}


@pytest.mark.parametrize("code", WRONG_GRIDS)
def test_wrong_grid(code):
    with pytest.raises(CheckFailed) as caught:
        check.manifold_codes(WRONG_GRIDS[code])
    assert caught.value.code == code.partition("/")[0]


def by_erfinv(n):
    z = 2**0.5 * torch.erfinv(2 * torch.linspace(0.5 / n, 1 - 0.5 / n, n, dtype=torch.float64) - 1)
    return torch.cartesian_prod(-z, z).flip(1)


@pytest.mark.parametrize("answer", [right_grid, by_erfinv, lambda n: grid(normal_quantiles(n), -normal_quantiles(n))])
def test_right_grid(answer):
    check.manifold_codes(answer)


def recon(half=0.5, constant=lambda d, v: d * math.log(2 * math.pi * v), divide=lambda v: v, sign=1.0):
    """An answer to `gaussian_recon` with one part replaced."""

    def answer(x_hat, x, variance):
        error = (x - x_hat).square().sum(1).mean()
        return sign * (half * error / divide(variance) + 0.5 * constant(x.shape[1], variance))

    return answer


WRONG_RECONS = {
    "wrong-gradient": lambda x_hat, x, v: recon()((x_hat + x_hat.detach()) / 2, x, v),
    "half": recon(half=1.0),
    "no-constant": recon(constant=lambda d, v: 0.0),
    "constant-once": recon(constant=lambda d, v: math.log(2 * math.pi * v)),
    "no-2-pi": recon(constant=lambda d, v: d * math.log(v)),
    "sigma": recon(divide=math.sqrt),
    "variance-squared": recon(divide=lambda v: v**2),
    "sign": recon(sign=-1.0),
    "pixel-mean": lambda x_hat, x, v: recon()(x_hat, x, v) / x.shape[1],
    "constant-half": recon(constant=lambda d, v: 0.5 * d * math.log(2 * math.pi * v)),
    "constant-double": recon(constant=lambda d, v: 2 * d * math.log(2 * math.pi * v)),
    "constant-sign": recon(constant=lambda d, v: -d * math.log(2 * math.pi * v)),
    "value": recon(constant=lambda d, v: 784 * math.log(2 * math.pi * v)),
    "value/2": lambda x_hat, x, v: recon()(x_hat, x, max(v, 1e-3)),
    "value/3": lambda x_hat, x, v: recon()(x_hat, x, min(v, 10)),
    "value/4": lambda x_hat, x, v: recon()(x_hat.clamp(0, 1), x, v),
    "value/5": lambda x_hat, x, v: F.smooth_l1_loss(x_hat, x, reduction="sum") / len(x) / v + recon()(x, x, v),
    "in-place": lambda x_hat, x, v: recon()(x_hat.sub_(x), torch.zeros_like(x), v),
    "dtype": lambda x_hat, x, v: recon()(x_hat.double(), x.double(), v),
    "seeded": lambda x_hat, x, v: (torch.manual_seed(1), recon()(x_hat, x, v))[1],
    "batch-sum": lambda x_hat, x, v: recon()(x_hat, x, v) * len(x),
    "shape": lambda x_hat, x, v: (x - x_hat).square().sum(1),
}


@pytest.mark.parametrize("code", WRONG_RECONS)
def test_wrong_gaussian_recon(code):
    with pytest.raises(CheckFailed) as caught:
        check.gaussian_recon(WRONG_RECONS[code])
    assert caught.value.code == code.partition("/")[0]


@pytest.mark.parametrize(
    "answer",
    [
        recon(),
        lambda x_hat, x, v: -Normal(x_hat, math.sqrt(v)).log_prob(x).sum(1).mean(),
        lambda x_hat, x, v: x.shape[1] / 2 * (F.mse_loss(x_hat, x) / v + math.log(2 * math.pi * v)),
        lambda x_hat, x, v: (
            F.gaussian_nll_loss(x_hat, x, torch.full_like(x, v), full=True, eps=0, reduction="sum") / len(x)
        ),
        recon(constant=lambda d, v: d * torch.log(torch.tensor(2 * math.pi * v))),  # the constant is float32
    ],
)
def test_right_gaussian_recon(answer):
    check.gaussian_recon(answer)


def weights(model, x, k, sigma=lambda logvar: (0.5 * logvar).exp(), prior=1.0, proposal=1.0):
    """Logarithms of the importance weights (k, batch), with one part replaced."""
    mu, logvar = model.encode(x)
    q = Normal(mu, sigma(logvar))
    z = q.sample((k,))
    log_lik = Bernoulli(logits=model.decode(z)).log_prob(x).sum(-1)
    log_prior = Normal(torch.zeros_like(mu), 1.0).log_prob(z).sum(-1)
    return log_lik + prior * log_prior - proposal * q.log_prob(z).sum(-1)


def averaged(model, x, k):
    """A mean over the latent dimensions where their sum belongs."""
    mu, logvar = model.encode(x)
    q = Normal(mu, (0.5 * logvar).exp())
    z = q.sample((k,))
    log_lik = Bernoulli(logits=model.decode(z)).log_prob(x).sum(-1)
    log_prior = Normal(torch.zeros_like(mu), 1.0).log_prob(z).mean(-1)
    return (log_lik + log_prior - q.log_prob(z).mean(-1)).logsumexp(0) - math.log(k)


def with_eps(draw):
    """An answer with z = mu + sigma * draw(k, mu)."""

    def answer(model, x, k):
        mu, logvar = model.encode(x)
        sigma = (0.5 * logvar).exp()
        z = (mu + sigma * draw(k, mu)).expand(k, *mu.shape)
        log_lik = Bernoulli(logits=model.decode(z)).log_prob(x).sum(-1)
        log_ratio = (Normal(0.0, 1.0).log_prob(z) - Normal(mu, sigma).log_prob(z)).sum(-1)
        return (log_lik + log_ratio).logsumexp(0) - math.log(k)

    return answer


STORE = {}


def kept_eps(k, mu):
    return STORE.setdefault((k, mu.shape), torch.randn(k, *mu.shape, dtype=mu.dtype))


def seeded_estimate(model, x, k):
    torch.manual_seed(5)
    return weights(model, x, k).logsumexp(0) - math.log(k)


def forked_estimate(model, x, k):
    with torch.random.fork_rng(devices=[]):
        return seeded_estimate(model, x, k)


def one_maximum(model, x, k):
    log_weights = weights(model, x, k)
    top = log_weights.max()
    return (log_weights - top).exp().mean(0).log() + top


WRONG_ESTIMATES = {
    "not-fresh": with_eps(kept_eps),
    "not-fresh/2": forked_estimate,
    "seeded": seeded_estimate,
    "dependent": with_eps(lambda k, mu: torch.randn(k, 1, mu.shape[1], dtype=mu.dtype)),
    "underflow/2": lambda m, x, k: (weights(m, x, k).exp().mean(0) + 1e-40).log(),
    "underflow/3": lambda m, x, k: weights(m, x, k).clamp(min=-700).logsumexp(0) - math.log(k),
    "underflow/4": one_maximum,
    "value/3": with_eps(lambda k, mu: torch.randn(1, *mu.shape, dtype=mu.dtype)),
    "value/4": with_eps(lambda k, mu: torch.randn(k, len(mu), 1, dtype=mu.dtype)),
    "in-place": lambda m, x, k: (weights(m, x, k).logsumexp(0) - math.log(k), x.zero_())[0],
    "value/2": averaged,
    "elbo": lambda m, x, k: weights(m, x, k, sigma=torch.exp).logsumexp(0) - math.log(k),
    "elbo/2": lambda m, x, k: weights(m, x, k, sigma=lambda logvar: torch.ones_like(logvar)).logsumexp(0) - math.log(k),
    "mean-of-logs": lambda m, x, k: weights(m, x, k).mean(0),
    "no-log-k": lambda m, x, k: weights(m, x, k).logsumexp(0),
    "no-weights": lambda m, x, k: weights(m, x, k, prior=0, proposal=0).logsumexp(0) - math.log(k),
    "underflow": lambda m, x, k: weights(m, x, k).exp().mean(0).log(),
    "shape": lambda m, x, k: (weights(m, x, k).logsumexp(0) - math.log(k)).mean()[None],
    "value": lambda m, x, k: weights(m, x, k, prior=2.0).logsumexp(0) - math.log(k),
    "sign": lambda m, x, k: math.log(k) - weights(m, x, k).logsumexp(0),
}


@pytest.mark.parametrize("code", WRONG_ESTIMATES)
def test_wrong_estimate(code):
    with pytest.raises(CheckFailed) as caught:
        check.importance_weighted(WRONG_ESTIMATES[code])
    assert caught.value.code == code.partition("/")[0]


def one_by_one(model, x, k):
    return torch.stack([weights(model, image[None], k).logsumexp(0)[0] - math.log(k) for image in x])


def by_the_model(model, x, k):
    """The model draws: k copies of each image's q."""
    mu, logvar = (p.expand(k, *p.shape) for p in model.encode(x))
    z = model.reparameterize(mu, logvar)
    log_lik = Bernoulli(logits=model.decode(z)).log_prob(x).sum(-1)
    log_ratio = (Normal(0.0, 1.0).log_prob(z) - Normal(mu, (0.5 * logvar).exp()).log_prob(z)).sum(-1)
    return (log_lik + log_ratio).logsumexp(0) - math.log(k)


def own_maximum(model, x, k):
    log_weights = weights(model, x, k)
    top = log_weights.amax(0)
    return (log_weights - top).exp().mean(0).log() + top


def rows_repeated(model, x, k):
    return weights(model, x.repeat_interleave(k, 0), 1)[0].view(len(x), k).logsumexp(1) - math.log(k)


@pytest.mark.parametrize(
    "answer",
    [
        lambda m, x, k: weights(m, x, k).logsumexp(0) - math.log(k),
        one_by_one,
        by_the_model,
        own_maximum,
        rows_repeated,
        with_eps(lambda k, mu: torch.randn(k, *mu.shape)),  # in float32
    ],
)
def test_right_estimate(answer):
    check.importance_weighted(answer)


def test_a_module_is_needed():
    assert issubclass(NOTEBOOK.VAE, nn.Module)
