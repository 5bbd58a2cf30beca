"""utils.training: seeds, minibatches, evaluation, the training loop and the classifier."""

import os
import sys
from functools import partial
from types import ModuleType

import nbformat
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nbclient import NotebookClient
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from tqdm.std import tqdm

from utils import training
from utils.data import load_digits
from utils.training import (
    OTHER_NUMBERS,
    DigitClassifier,
    evaluate,
    fit,
    minibatches,
    pick_device,
    set_seed,
    train_classifier,
)

exact = partial(assert_close, rtol=0, atol=0)


class Small(nn.Module):
    """A linear autoencoder of four pixels with a code of two."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 2)
        self.decoder = nn.Linear(2, 4)

    def forward(self, x):
        """Reconstructions (n, 4) of images (n, 4)."""
        return self.decoder(self.encoder(x))


def squared_error(model, x):
    recon = (model(x) - x).square().sum(1).mean()
    return {"loss": recon + 1, "recon": recon}


def small_problem(seed=0):
    """A fresh network, 100 images to train on and 30 held out, which two numbers each explain."""
    set_seed(seed)
    x = torch.randn(130, 2) @ torch.randn(2, 4)
    return Small(), x[:100], x[100:]


# ---- seeds, device, minibatches


def test_set_seed_repeats_the_draws():
    set_seed(5)
    first = torch.rand(10)
    set_seed(5)
    exact(torch.rand(10), first)
    set_seed(6)
    assert not torch.equal(torch.rand(10), first)


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="a process alone takes all cores")
def test_beside_other_workers_pytorch_has_one_thread():
    assert torch.get_num_threads() == 1  # two workers with two threads each are four times slower


@pytest.mark.parametrize(("available", "expected"), [(True, "cuda"), (False, "cpu")])
def test_pick_device_takes_the_gpu_if_there_is_one(available, expected, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert pick_device() == torch.device(expected)
    first, *more = capsys.readouterr().out.splitlines()
    assert first == f"PyTorch {torch.__version__} on {'a GPU' if available else 'the CPU'}"
    assert more == [OTHER_NUMBERS] * available
    exact(torch.tensor(1e-38) / 10, torch.tensor(0.0))  # and a CPU takes for 0 what it is slow with


@pytest.mark.parametrize("available", [True, False])
def test_on_colab_it_says_how_to_get_a_gpu_if_there_is_none(available, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    pick_device()
    assert ("Change runtime type" in capsys.readouterr().out) != available


@given(n=st.integers(0, 60), batch_size=st.integers(1, 70), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_minibatches_hold_every_row_once(n, batch_size, seed):
    x = torch.arange(n)
    batches = list(minibatches(x, batch_size, torch.Generator().manual_seed(seed)))
    sizes = [len(batch) for batch in batches]
    assert sizes == [batch_size] * (n // batch_size) + [n % batch_size] * (n % batch_size > 0)
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(n))


def test_minibatches_take_the_random_numbers_of_the_cpu_wherever_x_is():
    set_seed(0)
    list(minibatches(torch.empty(50, device="meta"), 8))
    after = torch.rand(1)
    set_seed(0)
    torch.randperm(50)
    exact(torch.rand(1), after)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_minibatches_repeat_with_the_generators_seed(seed):
    x = torch.arange(50)
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.cat(list(minibatches(x, 8, generator))) for _ in range(2))
    assert not torch.equal(first, second)  # shuffled anew in each epoch
    exact(torch.cat(list(minibatches(x, 8, generator.manual_seed(seed)))), first)


def test_minibatches_follow_the_seed_of_torch_without_a_generator():
    orders = []
    for seed in (1, 1, 2):
        set_seed(seed)
        orders.append(torch.cat(list(minibatches(torch.arange(50), 8))).tolist())
    assert orders[0] == orders[1] != orders[2]


def test_minibatches_keep_each_image_whole():
    x = torch.arange(7)[:, None, None, None].expand(7, 1, 28, 28).double().contiguous()
    before = x.clone()
    batches = list(minibatches(x, 3))
    assert [batch.shape for batch in batches] == [(3, 1, 28, 28), (3, 1, 28, 28), (1, 1, 28, 28)]
    for batch in batches:
        assert batch.dtype == torch.float64
        exact(batch.amin((1, 2, 3)), batch.amax((1, 2, 3)))
    exact(x, before)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_minibatches_refuse_a_batch_size_below_one_at_the_call(batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size};"):
        minibatches(torch.arange(5), batch_size)


# ---- evaluate


@given(n=st.integers(1, 50), batch_size=st.integers(1, 60))
@settings(deadline=None)
def test_evaluate_weighs_each_image_alike(n, batch_size):
    x = torch.arange(n, dtype=torch.float64).square()
    terms = evaluate(nn.Identity(), lambda model, x: {"loss": model(x).mean(), "twice": 2 * x.mean()}, x, batch_size)
    assert terms == pytest.approx({"loss": float(x.mean()), "twice": 2 * float(x.mean())}, rel=1e-12)
    assert all(isinstance(value, float) for value in terms.values())


@pytest.mark.parametrize("mode", [True, False])
def test_evaluate_runs_in_eval_mode_without_gradients_and_restores_the_mode(mode):
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5)).train(mode)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []

    def loss_fn(model, x):
        out = model(x)
        seen.append((torch.is_grad_enabled(), out.requires_grad, model.training, model[1].training))
        return {"loss": out.mean()}

    evaluate(model, loss_fn, torch.rand(10, 4), batch_size=4)
    assert seen == [(False, False, False, False)] * 3
    assert model.training is model[0].training is model[1].training is mode
    assert torch.is_grad_enabled()
    exact(model.state_dict(), before)


def test_evaluate_restores_the_mode_after_an_error():
    model = nn.Dropout().train()
    with pytest.raises(ZeroDivisionError):
        evaluate(model, lambda model, x: {"loss": 1 / 0}, torch.rand(3, 4))
    assert model.training


def test_evaluate_refuses_nothing_and_batches_of_nothing():
    with pytest.raises(ValueError, match="no images"):
        evaluate(nn.Identity(), lambda model, x: {"loss": x.mean()}, torch.empty(0, 4))
    with pytest.raises(ValueError, match="batch_size is 0"):
        evaluate(nn.Identity(), lambda model, x: {"loss": x.mean()}, torch.rand(3, 4), batch_size=0)


# ---- fit


def test_same_seed_same_history_and_weights():
    runs = []
    for seed in (0, 0, 1):
        model, x_train, x_heldout = small_problem(seed)
        history = fit(model, squared_error, x_train, x_heldout, epochs=3, batch_size=16)
        runs.append((history, model.state_dict()))
    (first, weights), (again, weights_again), (other, _) = runs
    assert first == again
    exact(weights, weights_again)
    assert first != other


def test_history_starts_with_the_untrained_network_and_ends_with_the_trained_one():
    model, x_train, x_heldout = small_problem()
    before = [evaluate(model, squared_error, x) for x in (x_train[:30], x_heldout)]
    history = fit(model, squared_error, x_train, x_heldout, epochs=2, batch_size=16)
    after = [evaluate(model, squared_error, x) for x in (x_train[:30], x_heldout)]
    for epoch, terms in ((0, before), (-1, after)):
        for measured, expected in zip((history.train, history.heldout), terms, strict=True):
            assert {name: values[epoch] for name, values in measured.items()} == expected


@pytest.mark.parametrize(("n_train", "n_heldout", "measured"), [(100, 30, [30, 30]), (20, 30, [20, 30])])
def test_curves_are_measured_on_equally_many_images_if_possible(n_train, n_heldout, measured):
    sizes = []

    def loss_fn(model, x):
        sizes.append(len(x))
        return squared_error(model, x)

    fit(Small(), loss_fn, torch.rand(n_train, 4), torch.rand(n_heldout, 4), epochs=0)
    assert sizes == measured


def test_training_curve_sees_every_digit_in_its_share():
    _, labels = load_digits("train", "embedded")
    images = F.one_hot(labels, 10).float()

    def share(model, x):
        return {"loss": x.mean(), **{str(digit): x[:, digit].mean() for digit in range(10)}}

    history = fit(nn.Linear(1, 1), share, images, images[:2000], epochs=0)
    for digit in range(10):
        assert history.train[str(digit)] == [pytest.approx(float(images[:, digit].mean()), abs=2e-3)]


def test_loss_falls_on_training_and_held_out_images():
    model, x_train, x_heldout = small_problem()
    history = fit(model, squared_error, x_train, x_heldout, epochs=60, batch_size=10, lr=0.01)
    for curve in (history.train, history.heldout):
        assert curve["recon"][-1] < 0.05 * curve["recon"][0]


def test_history_has_every_term_of_every_epoch():
    model, x_train, x_heldout = small_problem()
    history = fit(model, squared_error, x_train, x_heldout, epochs=4)
    for curve in (history.train, history.heldout):
        assert set(curve) == {"loss", "recon"}
        assert all(len(values) == 5 for values in curve.values())
        assert [loss - recon for loss, recon in zip(curve["loss"], curve["recon"], strict=True)] == pytest.approx(
            [1] * 5
        )


def test_without_held_out_images_the_first_500_training_images_are_measured():
    model, _, _ = small_problem()
    x_train = torch.rand(600, 4)
    expected = evaluate(model, squared_error, x_train[:500])
    history = fit(model, squared_error, x_train, epochs=1)
    assert history.heldout == {}
    assert {name: values[0] for name, values in history.train.items()} == expected
    assert len(history.train["loss"]) == 2


@pytest.mark.parametrize(("decay", "rates"), [(False, [1, 1, 1, 1, 1, 1]), (True, [1, 1, 1, 1, 2 / 3, 1 / 3])])
def test_the_learning_rate_falls_over_the_second_half_if_asked_to(decay, rates, monkeypatch):
    used = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: used.append(self.param_groups[0]["lr"]) or step(self))
    model, x_train, _ = small_problem()
    fit(model, squared_error, x_train, epochs=6, batch_size=len(x_train), lr=0.02, lr_decay=decay)
    assert used == pytest.approx([0.02 * rate for rate in rates])


def test_no_epochs_leave_the_network_as_it_was():
    model, x_train, x_heldout = small_problem()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    history = fit(model, squared_error, x_train, x_heldout, epochs=0, on_epoch=pytest.fail)
    assert len(history.train["loss"]) == len(history.heldout["loss"]) == 1
    exact(model.state_dict(), before)


def test_fit_is_the_loop_written_out():
    model, x_train, _ = small_problem()
    set_seed(1)
    fit(model, squared_error, x_train, epochs=3, batch_size=32, lr=0.02)

    by_hand, x_train, _ = small_problem()
    set_seed(1)
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=0.02, fused=True)
    for _ in range(3):
        order = torch.randperm(100)
        for start in range(0, 100, 32):
            loss = squared_error(by_hand, x_train[order[start : start + 32]])["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    exact(model.state_dict(), by_hand.state_dict())


def test_each_epoch_trains_on_every_image_in_train_mode():
    model, x_train, x_heldout = small_problem()
    model.eval()
    epochs, steps, modes = [], [], set()

    def loss_fn(model, x):
        modes.add((torch.is_grad_enabled(), model.training))
        if torch.is_grad_enabled():
            steps.append((epochs[-1], len(x)))
        return squared_error(model, x)

    fit(model, loss_fn, x_train, x_heldout, epochs=3, batch_size=40, on_epoch=epochs.append)
    assert epochs == [1, 2, 3]
    assert steps == [(epoch, size) for epoch in (1, 2, 3) for size in (40, 40, 20)]
    assert modes == {(True, True), (False, False)}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": -1}, "epochs is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": -8}, "batch_size is -8"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(wrong, message):
    model, x_train, x_heldout = small_problem()
    with pytest.raises(ValueError, match=message):
        fit(model, pytest.fail, x_train, x_heldout, **{"epochs": 1, "on_epoch": pytest.fail, **wrong})


def test_no_images_are_refused():
    model, x_train, _ = small_problem()
    for images in ((x_train[:0], None), (x_train, x_train[:0]), (x_train[:0], x_train)):
        with pytest.raises(ValueError, match="no images"):
            fit(model, squared_error, *images, epochs=1)


@pytest.mark.parametrize(
    "where", ["training", "measuring the training images", "measuring the held-out images", "hook"]
)
def test_interrupted_training_keeps_its_history(where, capsys):
    epochs = []

    def on_epoch(epoch):
        epochs.append(epoch)
        if where == "hook" and epoch == 3:
            raise KeyboardInterrupt

    def loss_fn(model, x):
        now = "training" if model.training else "measuring the training images"
        if now != "training" and x.data_ptr() == x_heldout.data_ptr():
            now = "measuring the held-out images"
        if epochs[-1:] == [3] and now == where:
            raise KeyboardInterrupt
        return squared_error(model, x)

    model, x_train, x_heldout = small_problem()
    history = fit(model, loss_fn, x_train, x_heldout, epochs=5, on_epoch=on_epoch)
    assert capsys.readouterr().out == "Interrupted: the history ends after epoch 2 of 5.\n"
    assert model.training

    model, x_train, x_heldout = small_problem()
    assert history == fit(model, squared_error, x_train, x_heldout, epochs=2)


@pytest.mark.parametrize(("method", "kept"), [("__iter__", 0), ("set_postfix", 1)])
def test_interrupt_may_hit_the_progress_bar(method, kept, capsys, monkeypatch):
    def interrupt(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "tqdm", type("Interrupted", (tqdm,), {method: interrupt}))
    model, x_train, x_heldout = small_problem()
    history = fit(model, squared_error, x_train, x_heldout, epochs=5)
    assert len(history.train["loss"]) == len(history.heldout["loss"]) == kept + 1
    assert capsys.readouterr().out == f"Interrupted: the history ends after epoch {kept} of 5.\n"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_loss_that_is_not_finite_stops_and_says_where(bad):
    model, x_train, x_heldout = small_problem()
    steps = []

    def loss_fn(model, x):
        terms = squared_error(model, x) | {"kl": torch.tensor(7.0)}
        if torch.is_grad_enabled():
            steps.append(1)
            if len(steps) >= 5:
                return terms | {"loss": terms["loss"] * bad}
        return terms

    with pytest.raises(FloatingPointError) as caught:
        fit(model, loss_fn, x_train, x_heldout, epochs=9, batch_size=40)
    message = str(caught.value)
    assert "epoch 2, minibatch 2 of 3" in message
    assert f"loss = {bad:g}" in message
    assert "recon = " in message
    assert "kl = 7" in message
    assert len(steps) == 6  # not a step after the epoch


def test_learning_rate_far_too_high_is_noticed():
    model, x_train, _ = small_problem()
    with pytest.raises(FloatingPointError, match=r"epoch \d+.*learning rate"):
        fit(model, squared_error, x_train, epochs=20, lr=1e18)


def test_progress_bar_leaves_nothing_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(training, "tqdm", partial(tqdm, disable=False, mininterval=0))
    model, x_train, x_heldout = small_problem()
    history = fit(model, squared_error, x_train, x_heldout, epochs=2)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "2/2" in printed.err
    assert f"loss={history.heldout['loss'][-1]:.2f}" in printed.err
    assert "\n" not in printed.err
    assert printed.err.rpartition("\r")[2].strip() == ""  # wiped away


@pytest.mark.slow
def test_progress_bar_in_a_notebook_prints_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, sys.path)))
    code = """
        import torch
        from torch import nn
        from utils.training import fit
        x = torch.rand(40, 4)
        history = fit(nn.Linear(4, 4), lambda model, x: {"loss": (model(x) - x).square().mean()}, x, epochs=3)
        """
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(map(str.strip, code.splitlines())))])
    resources = {"metadata": {"path": tmp_path}}
    NotebookClient(notebook, timeout=600, iopub_timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = notebook.cells[0].outputs
    assert [output for output in outputs if output.output_type != "display_data"] == []
    assert all("application/vnd.jupyter.widget-view+json" in output.data for output in outputs)
    assert len(outputs) == 1  # the bar was there


# ---- the classifier


@pytest.fixture(scope="module")
def classifier():
    set_seed(0)
    return train_classifier(*load_digits("train", "embedded"), epochs=7)


def test_classifier_tells_digits_apart(classifier):
    x, labels = load_digits("heldout", "embedded")
    with torch.no_grad():
        accuracy = float((classifier(x).argmax(1) == labels).float().mean())
    assert 0.93 <= accuracy < 0.99


def test_classifier_is_returned_in_eval_mode(classifier):
    assert not classifier.training
    x = load_digits("heldout", "embedded")[0][:50]
    exact(classifier(x), classifier(x))  # no dropout


def test_confidence_is_the_largest_probability(classifier):
    x = torch.cat([load_digits("heldout", "embedded")[0][::20], torch.rand(100, 784), torch.zeros(1, 784)])
    confidence = classifier.confidence(x)
    assert confidence.shape == (201,)
    assert not confidence.requires_grad
    assert (confidence >= 0.1).all()
    assert (confidence <= 1).all()
    assert_close(confidence, F.softmax(classifier(x), 1).max(1).values)
    assert confidence[:100].mean() > 0.8


def test_classifier_takes_flat_and_square_images():
    x = torch.rand(3, 784)
    model = DigitClassifier().eval()
    assert model(x).shape == (3, 10)
    exact(model(x.reshape(3, 1, 28, 28)), model(x))


def test_training_a_classifier_leaves_its_data_alone():
    x, labels = torch.rand(20, 784), torch.arange(20) % 10
    before = x.clone(), labels.clone()
    train_classifier(x, labels, epochs=1)
    exact((x, labels), before)
