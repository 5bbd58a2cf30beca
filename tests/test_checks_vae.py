"""The instant checks of notebook 04: every wrong answer fails with its cause, every right one passes."""

import math

import pytest
import torch
from course import definitions
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional as F

from checks import vae as check
from checks.common import CheckFailed

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


def decode_the_mean(self, x):
    mu, logvar = self.encode(x)
    return self.decode(mu), mu, logvar


WRONG_CLASSES = {
    "that is the variance|which is the variance": variant(
        reparameterize=sample(lambda mu, logvar: logvar.exp() * torch.randn_like(mu))
    ),
    "logvar itself": variant(reparameterize=sample(lambda mu, logvar: logvar * torch.randn_like(mu))),
    "whole batch": variant(reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp() * torch.randn_like(mu[:1]))),
    "all dimensions": variant(
        reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp() * torch.randn_like(mu[:, :1]))
    ),
    "eps has mean 0": variant(reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp() * torch.rand_like(mu))),
    "returns mu itself": variant(reparameterize=lambda self, mu, logvar: mu),
    "eval mode": variant(reparameterize=only_in_training),
    "no gradient reaches mu": variant(
        reparameterize=lambda self, mu, logvar: Normal(mu, (0.5 * logvar).exp()).sample()
    ),
    "no gradient reaches logvar": variant(
        reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp().detach() * torch.randn_like(mu))
    ),
    "without a sigmoid": variant(decode=lambda self, z: self.decoder(z).sigmoid()),
    "two tensors": variant(encode=lambda self, x: self.encoder(x)),
    "chunk along dim": variant(encode=lambda self, x: self.encoder(x).chunk(2, dim=0)),
    "first and the second half": variant(encode=lambda self, x: self.encoder(x).chunk(2, dim=1)[::-1]),
    "not mu": variant(forward=decode_the_mean),
    "logits, mu, logvar": variant(forward=lambda self, x: self.decode(self.encode(x)[0])),
}


@pytest.mark.parametrize("cause", WRONG_CLASSES)
def test_wrong_class(cause):
    with pytest.raises(CheckFailed, match=cause):
        check.vae_class(WRONG_CLASSES[cause])


@pytest.mark.parametrize(
    "reparameterize",
    [
        lambda self, mu, logvar: Normal(mu, torch.exp(logvar / 2)).rsample(),
        lambda self, mu, logvar: mu + logvar.exp().sqrt() * torch.randn(mu.shape, dtype=mu.dtype),
    ],
)
def test_right_class(reparameterize):
    check.vae_class(variant(reparameterize=reparameterize))


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


WRONG_LOSSES = {
    "1/2 is missing": loss(kl=lambda mu, logvar: (mu**2 + logvar.exp() - logvar - 1).sum(1).mean()),
    "average the KL": loss(kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - logvar - 1).mean()),
    "sum the KL over the batch": loss(kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - logvar - 1).sum()),
    "sign is flipped": loss(kl=lambda mu, logvar: -0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(1).mean()),
    "- 1": loss(kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - logvar).sum(1).mean()),
    "reverse": loss(kl=reverse),
    "sigma where": loss(kl=lambda mu, logvar: 0.5 * (mu**2 + (logvar / 2).exp() - logvar / 2 - 1).sum(1).mean()),
    "average over the pixels": loss(recon=F.binary_cross_entropy_with_logits),
    "sum over the batch": loss(recon=lambda a, x: F.binary_cross_entropy_with_logits(a, x, reduction="sum")),
    "applied twice": loss(recon=twice),
    "squared error": loss(recon=lambda logits, x: (logits.sigmoid() - x).square().sum() / len(x)),
    "negative": loss(recon=lambda logits, x: Bernoulli(logits=logits).log_prob(x).sum() / len(x)),
    "not finite": loss(recon=overflowing),
    "no further weight": loss(total=lambda recon, kl: recon - kl),
    "no gradient reaches logvar": loss(
        kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.detach().exp() - logvar.detach() - 1).sum(1).mean()
    ),
    "a dictionary": lambda logits, x, mu, logvar: loss()(logits, x, mu, logvar)["loss"],
    "one number": loss(kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(1)),
}


@pytest.mark.parametrize("cause", WRONG_LOSSES)
def test_wrong_loss(cause):
    with pytest.raises(CheckFailed, match=cause):
        check.vae_loss(WRONG_LOSSES[cause])


def by_distributions(mu, logvar):
    return kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(torch.zeros_like(mu), 1)).sum(1).mean()


@pytest.mark.parametrize(
    "answer",
    [
        loss(
            kl=by_distributions, recon=lambda a, x: -Bernoulli(logits=a, validate_args=False).log_prob(x).sum(1).mean()
        ),
        loss(recon=lambda logits, x: (F.softplus(logits) - x * logits).sum(1).mean()),
    ],
)
def test_right_loss(answer):
    check.vae_loss(answer)


def grid(z1, z2):
    return torch.stack([a.flatten() for a in torch.meshgrid(z1, z2, indexing="xy")], dim=1)


def normal_quantiles(n):
    return Normal(0.0, 1.0).icdf((torch.arange(n) + 0.5) / n)


WRONG_GRIDS = {
    "infinite": lambda n: grid(Normal(0.0, 1.0).icdf(torch.linspace(0, 1, n)), normal_quantiles(n)),
    "equally spaced in z": lambda n: grid(torch.linspace(-0.96742, 0.96742, n), torch.linspace(0.96742, -0.96742, n)),
    "upside down": lambda n: grid(normal_quantiles(n), normal_quantiles(n)),
    "exchanged": lambda n: grid(normal_quantiles(n), normal_quantiles(n).flip(0)).flip(1),
    "shape": lambda n: grid(normal_quantiles(n), normal_quantiles(n)).view(n, n, 2),
    "grows": lambda n: grid(normal_quantiles(n).flip(0), normal_quantiles(n).flip(0)),
}


@pytest.mark.parametrize("cause", WRONG_GRIDS)
def test_wrong_grid(cause):
    with pytest.raises(CheckFailed, match=cause):
        check.manifold_codes(WRONG_GRIDS[cause])


def test_right_grid():
    check.manifold_codes(lambda n: grid(normal_quantiles(n), normal_quantiles(n).flip(0)))


def recon(half=0.5, constant=lambda d, v: d * math.log(2 * math.pi * v), divide=lambda v: v, sign=1.0):
    """An answer to `gaussian_recon` with one part replaced."""

    def answer(x_hat, x, variance):
        error = (x - x_hat).square().sum(1).mean()
        return sign * (half * error / divide(variance) + 0.5 * constant(x.shape[1], variance))

    return answer


WRONG_RECONS = {
    "factor 1/2": recon(half=1.0),
    "log\\(2 pi sigma\\^2\\) is missing": recon(constant=lambda d, v: 0.0),
    "each of the D pixels": recon(constant=lambda d, v: math.log(2 * math.pi * v)),
    "log 2 pi is missing": recon(constant=lambda d, v: d * math.log(v)),
    "divide by sigma;": recon(divide=math.sqrt),
    "you square `variance`": recon(divide=lambda v: v**2),
    "sign is flipped": recon(sign=-1.0),
    "average over the pixels": lambda x_hat, x, v: recon()(x_hat, x, v) / x.shape[1],
    "sum over the batch": lambda x_hat, x, v: recon()(x_hat, x, v) * len(x),
    "one number": lambda x_hat, x, v: (x - x_hat).square().sum(1),
}


@pytest.mark.parametrize("cause", WRONG_RECONS)
def test_wrong_gaussian_recon(cause):
    with pytest.raises(CheckFailed, match=cause):
        check.gaussian_recon(WRONG_RECONS[cause])


@pytest.mark.parametrize(
    "answer", [recon(), lambda x_hat, x, v: -Normal(x_hat, math.sqrt(v)).log_prob(x).sum(1).mean()]
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


WRONG_ESTIMATES = {
    "mean of logarithms": lambda m, x, k: weights(m, x, k).mean(0),
    "log k is missing": lambda m, x, k: weights(m, x, k).logsumexp(0),
    "lack p\\(z\\) / q": lambda m, x, k: weights(m, x, k, prior=0, proposal=0).logsumexp(0) - math.log(k),
    "underflow": lambda m, x, k: weights(m, x, k).exp().mean(0).log(),
    "one number per image": lambda m, x, k: (weights(m, x, k).logsumexp(0) - math.log(k)).mean()[None],
    "exact is": lambda m, x, k: weights(m, x, k, prior=2.0).logsumexp(0) - math.log(k),
    "sign": lambda m, x, k: math.log(k) - weights(m, x, k).logsumexp(0),
}


@pytest.mark.parametrize("cause", WRONG_ESTIMATES)
def test_wrong_estimate(cause):
    with pytest.raises(CheckFailed, match=cause):
        check.importance_weighted(WRONG_ESTIMATES[cause])


def one_by_one(model, x, k):
    return torch.stack([weights(model, image[None], k).logsumexp(0)[0] - math.log(k) for image in x])


@pytest.mark.parametrize("answer", [lambda m, x, k: weights(m, x, k).logsumexp(0) - math.log(k), one_by_one])
def test_right_estimate(answer):
    check.importance_weighted(answer)


def test_a_module_is_needed():
    assert issubclass(NOTEBOOK.VAE, nn.Module)
