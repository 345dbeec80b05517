"""Kill training runs at random moments, resume each, and compare the weights with an uninterrupted run, bit for bit.

    python benchmarks/kills.py --kills 50

Works in a temporary folder, on a few synthetic images, with the features that keep state of their own (averaged
weights, dropout, shifts, batch normalisation). Exit code 1 if a single bit differs.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import model  # noqa: E402
from data import cifar10  # noqa: E402

import numpy as np  # noqa: E402

FLAGS = ["--epochs=60", "--patience=0", "--hidden-size=96", "--ema=0.98", "--shift=2", "--lr-decay=0.98", "--threads=1"]


def start(folder: Path, output: Path) -> subprocess.Popen:
    command = [sys.executable, ROOT / "train.py", "--data-dir", folder, "--output", output, "--resume", *FLAGS]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def weights(output: Path) -> dict[str, np.ndarray]:
    return model.load(output)[0].arrays()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how many kills (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    args = parser.parse_args()
    moments, kills, runs = random.Random(args.seed), 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "images")
        cifar10.write_synthetic(folder, train=1_000, test=50)
        began = time.perf_counter()
        if start(folder, Path(temporary, "whole.npz")).wait():
            return 1
        duration = time.perf_counter() - began
        expected = weights(Path(temporary, "whole.npz"))
        while kills < args.kills:
            runs += 1
            output = Path(temporary, f"run{runs}.npz")
            while True:
                process = start(folder, output)
                if kills < args.kills:
                    time.sleep(moments.uniform(0, 0.8 * duration))
                    process.kill()
                code = process.wait()
                if code == 0:
                    break
                if code > 0:
                    return 1
                kills += 1
            found = weights(output)
            differing = [name for name, array in expected.items() if not np.array_equal(array, found[name])]
            if differing:
                print(f"run {runs}, after {kills} kills in all: {', '.join(differing)} differ")
                return 1
    print(f"{kills} kills in {runs} runs, each resumed: all weights equal the uninterrupted run's, bit for bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
