"""Fixtures of all tests: small drawn images, and the scripts run as a user runs them."""

import subprocess
import sys

import pytest
from helpers import ROOT, called

sys.path.insert(0, str(ROOT))

import support.threads  # noqa: F401, I001  (sets BLAS to one thread before numpy loads)

from batches import write_cifar10
from data import cifar10, synthetic


@pytest.fixture(scope="session")
def synthetic_dir(tmp_path_factory):
    """A folder of 1,000 training and 200 test images; not to be changed."""
    folder = tmp_path_factory.mktemp("images") / "synthetic-batches-py"
    synthetic.write_synthetic(folder, train=1_000, test=200)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of official batches with 20 training and 4 test images, in the working folder."""
    monkeypatch.chdir(tmp_path)  # short names in the errors
    write_cifar10(tmp_path / "cifar-10-batches-py")
    return tmp_path / "cifar-10-batches-py"


@pytest.fixture
def run(tmp_path):
    """run("train.py", "--epochs", 1): the script as a CompletedProcess, outside the repository."""

    def run(script, *args, **options):
        command = [sys.executable, ROOT / script, *args]
        settings = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 120} | options
        return subprocess.run([str(part) for part in command], **settings)

    return run


@pytest.fixture(scope="session")
def data(synthetic_dir):
    return cifar10.load("synthetic", synthetic_dir)


@pytest.fixture
def go(capsys, monkeypatch, tmp_path, synthetic_dir):
    """go("--epochs", 3): train.py's main on the small images; exit code, stdout, stderr.

    It runs in this process, in an empty folder, which is also the folder of the scripts.
    """
    import train
    from support import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    monkeypatch.setattr(train, "CHECKPOINTS", tmp_path / "checkpoints")

    def go(*args):
        return called(train.main, capsys, "--data-dir", synthetic_dir, "--threads", 1, *args)

    return go
