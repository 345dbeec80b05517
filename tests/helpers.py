"""What several tests need: scripts called in this process, errors of one line, little memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def called(main, capsys, *argv):
    """Call a script's main with these arguments; return its exit code, stdout and stderr."""
    from support import cli

    try:
        code = cli.command(main, [str(word) for word in argv])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def line_of(caught, *parts):
    """Return the text of a caught UserError: one line of up to 300 characters with these parts."""
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) <= 300
    for part in parts:
        assert part in text
    return text


def message(call, *args, **options):
    """Call a function that raises a UserError; return its line: the fault; the remedy."""
    from support import cli

    with pytest.raises(cli.UserError) as caught:
        call(*args, **options)
    return line_of(caught, ";")


def in_little_memory(code, megabytes=300):
    """Run Python code in a process with so much memory beyond its imports; return its last line.

    It gets ten seconds of processor time. NumPy and the modules that read files are imported.
    """
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("needs Linux")
    start = f"""
import resource, sys
sys.path.insert(0, {str(ROOT)!r})
from support import threads, cli, files, locks, npz
from data import cifar10, download, pickles, pictures
from PIL import Image
import numpy as np
with open("/proc/self/statm") as file:
    taken = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + ({megabytes} << 20),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
"""
    done = subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


def started(code, **options):
    """Start a process that runs Python code after importing files, locks and npz of support."""
    start = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom support import files, locks, npz\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", start + code], **pipes, **options)
