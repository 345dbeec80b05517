"""support/threads.py and blocks.py: the same bits with any number of threads."""

import os
import subprocess
import sys
import threading
import time

from model import SGD, Network
from support import npz, startup, threads
from support.network import blocks
from support.network.window import Window
from support.threads import Threads

import numpy as np
import pytest
from helpers import ROOT
from networks import make_window


def test_results_stand_in_the_order_of_the_items():
    def slow_at_first(item):
        time.sleep(0.02 if item == 0 else 0)
        return item**2

    for count in (1, 2, 5):
        assert Threads(count).each(slow_at_first, range(20)) == [item**2 for item in range(20)]
        assert Threads(count).each(slow_at_first, iter([])) == []
        assert Threads(count).each(slow_at_first, (item for item in (3,))) == [9]


def test_threads_work_side_by_side():
    meeting = threading.Barrier(3, timeout=20)
    names = Threads(3).each(lambda item: meeting.wait() < 3 and threading.get_ident(), range(3))
    assert len(set(names)) == 3
    assert threading.get_ident() in names
    assert len(set(Threads(1).each(lambda item: threading.get_ident(), range(3)))) == 1


def test_threads_within_threads_are_loops():
    team = Threads(3)

    def outer(item):
        mine = threading.get_ident()
        assert set(team.each(lambda inner: threading.get_ident(), range(5))) == {mine}
        return item

    for _ in range(20):
        assert team.each(outer, range(4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_error_in_any_thread_comes_out_and_the_threads_go_on(count):
    team = Threads(count)

    def fails(item):
        if item == 3:
            raise KeyError("three")
        return item

    for _ in range(10):
        with pytest.raises(KeyError, match="three"):
            team.each(fails, range(8))
        assert team.each(lambda item: item, range(8)) == list(range(8))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_after_an_error_no_thread_begins_another_item(count):
    begun = []

    def fails(item):
        begun.append(item)
        time.sleep(0.05 if item else 0.01)
        if item == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Threads(count).each(fails, range(50))
    assert len(begun) <= count


def test_after_an_error_no_thread_still_works():
    together, ended = threading.Barrier(3, timeout=30), []

    def fails(item):
        together.wait()
        if item == 1:
            raise KeyError
        time.sleep(0.3)
        ended.append(item)

    with pytest.raises(KeyError):
        Threads(3).each(fails, range(3))
    assert sorted(ended) == [0, 2]


def test_overflow_is_no_warning_on_any_thread(recwarn):
    for count in (1, 3):
        Threads(count).each(lambda item: np.full(3, 1e38, np.float32) * np.float32(1e10), range(6))
        Threads(count).each(lambda item: np.full(3, np.inf) - np.inf, range(6))
    assert not recwarn.list


def test_slices():
    assert threads.slices(7, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert threads.slices(6, 3) == [slice(0, 3), slice(3, 6)]
    assert threads.slices(0, 3) == []


@pytest.mark.parametrize("window", [Window(), Window(8, 2), Window(8, 4, 3, mirror=True)], ids=str)
@pytest.mark.parametrize("m", [1, 7, 8, 9, 63, 64, 65, 128, 131, 1000])
def test_groups_in_lanes_are_all_images_in_order(m, window):
    lanes = blocks.in_lanes(blocks.of_images(m, window))
    images = [image for lane in lanes for some in lane for image in range(m)[some]]
    assert images == list(range(m))
    assert 1 <= len(lanes) <= blocks.LANES


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_a_group_of_images_has_no_more_rows_than_a_cache_holds(stride):
    window = Window(8, stride)
    for group in blocks.of_images(100, window):
        images = group.stop - group.start
        assert images == 1 or images * window.rows <= blocks.ROWS


@pytest.mark.parametrize("size", [1, 2, 3, 8, 100])
@pytest.mark.parametrize("n", [1, 2, 7, 16, 99])
def test_staggered_blocks_are_all_numbers_in_order(n, size):
    cut = blocks.staggered(n, size)
    assert [number for block in cut for number in range(n)[block]] == list(range(n))
    assert all(0 < block.stop - block.start <= size for block in cut)


def test_the_first_of_several_staggered_blocks_is_half_as_long():
    assert blocks.staggered(20, 8) == [slice(0, 4), slice(4, 12), slice(12, 20)]
    assert blocks.staggered(8, 8) == [slice(0, 8)]


def test_default_threads_are_the_cores_of_the_process():
    assert 1 <= threads.default_threads() <= os.cpu_count()


# ---- The same bits -----------------------------------------------------------------------------

KINDS = {
    "whole, BN, dropout": (Window(), {"batchnorm": True, "dropout": 0.5}),
    "windows, dropout": (make_window(8, 4, 3, dims=20), {"batchnorm": False, "dropout": 0.25}),
    "windows, BN": (make_window(16, 8, 3), {"batchnorm": True, "dropout": 0.0}),
    "windows, preconditioned": (
        make_window(16, 16, 2, dims=20),
        {"batchnorm": False, "dropout": 0.0},
    ),
    "windows, all views, damped, preconditioned": (
        make_window(16, 8, 2, dims=20, mirror=True, two_sided=True, bilinear=True),
        {"batchnorm": False, "dropout": 0.0, "cap": 1.0},
    ),
    "whole, all views, dropout": (
        make_window(dims=20, mirror=True, two_sided=True),
        {"batchnorm": False, "dropout": 0.25, "cap": 1.0},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_threads_gives_the_same_bits(kind, monkeypatch):
    for name, size in (
        ("WHOLE_UNITS", 16),
        ("FILTERS", 16),
        ("IMAGES", 3),
        ("WEIGHTS", 999),
        ("GRADIENT_ROWS", 40),
        ("PIECE", 99),
    ):
        monkeypatch.setattr(blocks, name, size)
    rng, found = np.random.default_rng(2), []
    images, labels = rng.integers(0, 256, (50, 3072), dtype=np.uint8), rng.integers(0, 10, 50)
    window, options = KINDS[kind]
    for count in (1, 2, 5):
        network, rng = Network(37, window, threads=count, **options), np.random.default_rng(0)
        if "preconditioned" in kind:
            network.precondition(images)
        if "damped" in kind:
            network.find_leading(images, 9)
        results = [
            network.train_batch(
                images, labels, SGD(0.1, lambda_reg=0.01, bn_lr_scale=2), rng, smoothing=0.1
            )
            for _ in range(4)
        ]
        found.append(
            [
                network.weights,
                network.velocity,
                {"logits": network.logits(images), "results": results},
            ]
        )
    for other in found[1:]:
        for arrays, expected in zip(other, found[0], strict=True):
            assert all(np.array_equal(arrays[name], expected[name]) for name in expected)


TRAINING = """
import sys
{first}
sys.path.insert(0, {root!r})
import train
from data import cifar10
given = {{"hidden_size": 64, "validation_share": 0.6, "epochs": 1, "ema": 0.0}}
settings = train.resolve(given, "quick")
train.train(settings, cifar10.load("synthetic", {folder!r}), {output!r}, threads={count})
"""


def test_who_loads_numpy_first_changes_no_bit(synthetic_dir, tmp_path):
    """A notebook imports numpy first, whose BLAS then has threads of its own."""
    environment = {
        name: value for name, value in os.environ.items() if name not in startup.BLAS_VARIABLES
    }
    checkpoints = []
    for first, count in (("", 2), ("import numpy", 1)):
        output = str(tmp_path / f"net{count}.npz")
        code = TRAINING.format(
            first=first, root=str(ROOT), folder=str(synthetic_dir), output=output, count=count
        )
        subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True, timeout=100
        )
        checkpoints.append(npz.read_npz(output)[0])
    assert set(checkpoints[0]) == {"W1", "b1", "W2", "b2", "mean", "P_left", "signs"}
    for name, array in checkpoints[0].items():
        assert np.array_equal(array, checkpoints[1][name]), name


def test_blas_has_one_thread_when_numpy_comes_second():
    code = (
        "import os; from support import startup\n"
        "print(startup.ONE_BLAS_THREAD, os.environ['OPENBLAS_NUM_THREADS'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "1"]


def test_eigh_in_a_process_of_its_own_has_the_same_bits(monkeypatch):
    A = np.random.default_rng(0).normal(size=(60, 60)).astype(np.float32)
    here = threads.eigh(A @ A.T)
    monkeypatch.setattr(startup, "ONE_BLAS_THREAD", False)
    there = threads.eigh(A @ A.T)
    for mine, other in zip(here, there, strict=True):
        assert np.array_equal(mine, other)
