"""The benchmarks run and print their tables; what they measure is no matter for a test."""

from conftest import ROOT

TINY = ("--batch", 8, "--hidden", 32, "--threads", 1)


def rows(text):
    """The first cell of each row of the tables in Markdown."""
    return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]


def test_step_compares_ours_with_the_floor(run):
    result = run("benchmarks/step.py", *TINY, "--rounds", 1, "--steps", 2, "--images", 64, "--peers")
    assert result.returncode == 0, result.stderr
    assert rows(result.stdout)[2] == "ours"
    assert sum(row.startswith("floor") for row in rows(result.stdout)) == 2
    last = result.stdout.splitlines()[-1]
    assert last.startswith("- batch 8, hidden 32, 1 thread: ours / floor ")
    assert "PyTorch" not in last


def test_a_contender_that_dies_is_one_line_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import step

    scripts = {
        "ours": "print('null', flush=True)\nwhile input(): print([9, 1, 2], flush=True)",
        "torch": "print('null', flush=True)\ninput()\nraise SystemExit('out of memory')",
        "torch-fused": "raise SystemExit('no such option')",
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(step, "step_worker", lambda name, *sizes: step.Worker([tmp_path / name], 1))
    durations, lost = step.compare([*scripts], 2, 3, ())
    assert durations == {"ours": [1, 2, 1, 2]}
    assert lost["torch"] == "died with exit code 1: out of memory"
    assert lost["torch-fused"] == "died with exit code 1: no such option"
    assert any("PyTorch, SGD: skipped, died" in line for line in step.table(durations, lost, 8))


def test_profile_says_where_the_time_goes(run):
    result = run("benchmarks/step.py", *TINY, "--rounds", 1, "--steps", 2, "--images", 64, "--profile")
    assert result.returncode == 0, result.stderr
    assert rows(result.stdout)[0] == "stage"
    assert {"X W1 + b1", "X^T dz1", "update", "the whole step"} <= set(rows(result.stdout))
    assert "Not in model.py" not in result.stdout


def test_epoch_compares_an_epoch_with_its_steps(run, synthetic_dir):
    result = run("benchmarks/epoch.py", *TINY, "--steps", 1, "--data-dir", synthetic_dir)
    assert result.returncode == 0, result.stderr
    found = rows(result.stdout)
    assert {"**a whole epoch**", "**epoch / (steps + validation)**", "peak memory"} <= set(found)
    assert "| imports matplotlib to train | no " in result.stdout
