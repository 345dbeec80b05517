"""Small trainings for the tests of train.py, and how to look at what they leave."""

import csv

SMALL = ("--hidden-size", 16, "--epochs", 2, "--output", "net.npz")
QUICK = ("--recipe", "quick", "--hidden-size", 8, "--stride", 6, "--whiten-dims", 20)
QUICK += ("--test-stride", 6, "--epochs", 2, "--ema", 0.9)


def fails(result, *parts):
    """Assert that a command ended with code 2 and one line on stderr that has these parts."""
    code, _, err = result
    lines = err.splitlines()
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("train.py: error: ")
    assert len(lines[0]) <= 300
    assert lines[0].isprintable()
    for part in parts:
        assert part in lines[0]


def table(path):
    """Return the columns of a history's CSV."""
    with open(path, newline="") as file:
        names, *rows = csv.reader(file)
    columns = zip(*rows, strict=True)
    return {
        name: [float(value) for value in column]
        for name, column in zip(names, columns, strict=True)
    }


def without_seconds(columns):
    """Return a history without the seconds, which differ from run to run."""
    return {name: column for name, column in columns.items() if name != "seconds"}
