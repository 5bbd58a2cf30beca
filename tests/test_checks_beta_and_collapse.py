"""The instant checks of notebook 06: every wrong answer fails with its cause, every right one passes."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from checks import beta_and_collapse as check
from checks.common import CheckFailed
from tools.cells import definitions

NOTEBOOK = definitions("06_beta_and_collapse")


def test_notebook_answers_pass():
    check.gaussian_recon(NOTEBOOK.gaussian_recon)
    check.log_aggregate(NOTEBOOK.log_aggregate)


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
    "constant-once/784": recon(constant=lambda d, v: 784 * math.log(2 * math.pi * v)),
    "constant-batch": lambda x_hat, x, v: (
        recon(constant=lambda d, v: 0)(x_hat, x, v) + x.numel() / 2 * math.log(2 * math.pi * v)
    ),
    "no-2-pi": recon(constant=lambda d, v: d * math.log(v)),
    "sigma": recon(divide=math.sqrt),
    "variance-squared": recon(divide=lambda v: v**2),
    "sign": recon(sign=-1.0),
    "pixel-mean": lambda x_hat, x, v: recon()(x_hat, x, v) / x.shape[1],
    "not-squared": lambda x_hat, x, v: recon()(x - (x - x_hat).abs().sqrt(), x, v),
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
        recon(constant=lambda d, v: d * torch.log(torch.tensor(2 * math.pi * v))),  # of float32
        lambda x_hat, x, v: -Normal(x_hat, math.sqrt(v)).log_prob(x).sum(1).mean(),
        lambda x_hat, x, v: -Normal(x_hat, torch.tensor(v).sqrt()).log_prob(x).sum(1).mean(),
    ],
)
def test_right_gaussian_recon(answer):
    check.gaussian_recon(answer)


def each(z, mu, logvar, sigma=lambda logvar: (0.5 * logvar).exp()):
    """log q(z | x_i) of every dimension, shape (n, N, d)."""
    return Normal(mu, sigma(logvar)).log_prob(z[:, None])


def by_hand(z, mu, logvar, square=0.5, spread=0.5):
    """log q(z | x_i), shape (n, N)."""
    squares = ((z[:, None] - mu) ** 2 / logvar.exp()).sum(-1)
    return -square * squares - spread * logvar.sum(1) - mu.shape[1] / 2 * math.log(2 * math.pi)


def mixture(z, mu, logvar):
    """By torch.distributions, with weights of float32."""
    weights = Categorical(torch.ones(len(mu)))
    return MixtureSameFamily(weights, Independent(Normal(mu, (0.5 * logvar).exp()), 1)).log_prob(z)


def mixed(log_q):
    return log_q.logsumexp(1) - math.log(log_q.shape[1])


def by_matrix_products(z, mu, logvar):
    precision = (-logvar).exp()
    distance = z.square() @ precision.T - 2 * z @ (mu * precision).T + (mu.square() * precision).sum(1)
    return mixed(-0.5 * (distance + logvar.sum(1) + mu.shape[1] * math.log(2 * math.pi)))


def one_by_one(z, mu, logvar):
    return torch.cat([mixed(each(code[None], mu, logvar).sum(-1)) for code in z])


def one_maximum(z, mu, logvar):
    """The largest of all logarithms is taken out, not that of each code."""
    log_q = each(z, mu, logvar).sum(-1)
    return (log_q - log_q.max()).exp().mean(1).log() + log_q.max()


WRONG_AGGREGATES = {
    "no-log-n": lambda z, mu, logvar: each(z, mu, logvar).sum(-1).logsumexp(1),
    "mean-of-logs": lambda z, mu, logvar: each(z, mu, logvar).sum(-1).mean(1),
    "sigma-is-exp": lambda z, mu, logvar: mixed(each(z, mu, logvar, torch.exp).sum(-1)),
    "value": lambda z, mu, logvar: mixed(each(z, mu, logvar, torch.ones_like).sum(-1)),
    "eps": lambda z, mu, logvar: (one_by_one(z, mu, logvar).exp() + 1e-10).log(),
    "log-n-sign": lambda z, mu, logvar: one_by_one(z, mu, logvar) + 2 * math.log(len(mu)),
    "log-n": lambda z, mu, logvar: each(z, mu, logvar).sum(-1).logsumexp(1) - math.log(len(z)),
    "no-2-pi": lambda z, mu, logvar: one_by_one(z, mu, logvar) + z.shape[1] / 2 * math.log(2 * math.pi),
    "2-pi-once": lambda z, mu, logvar: one_by_one(z, mu, logvar) + (z.shape[1] - 1) / 2 * math.log(2 * math.pi),
    "half": lambda z, mu, logvar: mixed(by_hand(z, mu, logvar, square=1.0)),
    "no-sigma": lambda z, mu, logvar: mixed(by_hand(z, mu, logvar, spread=0.0)),
    "logvar": lambda z, mu, logvar: mixed(by_hand(z, mu, logvar, spread=1.0)),
    "marginals": lambda z, mu, logvar: mixed(each(z, mu, logvar)).sum(-1),
    "dimension-mean": lambda z, mu, logvar: mixed(each(z, mu, logvar).mean(-1)),
    "sign": lambda z, mu, logvar: -one_by_one(z, mu, logvar),
    "density": lambda z, mu, logvar: one_by_one(z, mu, logvar).exp(),
    "underflow": lambda z, mu, logvar: each(z, mu, logvar).sum(-1).exp().mean(1).log(),
    "underflow/2": one_maximum,
    "far": lambda z, mu, logvar: mixed(each(z, mu, logvar).sum(-1).clamp(min=-700)),
    "far/2": lambda z, mu, logvar: one_by_one(z, mu.clamp(-20, 20), logvar),
    "range": lambda z, mu, logvar: one_by_one(z, mu, logvar.clamp(-5, 5)),
    "shape": lambda z, mu, logvar: one_by_one(z, mu, logvar).mean(),
    "shape/2": lambda z, mu, logvar: each(z, mu, logvar).sum(-1).logsumexp(0) - math.log(len(mu)),
    "dtype": lambda z, mu, logvar: one_by_one(z.double(), mu.double(), logvar.double()),
    "in-place": lambda z, mu, logvar: one_by_one(z, mu, logvar.mul_(1.0).add_(1.0).sub_(1.0).clamp_(max=0.0)),
}


@pytest.mark.parametrize("code", WRONG_AGGREGATES)
def test_wrong_log_aggregate(code):
    with pytest.raises(CheckFailed) as caught:
        check.log_aggregate(WRONG_AGGREGATES[code])
    assert caught.value.code == code.partition("/")[0]


@pytest.mark.parametrize(
    "answer",
    [
        lambda z, mu, logvar: mixed(each(z, mu, logvar).sum(-1)),
        lambda z, mu, logvar: mixed(by_hand(z, mu, logvar)),
        lambda z, mu, logvar: mixture(z, mu, logvar).detach(),
        by_matrix_products,
        one_by_one,
    ],
)
def test_right_log_aggregate(answer):
    check.log_aggregate(answer)
