"""Each notebook gets through on a GPU: a pretended one, which refuses what a real one refuses (fake_gpu.py).

Every cell runs, but only devices matter here (short.py).
"""

from pathlib import Path

import pytest
import short
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from tools import cells as course

pytestmark = pytest.mark.slow

NAMES = [
    name for name in course.NAMES if "pick_device()" in "".join(course.sources(name))
]  # the others stay on the CPU
IMPORTS = "import torch, numpy as np\nx, y = torch.ones(2, 3, device='cuda'), torch.ones(3)"


@pytest.fixture
def run(monkeypatch):
    """Runs cells where there is a pretended GPU; returns all that they print."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def run(*cells):
        notebook = new_notebook(cells=[new_code_cell("import fake_gpu\nfake_gpu.switch_on()")])
        notebook.cells += map(new_code_cell, cells)
        where = {"metadata": {"path": course.FOLDER}}
        NotebookClient(notebook, timeout=1800, iopub_timeout=300, kernel_name="python3", resources=where).execute()
        return "".join(output.get("text", "") for cell in notebook.cells for output in cell.outputs)

    return run


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_on_a_gpu(run, name):
    assert "on a pretended GPU" in run(*short.sources(name))


def test_what_a_gpu_refuses_is_refused(run):
    slips = [
        "x + y",
        "torch.cat([x, y[None]])",
        "y[x[0] > 0]",
        "x.numpy()",
        "np.asarray(x)",
        "torch.rand(2, device='cuda', generator=torch.Generator())",
        "torch.bernoulli(x, generator=torch.Generator())",
        "torch.nn.Linear(3, 1)(x)",
        "torch.nn.Linear(3, 1).to('cuda')(y)",
        "torch.distributions.Normal(y, 1.0).log_prob(x)",
        "torch.testing.assert_close(x[0], y)",
    ]
    attempt = (
        "try:\n    {}\nexcept (AssertionError, RuntimeError, TypeError) as error:\n    print('cuda' in str(error))"
    )
    assert run(IMPORTS, *(attempt.format(slip) for slip in slips)).split() == ["True"] * len(slips)


def test_what_a_gpu_takes_is_taken(run):
    run(
        IMPORTS,
        "assert x.device == (x + 1).device == x.cpu().to('cuda').device == y.to(x).device == torch.device('cuda', 0)",
        "assert (x * torch.tensor(2.0)).tolist() == [[2, 2, 2], [2, 2, 2]] and x[torch.tensor([0])].is_cuda",
        "x[0] = y; y.copy_(x[0]); assert y.device == x.cpu().device == torch.device('cpu')",
        "assert f'{x[0, 0]:.1f}' == '1.0'",
        "net = torch.nn.Linear(3, 1).to('cuda'); net(x).sum().backward(); assert net.weight.grad.is_cuda",
        "optimizer = torch.optim.Adam(net.parameters(), fused=True); optimizer.step(); assert net.weight.is_cuda",
        "net.load_state_dict(torch.nn.Linear(3, 1).state_dict()); assert net.weight.is_cuda",
    )


def test_a_forgotten_move_is_noticed(run):
    cells = course.sources("04_vae")
    end = next(i for i, cell in enumerate(cells) if "model = VAE(784, 512, 256, 10).to(device)" in cell)
    cells[end] = cells[end].replace(".to(device)", "")
    with pytest.raises(CellExecutionError, match="same device"):
        run(*cells[: end + 1])
