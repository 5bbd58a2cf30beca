"""The instant checks of notebook 08: every wrong answer fails with its cause, every right one passes."""

import math

import pytest
import torch
from torch.distributions import Normal
from torch.nn import functional as F
from torch.special import log_ndtr, ndtr

from checks import your_own_pictures as check
from checks.common import CheckFailed
from tools.cells import definitions

HALF = 1 / 510


def test_notebook_answers_pass():
    notebook = definitions("08_your_own_pictures")
    check.log_level(notebook.log_level)
    check.swap_label(notebook.swap_label)


def test_the_bound_with_many_samples_reaches_log_p_from_a_grid():
    notebook = definitions("08_your_own_pictures", leaky=torch.nn.LeakyReLU(0.1))
    torch.manual_seed(0)
    tiny = notebook.ConvVAE(classes=3, size=8, channels=1, latent_dim=2).double()
    one, two = (torch.rand(1, 1, 8, 8, dtype=torch.float64) * 255).round() / 255, torch.tensor([2])
    axis = torch.linspace(-6, 6, 121, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        tiny.log_scale += 0.5
        tiny.tell[-1].bias.copy_(torch.tensor([1.0, -0.5, -0.8, -1.6]))  # q is not the prior
        tiny.draw[0].weight *= 6
        means = tiny.decode(grid, two.expand(len(grid)))
        prior = Normal(0.0, 1.0).log_prob(grid).sum(1) + 2 * math.log(0.1)
        exact = (notebook.log_level(one, means, tiny.log_scale).sum((1, 2, 3)) + prior).logsumexp(0)
        elbo = -notebook.negative_elbo(tiny, one.expand(5000, -1, -1, -1), two.expand(5000))["loss"]
    assert exact - elbo > 3  # far from what the bound must reach
    torch.testing.assert_close(notebook.log_px(tiny, one, two, k=1000)[0], exact, atol=0.3, rtol=0)


def parts(x, mean, log_scale, half=HALF):
    """The logarithms of the areas below the upper and above the lower cut, and between the two."""
    scale = log_scale.exp()
    upper, lower = log_ndtr((x + half - mean) / scale), log_ndtr((mean - x + half) / scale)
    far = -(x - mean).abs()
    near, beyond = log_ndtr((far + half) / scale), log_ndtr((far - half) / scale)
    return upper, lower, near + torch.log(-torch.expm1((beyond - near).clamp(max=-1e-7)))


def by_cases(x, mean, log_scale):
    upper, lower, inside = parts(x, mean, log_scale)
    return torch.where(x == 0, upper, torch.where(x == 1, lower, inside))


def by_masks(x, mean, log_scale):
    upper, lower, inside = parts(x, mean, log_scale)
    black, white = (x < HALF).to(x), (x > 1 - HALF).to(x)
    return black * upper + white * lower + (1 - white - black) * inside


def mirrored_in_levels(x, mean, log_scale):
    """In units of levels; where x is above the mean both are mirrored, so that there is one open end."""
    above = x > mean
    level, centre = (
        torch.where(above, 255 - (255 * x).round(), (255 * x).round()),
        255 * torch.where(above, 1 - mean, mean),
    )
    scale = 255 * log_scale.exp()
    upper, lower = log_ndtr((level + 0.5 - centre) / scale), log_ndtr((level - 0.5 - centre) / scale)
    inner = upper + torch.log1p(-torch.exp(lower - upper))
    wide_end = log_ndtr((centre - 254.5) / scale)
    return torch.where(level == 0, upper, torch.where(level == 255, wide_end, inner))


def by_named_shape(x, mean, log_scale):
    batch, channels, height, width = x.shape
    each = by_cases(x.view(batch, channels, -1), mean.view(batch, channels, -1), log_scale.view(1, -1, 1))
    return each.view(batch, channels, height, width)


@pytest.mark.parametrize("answer", [by_cases, by_masks, mirrored_in_levels, by_named_shape])
def test_right_levels(answer):
    check.log_level(answer)


def naive(x, mean, log_scale):
    scale = log_scale.exp()
    above = torch.where(x > 1 - HALF, 1.0, ndtr((x + HALF - mean) / scale))
    below = torch.where(x < HALF, 0.0, ndtr((x - HALF - mean) / scale))
    return (above - below).log()


def density(x, mean, log_scale):
    return Normal(mean, log_scale.exp()).log_prob(x)


def logistic(x, mean, log_scale):
    scale = log_scale.exp()
    upper, lower = F.logsigmoid((x + HALF - mean) / scale), F.logsigmoid((mean - x + HALF) / scale)
    inside = upper + lower + torch.log(-torch.expm1(-2 * HALF / scale))
    return torch.where(x == 0, upper, torch.where(x == 1, lower, inside))


def infinite_where(x, mean, log_scale):
    """The right values, but a branch that is not chosen is infinite, and its gradient is nan."""
    upper, lower, inside = parts(x, mean, log_scale)
    scale = log_scale.exp()
    direct = (ndtr((x + HALF - mean) / scale) - ndtr((x - HALF - mean) / scale)).log()
    return torch.where(x == 0, upper, torch.where(x == 1, lower, torch.where(direct > -5, direct, inside)))


def no_gradient_beyond_the_ends(x, mean, log_scale):
    """The right values, but for a mean far below 0 or above 1 the branch that is not chosen has the logarithm of 0."""
    black, white = x < HALF, x > 1 - HALF
    distance = torch.where(black, mean - x, torch.where(white, x - mean, (x - mean).abs()))
    scale = log_scale.exp()
    upper, lower = log_ndtr((HALF - distance) / scale), log_ndtr((-HALF - distance) / scale)
    return torch.where(black | white, upper, upper + torch.log(-torch.expm1(lower - upper)))


WRONG_LEVELS = {
    "sign": lambda *given: -by_cases(*given),
    "shape": lambda *given: by_cases(*given).sum(),
    "shape/pixels": lambda *given: by_cases(*given).flatten(1).sum(1),
    "density": density,
    "wide": lambda x, mean, log_scale: parts(x, mean, log_scale, half=2 * HALF)[2],
    "ends": lambda *given: parts(*given)[2],
    "ends/upper": lambda x, *rest: torch.where(x == 1, parts(x, *rest)[1], parts(x, *rest)[2]),
    "middle/logistic": logistic,
    "middle": lambda x, mean, log_scale: by_cases(x, mean, log_scale / 2),
    "middle/clamped": lambda x, mean, log_scale: by_cases(x, mean, log_scale.clamp(max=0.0)),
    "middle/channels": lambda x, mean, log_scale: by_cases(x, mean, log_scale - 0.1),
    "value": lambda x, mean, log_scale: by_cases(x, mean, log_scale.mean(0, keepdim=True)),
    "far": naive,
    "far/clamped": lambda x, mean, log_scale: by_cases(x, mean, log_scale).clamp(min=math.log(1e-12)),
    "far-gradient": infinite_where,
    "far-gradient/ends": no_gradient_beyond_the_ends,
    "wrong-gradient": lambda x, mean, log_scale: by_cases(x, mean, (log_scale + log_scale.detach()) / 2),
    "no-gradient": lambda x, mean, log_scale: by_cases(x, mean.detach(), log_scale),
    "dtype": lambda *given: by_cases(*given).double(),
}


@pytest.mark.parametrize("code", WRONG_LEVELS)
def test_wrong_levels(code):
    with pytest.raises(CheckFailed) as caught:
        check.log_level(WRONG_LEVELS[code])
    assert caught.value.code == code.partition("/")[0]


@pytest.mark.parametrize(
    "answer",
    [
        lambda model, x, labels, new: model.decode(model.encode(x, labels)[0], new),
        lambda model, x, labels, new: model.eval().decode(model.encode(x, labels)[0].view(len(x), -1), new).view_as(x),
        lambda model, x, labels, new: model.decode(
            model.encode(x.to(next(model.parameters()).device), labels)[0], new
        ).detach(),
        lambda model, x, labels, new: model.decode(
            model.encode(x.to(model.log_scale), labels)[0], new.clamp(max=model.classes - 1)
        ),
        lambda model, x, labels, new: model.decode(labels=new, z=model.encode(labels=labels, x=x)[0]),
    ],
)
def test_right_swap(answer):
    check.swap_label(answer)


def sampled(model, x, labels, new):
    mu, logvar = model.encode(x, labels)
    return model.decode(mu + (0.5 * logvar).exp() * torch.randn_like(mu), new)


WRONG_SWAPS = {
    "decoded": lambda model, x, labels, new: model.decode(model.encode(x, labels)[0], labels),
    "decoded/first": lambda model, x, labels, new: model.decode(model.encode(x, labels)[0], new[:1].expand(len(x))),
    "encoded": lambda model, x, labels, new: model.decode(model.encode(x, new)[0], new),
    "decoded/exchanged": lambda model, x, labels, new: model.decode(model.encode(x, new)[0], labels),
    "noise": sampled,
    "given": lambda model, x, labels, new: x.clone(),
    "changed": lambda model, x, labels, new: model.decode(model.encode(x, labels)[0], new).sigmoid(),
    "tuple": lambda model, x, labels, new: model.decode(model.encode(x, labels), new),
    "style": lambda model, x, labels, new: model.decode(model.encode(x, labels)[1], new),
    "style/first": lambda model, x, labels, new: model.decode(
        model.encode(x, labels)[0].mean(0).expand(len(x), 2), new
    ),
    "shape": lambda model, x, labels, new: model.decode(model.encode(x, labels)[0], new)[0],
}


@pytest.mark.parametrize("code", WRONG_SWAPS)
def test_wrong_swap(code):
    with pytest.raises(CheckFailed) as caught:
        check.swap_label(WRONG_SWAPS[code])
    assert caught.value.code == code.partition("/")[0]
