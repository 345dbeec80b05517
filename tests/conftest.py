"""What the tests share: small images, and the scripts run as a user runs them."""
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import model  # noqa: E402, F401  (first of all: it sets BLAS's threads before numpy loads)
from data import cifar10  # noqa: E402


@pytest.fixture(scope="session")
def synthetic_dir(tmp_path_factory):
    """A folder of 1,000 training and 200 test images; not to be changed."""
    folder = tmp_path_factory.mktemp("images") / "synthetic-batches-py"
    cifar10.write_synthetic(folder, train=1_000, test=200)
    return folder


@pytest.fixture
def run(tmp_path):
    """run("train.py", "--epochs", 1, ...): the script's CompletedProcess, run outside the repository."""

    def run(script, *args, **options):
        command = [sys.executable, ROOT / script, *args]
        settings = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 120} | options
        return subprocess.run([str(part) for part in command], **settings)

    return run


@pytest.fixture(scope="session")
def data(synthetic_dir):
    return cifar10.load("synthetic", synthetic_dir)


def called(main, capsys, *argv):
    """A script's main with these arguments, in this process: its exit code, stdout and stderr."""
    try:
        code = cifar10.command(main, [str(word) for word in argv])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err
