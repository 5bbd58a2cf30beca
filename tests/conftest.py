"""What every test, and every notebook that runs as one, finds around it."""

import os

import matplotlib

os.environ["TQDM_DISABLE"] = "1"
os.environ["VAE_DIGITS"] = "embedded"  # stored outputs were made from these, on a machine with a GPU too
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # as many workers as cores: PyTorch's threads would only wait for each other
matplotlib.use("agg")  # tests open no windows; a notebook's kernel chooses for itself
