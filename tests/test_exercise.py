"""docs/exercise.py: the solution passes, usual mistakes are named, nothing that hangs stops it."""

import json
import shlex
import sys
import types

import numpy as np
import pytest
from helpers import ROOT, called

sys.path.insert(0, str(ROOT / "docs"))
import exercise
from exercise import mistakes

SOLUTION = (ROOT / "docs" / "solution.py").read_text()

# As a student may write it: the function, a line of the solution, the wrong line, what is said.
WRONG = [
    ("linear_forward", "return X @ W + b", "return X @ W", "bias is missing"),
    ("linear_backward", "X.T @ dz + decay", "X.T @ dz / len(X) + decay", "divided by m once more"),
    ("linear_backward", "X.T @ dz + decay * W", "X.T @ dz", "penalty's gradient is missing"),
    ("linear_backward", "db = dz.sum(", "db = dz.mean(", "db is a mean"),
    ("relu_forward", "np.maximum(z, 0)", "abs(z)", "that is |z|"),
    ("relu_backward", "da * (z > 0)", "da", "ReLU is forgotten"),
    ("relu_backward", "da * (z > 0)", "da * (da > 0)", "where da is negative"),
    ("batchnorm_forward", "if train:\n", "if not train:\n", "exchanged"),
    ("batchnorm_forward", "if train:\n", "if False:\n", "running statistics are used in training"),
    ("batchnorm_forward", "z.var(axis=0,", "z.var(axis=0, ddof=1,", "divides by m - 1"),
    ("batchnorm_forward", "np.sqrt(var + EPS)", "(var + EPS)", "not by its square root"),
    ("batchnorm_forward", "np.sqrt(var + EPS)", "np.sqrt(var)", "EPS is missing"),
    ("batchnorm_backward", "dgamma = (", "dgamma = -(", "dgamma has the wrong sign"),
    ("batchnorm_backward", " - dbeta / m - x_hat * dgamma / m", "", "treated as constants"),
    ("batchnorm_backward", "m = len(dout)", "m = 1", "division by m is missing"),
    ("batchnorm_backward", " - x_hat * dgamma / m", "", "variance is treated as a constant"),
    ("batchnorm_backward", "dz * gamma / np", "dz / np", "gamma is missing"),
    ("dropout_forward", "a * mask / (1 - p)", "a * mask", "division by 1 - p is missing"),
    ("dropout_backward", "da * mask / (1 - p)", "da / (1 - p)", "mask is forgotten"),
    ("softmax", "z2 - z2.max(axis=1, keepdims=True)", "z2", "overflows"),
    ("softmax", "axis=1", "axis=0", "wrong axis"),
    ("softmax", "z2.max(axis=1, keepdims=True)", "z2.max()", "of all images"),
    ("softmax", "z2.max(axis=1", "z2.mean(axis=1", "mean of a row"),
    ("cross_entropy", " / len(Y)", "", "sum over the batch"),
    ("cross_entropy_backward", "(y_hat - Y) / len(Y)", "y_hat - Y", "division by m is missing"),
    ("cross_entropy_backward", "(y_hat - Y)", "(Y - y_hat)", "sign is wrong"),
    ("sgd_step", "- rate * g", "+ rate * g", "climbs"),
    ("sgd_step", "momentum * v - rate", "-rate", "momentum is missing"),
]


def student(name, before, after):
    """The solution as a module, with a part of one function replaced."""
    start = SOLUTION.index(f"def {name}(")
    end = SOLUTION.index("\n\n\n", start)
    body = SOLUTION[start:end]
    assert before in body
    module = types.ModuleType("student")
    exec(SOLUTION[:start] + body.replace(before, after) + SOLUTION[end:], vars(module))
    return module


def problem_of(name, module):
    """What the grader says of a function."""
    with np.errstate(all="ignore"), pytest.raises(exercise.Problem) as caught:
        exercise.grade_function(name, module)
    return str(caught.value)


@pytest.mark.parametrize(("name", "before", "after", "named"), WRONG)
def test_a_usual_mistake_is_named(name, before, after, named):
    assert named in problem_of(name, student(name, before, after))


@pytest.mark.parametrize(("name", "before", "after", "named"), WRONG)
def test_a_mistake_comes_with_a_hint(name, before, after, named):
    assert "Hint: " in problem_of(name, student(name, before, after))


@pytest.mark.parametrize("name", mistakes.MISTAKES)
def test_no_two_mistakes_in_a_function_look_alike(name):
    with np.errstate(all="ignore"):
        results = [exercise.results_of(name, wrong) for *_, wrong in mistakes.MISTAKES[name]]
        for i, one in enumerate(results):
            for other in results[:i]:
                assert not all(exercise.same(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("name", "before", "after", "named"),
    [
        ("linear_backward", "return dX, dW, db", "return dX, dW", "must return 3 things"),
        ("linear_backward", "keepdims=True", "keepdims=False", "db has shape (5,)"),
        ("linear_backward", "dz @ W.T", "2 * dz @ W.T", "dX differs from central differences"),
        ("relu_backward", "(z > 0)", "(z > 0) * 2", "its result differs from central differences"),
        ("dropout_backward", "da * mask", "2 * da * mask", "its result differs from central"),
        ("cross_entropy_backward", "(y_hat - Y)", "2 * (y_hat - Y)", "its result differs from"),
        ("relu_forward", "return np.maximum(z, 0)", "z[z < 0] = 0; return z", "in place"),
        ("relu_forward", "return np.maximum(z, 0)", "np.maximum(z, 0)", "a return missing"),
        ("relu_forward", "np.maximum(z, 0)", "z * np.nan", "NaN or infinite entries"),
        ("batchnorm_forward", "- mean)", "+ mean)", "in training"),
        ("batchnorm_backward", "dz * gamma / np.sqrt(var + EPS)", "dz", "dz differs"),
        ("cross_entropy", "len(Y)", "7", "its result is wrong by"),
        ("softmax", "e / e.sum", "'text' or e / e.sum", "not an array of numbers"),
    ],
)
def test_what_is_no_usual_mistake_is_described(name, before, after, named):
    assert named in problem_of(name, student(name, before, after))


def test_the_solution_has_all_points(capsys, tmp_path):
    output = tmp_path / "points.json"
    path = ROOT / "docs" / "solution.py"
    code, _, err = called(exercise.main, capsys, "check", path, "--json", output)
    assert (code, err) == (0, "")
    assert json.loads(output.read_text())["points"] == 100


def test_an_empty_file_has_no_points_and_says_so(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = called(exercise.main, capsys, "new", "mine.py")
    assert (code, err) == (0, "")
    code, out, _ = called(exercise.main, capsys, "check", "mine.py")
    assert code == 1
    assert out.count("is empty") == len(exercise.POINTS)
    assert "0/100" in out


def test_the_empty_file_gives_nothing_away():
    text = exercise.template()
    for line in ("np.maximum(z, 0)", "dz @ W.T", "x_hat * dgamma", "(y_hat - Y)"):
        assert line not in text
    for name in exercise.POINTS.keys() - {"training"}:
        assert f'"{name} is empty"' in text


def test_a_file_is_not_replaced(capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("hours of work")
    code, _, err = called(exercise.main, capsys, "new", path)
    assert code == 2
    assert "exists already" in err
    assert path.read_text() == "hours of work"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("while True: pass", "endless loop"),
        ("return np.ones((10**6, 10**6))", "too much memory"),
        ("raise SystemExit", "SystemExit"),
        ("import os; os._exit(0)", "ended the program"),
        ("return relu_forward(z)", "calls itself"),
        ("return undefined", "NameError"),
    ],
)
def test_what_would_stop_the_grader_ends_in_a_line(body, said, tmp_path, monkeypatch):
    monkeypatch.setattr(exercise, "DEFAULT_SECONDS", 5 if "while" in body else 60)
    path = tmp_path / "mine.py"
    path.write_text(f"import numpy as np\n\n\ndef relu_forward(z):\n    {body}\n")
    assert said in exercise.run_grader("relu_forward", path, tmp_path)


def test_a_syntax_error_names_its_line_once(capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("x = 1\ndef f(:\n")
    code, out, _ = called(exercise.main, capsys, "check", path)
    assert code == 1
    assert out.count("line 2") == 1


def test_an_error_in_a_function_names_its_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def softmax(z2):\n    y = z2\n    return y.undefined\n")
    assert "line 3: fails with AttributeError" in exercise.run_grader("softmax", path, tmp_path)


@pytest.mark.parametrize("line", ["import docs.solution", "from docs import solution"])
def test_nor_can_it_be_imported_from_its_folder(line, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"{line}\n")
    assert "fails with ModuleNotFoundError" in exercise.run_grader("softmax", path, tmp_path)


def test_the_solution_can_not_be_imported(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import solution\nsoftmax = solution.softmax\n")
    assert "No module named 'solution'" in exercise.run_grader("softmax", path, tmp_path)


def test_a_file_of_another_kind_is_one_line(capsys, tmp_path):
    (tmp_path / "mine.txt").write_text("x = 1")
    code, _, err = called(exercise.main, capsys, "check", tmp_path / "mine.txt")
    assert code == 2
    assert "ends in .py" in err


def test_the_graded_file_is_not_replaced(capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOLUTION)
    code, _, err = called(exercise.main, capsys, "check", path, "--json", path)
    assert code == 2
    assert "--json" in err
    assert path.read_text() == SOLUTION


def test_printed_commands_can_be_pasted(capsys, tmp_path):
    path = tmp_path / "my mine.py"
    _, _, err = called(exercise.main, capsys, "check", path)
    words = shlex.split(err.partition("write one with: ")[2])
    assert words[-2:] == ["new", str(path)]
    _, out, _ = called(exercise.main, capsys, *words[-2:])
    assert shlex.split(out.partition("grade it with: ")[2])[-2:] == ["check", str(path)]


def test_a_missing_file_is_one_line(capsys, tmp_path):
    code, _, err = called(exercise.main, capsys, "check", tmp_path / "mine.py")
    assert code == 2
    assert "there is no such file" in err
