"""Stop trainings and searches at random moments, resume each, and compare the results with uninterrupted ones.

    python benchmarks/kills.py --kills 50

Works in a temporary folder, on a few synthetic images: a training with the features that keep state of their own
(averaged weights, dropout, shifts, batch normalisation), and a halving search in two processes. Each is stopped by
SIGKILL, SIGTERM and SIGINT in turn, sent to all of its processes, as a terminal does, or to the first alone; and what
was finished has to be on the disk, nothing half-done beside it, and the command that goes on in the last line. Exit
code 1 if that isn't so, or a single bit of the weights or of the table differs.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from data import synthetic  # noqa: E402
from support import cli, npz  # noqa: E402

import numpy as np  # noqa: E402

TRAINING = "train.py --epochs 60 --patience 0 --hidden-size 96 --ema 0.98 --shift 2 --lr-decay 0.98 --threads 1"
SEARCH = "search.py --halving --jobs 2 --epochs 16 --patience 0 --hidden-size 16 32 --learning-rate 0.01 0.02 0.05"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Broken(cli.UserError):
    """A run that didn't end as it should."""


class Job:
    """A training or a search, that can be started again and again with the same output."""

    def __init__(self, command: str, images: Path, folder: Path):
        self.folder, self.is_search = folder, command.startswith("search")
        script, *flags = command.split()
        self.command = [sys.executable, cli.ROOT / script, *flags, "--data-dir", images, "--resume"]
        self.command += (
            ["--output-dir", folder] if self.is_search else ["--output", folder / "net.npz"]
        )

    def start(self) -> subprocess.Popen:
        output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            [str(word) for word in self.command], start_new_session=True, **output
        )

    def wait(self, process: subprocess.Popen) -> None:
        _, error = process.communicate()
        if process.returncode:
            raise Broken(
                f"{self.folder.name}: exit code {process.returncode}, {error.strip()[-200:]}"
            )

    def result(self) -> dict[str, np.ndarray | str]:
        """What has to be the same whatever happens: all weights, and the table without the seconds."""
        found = {}
        for path in self.folder.glob("*.npz"):
            arrays, _ = npz.read_npz(path)
            found |= {
                f"{path.name}: {name}": array
                for name, array in arrays.items()
                if path.stem[-6:] != ".state"
            }
        for number, row in enumerate(self.rows()):
            found |= {
                f"row {number}: {name}": text for name, text in row.items() if name != "seconds"
            }
        return found

    def rows(self) -> list[dict[str, str]]:
        path = self.folder / "results.csv"
        return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []

    def stop(self, process: subprocess.Popen, number: int, to_all: bool) -> bool:
        """Send the signal; whether it came before the end. Broken unless the job ends as it should."""
        before = self.rows()
        if process.poll() is None:
            (os.killpg if to_all else os.kill)(process.pid, number)
        _, error = process.communicate(timeout=60)
        if process.returncode == 0:
            return False
        started = (
            (self.folder / "search.json").exists()
            if self.is_search
            else any(self.folder.glob("*.state.npz"))
        )
        wanted = (
            {-number}
            if number == signal.SIGKILL
            else {128 + number}
            if started
            else {128 + number, -number}
        )
        # Python's own tracker of semaphores complains when their process was killed by force.
        page = number != signal.SIGKILL and "\n" in error.strip()
        if process.returncode not in wanted or "Traceback" in error or page:
            raise Broken(
                f"{signal.Signals(number).name}: exit code {process.returncode}, {error.strip()[-200:]}"
            )
        if number != signal.SIGKILL and started and not error.strip().endswith("--resume"):
            raise Broken(
                f"{signal.Signals(number).name}: no line says how to go on: {error.strip()}"
            )
        left = [p.name for p in self.folder.glob("*") if p.suffix in (".tmp", ".lock", ".bin")]
        if number != signal.SIGKILL and left:
            raise Broken(f"{signal.Signals(number).name}: left {left[0]} behind")
        if missing := [
            row["trial"]
            for row in before
            if row["trial"] not in {each["trial"] for each in self.rows()}
        ]:
            raise Broken(
                f"{signal.Signals(number).name}: trial {missing[0]} has vanished from results.csv"
            )
        return True


def main(argv: list[str] | None = None) -> int:
    parser = cli.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kills", type=cli.integer(1, 10**6), default=50, help="how many stops of each job"
    )
    parser.add_argument("--seed", type=cli.integer(0, 2**63), default=0, help="of the moments")
    args = parser.parse_args(argv)
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        synthetic.write_synthetic(Path(temporary, "images"), train=1_000, test=50)
        for command in (TRAINING, SEARCH):
            kills = runs = 0
            whole = Job(command, Path(temporary, "images"), Path(temporary, f"whole-{command[:5]}"))
            began = time.perf_counter()
            whole.wait(whole.start())
            duration, expected = time.perf_counter() - began, whole.result()
            while kills < args.kills:
                runs += 1
                job = Job(
                    command, Path(temporary, "images"), Path(temporary, f"{command[:5]}{runs}")
                )
                running = True
                while running:
                    process = job.start()
                    if kills == args.kills:
                        job.wait(process)
                        break
                    time.sleep(moments.uniform(0.4, 0.8 * duration))
                    running = job.stop(process, SIGNALS[kills % 3], to_all=moments.random() < 0.5)
                    kills += running
                found = job.result()
                differing = [
                    name for name in expected if not np.array_equal(expected[name], found.get(name))
                ]
                if differing or len(found) > len(expected):
                    raise Broken(
                        f"{command[:8]}, run {runs}, after {kills} stops: {differing or 'more files'} differ"
                    )
            print(
                f"{command.split()[0]}: {kills} stops in {runs} runs, each resumed: all bits as uninterrupted"
            )
    return 0


if __name__ == "__main__":
    sys.exit(cli.command(main))
