"""The instant checks of notebook 04: every wrong answer fails with its cause, every right one passes."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence
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


def decode_the_mean(self, x):
    mu, logvar = self.encode(x)
    return self.decode(mu), mu, logvar


WRONG_CLASSES = {
    "sigma-is-exp": variant(reparameterize=sample(lambda mu, logvar: logvar.exp() * torch.randn_like(mu))),
    "sigma-is-logvar": variant(reparameterize=sample(lambda mu, logvar: logvar * torch.randn_like(mu))),
    "one-eps-for-batch": variant(
        reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp() * torch.randn_like(mu[:1]))
    ),
    "dependent": variant(reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp() * torch.randn_like(mu[:, :1]))),
    "mean": variant(reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp() * torch.rand_like(mu))),
    "no-noise": variant(reparameterize=lambda self, mu, logvar: mu),
    "dependent/2": variant(reparameterize=mirrored),
    "logvar-gradient/2": variant(
        reparameterize=sample(lambda mu, logvar: (0.25 * (logvar + logvar.detach())).exp() * torch.randn_like(mu))
    ),
    "eval": variant(reparameterize=only_in_training),
    "mu-gradient": variant(reparameterize=lambda self, mu, logvar: Normal(mu, (0.5 * logvar).exp()).sample()),
    "logvar-gradient": variant(
        reparameterize=sample(lambda mu, logvar: (0.5 * logvar).exp().detach() * torch.randn_like(mu))
    ),
    "sigmoid": variant(decode=lambda self, z: self.decoder(z).sigmoid()),
    "pair": variant(encode=lambda self, x: self.encoder(x)),
    "chunk": variant(encode=lambda self, x: self.encoder(x).chunk(2, dim=0)),
    "halves": variant(encode=lambda self, x: self.encoder(x).chunk(2, dim=1)[::-1]),
    "mean-decoded": variant(forward=decode_the_mean),
    "triple": variant(forward=lambda self, x: self.decode(self.encode(x)[0])),
}


@pytest.mark.parametrize("code", WRONG_CLASSES)
def test_wrong_class(code):
    with pytest.raises(CheckFailed) as caught:
        check.vae_class(WRONG_CLASSES[code])
    assert caught.value.code == code.partition("/")[0]


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
    "not-finite": loss(recon=overflowing),
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
    "linear": lambda n: grid(torch.linspace(-0.96742, 0.96742, n), torch.linspace(0.96742, -0.96742, n)),
    "upside-down": lambda n: grid(normal_quantiles(n), normal_quantiles(n)),
    "exchanged": lambda n: grid(normal_quantiles(n), normal_quantiles(n).flip(0)).flip(1),
    "shape": lambda n: grid(normal_quantiles(n), normal_quantiles(n)).view(n, n, 2),
    "across": lambda n: grid(normal_quantiles(n).flip(0), normal_quantiles(n).flip(0)),
}


@pytest.mark.parametrize("code", WRONG_GRIDS)
def test_wrong_grid(code):
    with pytest.raises(CheckFailed) as caught:
        check.manifold_codes(WRONG_GRIDS[code])
    assert caught.value.code == code.partition("/")[0]


def test_right_grid():
    check.manifold_codes(lambda n: grid(normal_quantiles(n), normal_quantiles(n).flip(0)))


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
    "variance-squared/2": lambda x_hat, x, v: recon()(x_hat, x, v) / x.shape[1],
    "batch-sum": lambda x_hat, x, v: recon()(x_hat, x, v) * len(x),
    "shape": lambda x_hat, x, v: (x - x_hat).square().sum(1),
}


@pytest.mark.parametrize("code", WRONG_RECONS)
def test_wrong_gaussian_recon(code):
    with pytest.raises(CheckFailed) as caught:
        check.gaussian_recon(WRONG_RECONS[code])
    assert caught.value.code == code.partition("/")[0]


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


def averaged(model, x, k):
    """A mean over the latent dimensions where their sum belongs."""
    mu, logvar = model.encode(x)
    q = Normal(mu, (0.5 * logvar).exp())
    z = q.sample((k,))
    log_lik = Bernoulli(logits=model.decode(z)).log_prob(x).sum(-1)
    log_prior = Normal(torch.zeros_like(mu), 1.0).log_prob(z).mean(-1)
    return (log_lik + log_prior - q.log_prob(z).mean(-1)).logsumexp(0) - math.log(k)


WRONG_ESTIMATES = {
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


@pytest.mark.parametrize("answer", [lambda m, x, k: weights(m, x, k).logsumexp(0) - math.log(k), one_by_one])
def test_right_estimate(answer):
    check.importance_weighted(answer)


def test_a_module_is_needed():
    assert issubclass(NOTEBOOK.VAE, nn.Module)
