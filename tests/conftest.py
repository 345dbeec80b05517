"""What the tests share: small images, the scripts run as a user runs them, and limits on memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import support.threads  # noqa: E402, F401, I001  (first of all: it sets BLAS's threads before numpy loads)

from data import cifar10, synthetic  # noqa: E402
from support import cli  # noqa: E402


@pytest.fixture(scope="session")
def synthetic_dir(tmp_path_factory):
    """A folder of 1,000 training and 200 test images; not to be changed."""
    folder = tmp_path_factory.mktemp("images") / "synthetic-batches-py"
    synthetic.write_synthetic(folder, train=1_000, test=200)
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
        code = cli.command(main, [str(word) for word in argv])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def line_of(caught, *parts):
    """The text of a caught UserError: one line of at most 300 characters, printable, with these parts."""
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) <= 300
    for part in parts:
        assert part in text
    return text


def in_little_memory(code, megabytes=300):
    """Run Python code in a process of its own that may take so much beyond what its imports take, and ten seconds of
    processor time; its last line of output. The modules and numpy are imported."""
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("needs Linux")
    start = (
        "import resource, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from support import threads, cli, files, locks, npz\n"
        "from data import cifar10, download, pickles, pictures\n"
        "from PIL import Image\nimport numpy as np\n"
        "with open('/proc/self/statm') as file:\n"
        "    taken = int(file.read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (taken + ({megabytes} << 20),) * 2)\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (10, 10))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]
