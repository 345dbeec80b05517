"""support/memory.py: what a training needs is known before it is built, and too much is refused."""

import resource
import subprocess
import sys

import search
import train
from support import cli, memory
from train import Settings, resolve

import pytest
from conftest import ROOT, called, line_of
from searches import TINY

GB = 10**9


@pytest.fixture
def small_machine(monkeypatch):
    monkeypatch.setattr(memory, "machine", lambda: 2.0 * GB)


PEAK = """
import sys
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
import train
from data import cifar10
import numpy as np
images = np.random.default_rng(0).integers(0, 256, (600, 3072), "u1")
data = cifar10.Dataset("x", images, np.arange(600) % 10, images, np.arange(600) % 10, cifar10.CLASSES, fingerprint="0")
def peak():  # in kB; ru_maxrss would be at least that of the process that started this one
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
before = peak()
next(train.epochs(train.Run(train.resolve({given!r}, {recipe!r}), data), data, None))
print(1024 * (peak() - before))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's unit of memory")
@pytest.mark.parametrize(
    ("given", "recipe"),
    [
        ({"hidden_size": 4000, "ema": 0.9, "epochs": 9}, "report"),
        ({"hidden_size": 5000, "stride": 6, "mirror": False}, "quick"),
        ({"hidden_size": 5000, "stride": 6}, "quick"),
        ({"hidden_size": 300, "batchnorm": True, "batch_size": 512}, "quick"),
        ({"hidden_size": 1000, "stride": 1}, "quick"),
    ],
)
def test_the_estimate_is_what_is_taken(given, recipe):
    code = PEAK.format(root=str(ROOT), given=given, recipe=recipe)
    taken = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60).stdout)
    told = memory.of_training(resolve(given, recipe), 540, 10, 1)
    assert 0.75 * taken < told < 1.5 * taken


def test_too_much_is_refused_by_the_flag(small_machine):
    memory.refuse([Settings()], 45_000, 10, 1)
    for given, recipe, flag in (
        ({"hidden_size": 1_000_000}, "report", "--hidden-size 1000000 needs about"),
        ({"hidden_size": 40_000}, "quick", "--hidden-size 40000 needs about 3 GB"),
        ({"batch_size": 1_000_000, "hidden_size": 8192}, "report", "--batch-size 1000000 needs about"),
    ):
        with pytest.raises(train.SettingError) as caught:
            memory.refuse([resolve({}, recipe), resolve(given, recipe)], 45_000, 10, 1)
        line_of(caught, flag, "GB of memory, and this machine has 2; lower it")
    with pytest.raises(cli.UserError) as caught:
        memory.refuse([Settings(8000)] * 4, 45_000, 10, 1, jobs=4)
    line_of(caught, "--jobs 4: trials side by side need about 2 GB of memory, and this machine has 2; lower it")
    memory.refuse([Settings(8000)] * 4, 45_000, 10, 1, jobs=2)


def test_a_state_that_no_file_can_hold_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "machine", lambda: 100.0 * GB)
    memory.refuse([Settings(110_000)], 45_000, 10, 1)
    with pytest.raises(train.SettingError) as caught:
        memory.refuse([Settings(), Settings(120_000)], 45_000, 10, 1)
    line_of(caught, "--hidden-size 120000 needs a state file of 4.1 GB, and 4 GB is the limit; lower it")


def test_commands_refuse_before_anything_is_built(small_machine, capsys, synthetic_dir, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    flags = ("--data-dir", synthetic_dir, "--output-dir", tmp_path / "out", "--hidden-size")
    for main, values in ((train.main, (1_000_000,)), (search.main, (4, 1_000_000, *TINY[3:]))):
        code, _, error = called(main, capsys, *flags, *values)
        assert code == 2 and error.count("\n") == 1
        assert "--hidden-size 1000000 needs about" in error
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10
    assert not list(tmp_path.rglob("*.*"))


def test_a_containers_limit_counts(monkeypatch, tmp_path):
    whole = memory.machine()
    assert whole > GB / 10
    for text, expected in (("max\n", whole), ("1000000\n", 1e6), (str(10**18), whole)):
        (tmp_path / "limit").write_text(text)
        monkeypatch.setattr(memory, "CGROUPS", (tmp_path / "limit", tmp_path / "none"))
        assert memory.machine() == expected
