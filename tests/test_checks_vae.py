"""The instant checks of notebook 04: every wrong answer fails with its cause, every right one passes."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence
from torch.nn import functional as F

from checks import vae as check
from checks.common import CheckFailed
from tools.cells import definitions

NOTEBOOK = definitions("04_vae")


def test_notebook_answers_pass():
    check.vae_loss(NOTEBOOK.vae_loss)
    check.train_step(NOTEBOOK.train_step)
    check.scaled_widths(NOTEBOOK.scaled_widths)
    check.importance_weighted(NOTEBOOK.importance_weighted)


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
    "value/4": loss(kl=lambda mu, logvar: gaussian_kl(mu.clamp(-8, 8), logvar).sum(1).mean()),
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


def clamped(**bounds):
    """An answer that draws from a q whose logvar stays within bounds."""

    def answer(model, x, k):
        return weights(model, x, k, sigma=lambda logvar: (0.5 * logvar.clamp(**bounds)).exp()).logsumexp(0) - math.log(
            k
        )

    return answer


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
    "elbo/3": clamped(min=-5.0),
    "elbo/4": clamped(max=5.0),
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
        pytest.param(one_by_one, marks=pytest.mark.slow),  # 16,000 calls
        own_maximum,
        rows_repeated,
        with_eps(lambda k, mu: torch.randn(k, *mu.shape)),  # in float32
    ],
)
def test_right_estimate(answer):
    check.importance_weighted(answer)


RIGHT_LOSS = loss()


def step(
    drawn=torch.bernoulli,
    target=None,
    part="loss",
    sign=1.0,
    zero=True,
    steps=1,
    keep=False,
    backward=True,
    loss=RIGHT_LOSS,
):
    """An answer to `train_step` with one part replaced."""

    def answer(model, optimizer, x):
        binary = drawn(x)
        logits, mu, logvar = model(binary)
        terms = loss(logits, x if target == "grey" else binary, mu, logvar)
        if zero:
            optimizer.zero_grad()
        if backward:
            (sign * terms[part]).backward()
        for _ in range(steps):
            optimizer.step()
        return terms if keep else {name: value.detach() for name, value in terms.items()}

    return answer


def sum_over_batch(model, optimizer, x):
    x = torch.bernoulli(x)
    terms = loss()(*(lambda logits, mu, logvar: (logits, x, mu, logvar))(*model(x)))
    optimizer.zero_grad()
    (len(x) * terms["loss"]).backward()
    optimizer.step()
    return {name: value.detach() for name, value in terms.items()}


def always_the_same(x):
    return (torch.rand(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype) < x).to(x.dtype)


def decoding(code):
    """An answer that decodes `code(mu, logvar)`."""

    def answer(model, optimizer, x):
        x = torch.bernoulli(x)
        mu, logvar = model.encode(x)
        terms = RIGHT_LOSS(model.decode(code(mu, logvar)), x, mu, logvar)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        return {name: value.detach() for name, value in terms.items()}

    return answer


WRONG_STEPS = {
    "no-sample": decoding(lambda mu, logvar: mu),
    "no-sample/variance": decoding(lambda mu, logvar: mu + logvar.exp() * torch.randn_like(mu)),
    "no-sample/detached": decoding(lambda mu, logvar: Normal(mu, (0.5 * logvar).exp()).sample()),
    "no-sample/prior": decoding(lambda mu, logvar: torch.randn_like(mu)),
    "no-sample/exchanged": decoding(lambda mu, logvar: logvar + (0.5 * mu).exp() * torch.randn_like(mu)),
    "grey": step(drawn=lambda x: x),
    "grey-target": step(target="grey"),
    "kl-missing": step(part="recon"),
    "recon-missing": step(part="kl"),
    "uphill": step(sign=-1.0),
    "no-zero-grad": step(zero=False),
    "no-step": step(steps=0),
    "two-steps": step(steps=2),
    "no-backward": step(zero=False, backward=False),
    "not-detached": step(keep=True),
    "batch-sum": sum_over_batch,
    "not-fresh": step(drawn=lambda x: (x > 0.5).to(x.dtype)),
    "not-fresh/2": step(drawn=always_the_same),
    "not-the-image": step(drawn=lambda x: torch.bernoulli(torch.full_like(x, 0.5))),
    "not-the-image/2": step(drawn=lambda x: (torch.rand(x.shape[1]) < x).to(x.dtype)),  # one noise for the batch
    "in-place": step(drawn=lambda x: x.copy_(torch.bernoulli(x))),
    "dictionary": lambda model, optimizer, x: step()(model, optimizer, x)["loss"],
    "not-run": lambda model, optimizer, x: {},
    "value": step(loss=loss(kl=lambda *given: gaussian_kl(*map(torch.squeeze, given)).mean(0).sum())),  # one image
}


@pytest.mark.parametrize("code", WRONG_STEPS)
def test_wrong_step(code):
    with pytest.raises(CheckFailed) as caught:
        check.train_step(WRONG_STEPS[code])
    assert caught.value.code == code.partition("/")[0]


def other_order(model, optimizer, x):
    optimizer.zero_grad(set_to_none=False)
    x = (torch.rand_like(x) < x).to(x.dtype)
    logits, mu, logvar = model(x)
    terms = loss(kl=by_distributions)(logits, x, mu, logvar)
    terms["loss"].backward()
    optimizer.step()
    return {name: terms[name].detach() for name in ("kl", "loss", "recon")}


@pytest.mark.parametrize(
    "answer", [step(), other_order, decoding(lambda mu, logvar: Normal(mu, (0.5 * logvar).exp()).rsample())]
)
def test_right_step(answer):
    check.train_step(answer)


def widened(logvar, scale):
    return logvar + 2 * math.log(scale)


def scaled(sample=widened, charged=None, noise=torch.randn_like, centre=lambda mu: mu, last=lambda z: z):
    """An answer to `scaled_widths` with one part replaced: the logvar of the sample, or that of the KL."""

    def answer(model, x, scale):
        mu, logvar = model.encode(x)
        wide = sample(logvar, scale)
        logits = model.decode(last(centre(mu) + (0.5 * wide).exp() * noise(mu)))
        return loss()(logits.view_as(x), x, mu, (charged or sample)(logvar, scale))

    return answer


def unscaled(logvar, scale):
    return logvar


def within_five(logvar, scale):
    return widened(logvar.clamp(-5, 5), scale)


def mirrored(mu):
    """Noise whose second half is that of the first, with the other sign."""
    half = torch.randn_like(mu[: (len(mu) + 1) // 2])
    return torch.cat([half, -half])[: len(mu)]


WRONG_WIDTHS = {
    "one-eps-for-dimensions": scaled(noise=lambda mu: torch.randn_like(mu[:, :1])),
    "dependent": scaled(noise=mirrored),
    "range": scaled(sample=within_five),
    "range/2": scaled(sample=within_five, charged=widened),
    "kl/2": scaled(charged=within_five, sample=widened),
    "mean/2": scaled(centre=lambda mu: mu.mean(0)),
    "width/2": scaled(sample=lambda logvar, scale: widened(logvar.mean(0).expand_as(logvar), scale), charged=widened),
    "not-normal": scaled(noise=lambda mu: 12**0.5 * (torch.rand_like(mu) - 0.5)),
    "no-sample/2": scaled(noise=lambda mu: torch.randn_like(mu[:1])),
    "shape": scaled(last=torch.squeeze),  # one image
    "kl/in-place": scaled(sample=lambda logvar, scale: logvar.add_(2 * math.log(scale))),
    "sample-not-scaled": scaled(sample=unscaled, charged=widened),
    "kl-not-scaled": scaled(charged=unscaled),
    "variance-scaled": scaled(sample=lambda logvar, scale: logvar + math.log(scale)),
    "scaled-twice": scaled(sample=lambda logvar, scale: logvar + 4 * math.log(scale)),
    "logvar-scaled": scaled(sample=lambda logvar, scale: scale * logvar),
    "kl": scaled(charged=lambda logvar, scale: logvar + math.log(scale)),
    "no-sample": scaled(noise=torch.zeros_like),
    "mean": scaled(noise=lambda mu: 1 + torch.randn_like(mu)),
    "width": scaled(sample=lambda logvar, scale: logvar + 2 * (scale - 1)),
    "not-decoded": lambda model, x, scale: {},
    "dictionary": lambda model, x, scale: scaled()(model, x, scale)["loss"],
}


@pytest.mark.parametrize("code", WRONG_WIDTHS)
def test_wrong_widths(code):
    with pytest.raises(CheckFailed) as caught:
        check.scaled_widths(WRONG_WIDTHS[code])
    assert caught.value.code == code.partition("/")[0]


def by_sigma(model, x, scale):
    mu, logvar = model.encode(x)
    sigma = scale * logvar.exp().sqrt()
    return loss()(model.decode(Normal(mu, sigma).rsample()), x, mu, 2 * sigma.log())


def by_forward(model, x, scale):
    _, mu, logvar = model.eval()(x)
    logvar = logvar + torch.log(torch.tensor(scale**2))  # of float32
    return loss()(model.decode(Normal(mu, (0.5 * logvar).exp()).rsample()), x, mu, logvar)


def wider_in_place(model, x, scale):
    mu, logvar = model.encode(x)
    logvar += 2 * math.log(scale)
    return loss()(model.decode(Normal(mu, (0.5 * logvar).exp()).rsample()), x, mu, logvar)


@pytest.mark.parametrize("answer", [scaled(), by_sigma, by_forward, wider_in_place])
def test_right_widths(answer):
    check.scaled_widths(answer)
