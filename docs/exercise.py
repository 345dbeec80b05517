"""The exercise: write the network's functions yourself, and have them graded.

  python docs/exercise.py new mine.py        write a file with empty functions
  python mine.py                             train what you have
  python docs/exercise.py check mine.py      grade it: 100 points in all

Each function is compared with a correct one and, if it returns gradients, with central
differences. The usual mistakes are named with a hint. At the end a short training on drawn images
must reach 25 % (10 % is chance). No data and no network are needed.
"""

import ast
import contextlib
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

# For `data` and `support`, from whichever folder this is started.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support import cli, files
from support.cli import UserError, clean, shorter

import numpy as np

HERE = Path(__file__).resolve().parent


def module_of(path: Path, name: str):
    """Return the module in a file, which nothing can import by its name."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# By path, so that a student's file, which is graded in this process, can't import them.
mistakes = module_of(HERE / "mistakes.py", "mistakes")
solution = module_of(HERE / "solution.py", "solution")

POINTS = {
    "linear_forward": 5,
    "linear_backward": 15,
    "relu_forward": 5,
    "relu_backward": 5,
    "batchnorm_forward": 10,
    "batchnorm_backward": 15,
    "dropout_forward": 5,
    "dropout_backward": 5,
    "softmax": 5,
    "cross_entropy": 5,
    "cross_entropy_backward": 10,
    "sgd_step": 5,
    "training": 10,
}
OUTPUTS = {  # the names of what a function returns, if it is more than one array
    "linear_backward": ("dX", "dW", "db"),
    "batchnorm_forward": ("out", "cache", "running_mean", "running_var"),
    "batchnorm_backward": ("dz", "dgamma", "dbeta"),
    "sgd_step": ("w", "v"),
}
ACCURACY = 0.25  # that the training must reach
TOLERANCE = 1e-7  # relative, in float64
SECONDS = {"training": 300}  # before a function is stopped; the others:
DEFAULT_SECONDS = 60
CASES = {
    "batchnorm_forward": ("training", "inference", "training, a unit that is constant"),
    "softmax": ("usual logits", "large logits", "very negative logits"),
}
MEMORY = 4 << 30  # bytes

# ---- The empty file ------------------------------------------------------------------------------


def template() -> str:
    """Return the student's version of solution.py: the functions to write have no bodies."""
    source = (HERE / "solution.py").read_text(encoding="utf-8")
    lines = source.splitlines()
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    for node in reversed([each for each in functions if each.name in POINTS]):
        docstring, first = node.body[0], node.body[1]
        assert isinstance(docstring, ast.Expr)
        empty = f'    raise NotImplementedError("{node.name} is empty")'
        lines[first.lineno - 1 : node.end_lineno] = [empty]
    text = "\n".join(lines) + "\n"
    return text.replace('PROJECT = "."', f"PROJECT = {str(HERE.parent)!r}")


def new(path: Path) -> None:
    """Write the empty file. Raises UserError if there is a file already."""
    if os.path.lexists(path):
        raise UserError(f"{path}: exists already; choose another name, or delete it")
    with files.write_whole(path) as file:
        file.write(template().encode())
    print(f"{shorter(path)} has {len(POINTS) - 1} functions to fill in, in the order of the file")
    print(f"grade it with: {command_line('check', path)}")


def command_line(command: str, path: Path) -> str:
    """Return a command of this script on a file, as it is typed."""
    return shlex.join([*cli.script("docs/exercise.py"), command, str(shorter(path))])


# ---- Inputs for each function --------------------------------------------------------------------


def cases(name: str) -> list[tuple]:
    """Return argument lists for a function; shapes are uneven, so that a wrong axis shows."""
    rng = np.random.default_rng(0)
    normal = rng.normal
    y_hat = solution.softmax(normal(size=(6, 4)))
    Y = np.eye(4)[[0, 1, 2, 3, 1, 1]]
    z = normal(1.5, 2.0, size=(6, 5))
    units = [normal(size=(1, 5)) for _ in range(3)] + [rng.uniform(0.5, 2, size=(1, 5))]
    mask = (rng.random((6, 5)) > 0.3) * 1.0
    constant = np.where(np.arange(5) == 2, 0.7, z)  # a unit with the same value for all images
    return {
        "linear_forward": [(normal(size=(6, 3)), normal(size=(3, 5)), normal(size=(1, 5)))],
        "linear_backward": [
            (normal(size=(6, 5)), normal(size=(6, 3)), normal(size=(3, 5)), decay)
            for decay in (0.3, 0.0)
        ],
        "relu_forward": [(z - 1.5,)],
        "relu_backward": [(normal(size=(6, 5)), z - 1.5)],
        "batchnorm_forward": [
            (z, *units, True),
            (z, *units, False),
            (constant, *units, True),
        ],
        "batchnorm_backward": [(normal(size=(6, 5)), z, *units, True)],
        "dropout_forward": [(z, mask, 0.3)],
        "dropout_backward": [(normal(size=(6, 5)), mask, 0.3)],
        "softmax": [
            (normal(size=(6, 4)),),
            (np.array([[1e4, 9998.0, -1e4], [3.0, 2.0, 1.0]]),),
            (np.array([[-1e4, -10001.0, -10002.0]]),),
        ],
        "cross_entropy": [(y_hat, Y)],
        "cross_entropy_backward": [(y_hat, Y)],
        "sgd_step": [(normal(size=(4, 3)), normal(size=(4, 3)), normal(size=(4, 3)), 0.1, 0.8)],
    }[name]


def call(name: str, function: Callable, module, arguments: tuple) -> tuple[np.ndarray, ...]:
    """Return what a function returns for copies of the arguments, as a tuple without the cache."""
    copies = [each.copy() if isinstance(each, np.ndarray) else each for each in arguments]
    if name == "batchnorm_backward":
        dout, *forward_arguments = copies
        try:
            out, cache, _, _ = module.batchnorm_forward(*forward_arguments)
        except NotImplementedError:
            raise Problem("needs batchnorm_forward, which is empty") from None
        except (TypeError, ValueError):
            raise Problem("needs batchnorm_forward, which doesn't return four things") from None
        if not same((out,), solution.batchnorm_forward(*arguments[1:])[:1]):
            raise Problem("needs a correct batchnorm_forward; mend that first")
        copies, arguments = [dout, cache], (arguments[0], cache)
    result = function(*copies)
    for given, copy in zip(arguments, copies, strict=True):
        if isinstance(given, np.ndarray) and not np.array_equal(given, copy):
            raise Problem("changes one of its arguments in place; work on a new array")
    if name not in OUTPUTS:
        return (result,)
    names = OUTPUTS[name]
    if not isinstance(result, tuple | list) or len(result) != len(names):
        raise Problem(f"must return {len(names)} things: {', '.join(names)}")
    if name == "batchnorm_forward" and any(isinstance(each, tuple) for each in result[2:]):
        raise Problem(f"must return {', '.join(names)}, in this order")
    return tuple(each for each, what in zip(result, names, strict=True) if what != "cache")


def numerical_gradients(name: str, arguments: tuple) -> dict[str, np.ndarray]:
    """Return, by central differences, the gradients that a backward function should return."""
    if name == "linear_backward":
        dz, X, W, decay = arguments
        b = np.zeros((1, W.shape[1]))

        def loss(X, W, b):
            return (solution.linear_forward(X, W, b) * dz).sum() + decay / 2 * (W**2).sum()

        return dict(zip(OUTPUTS[name], differences(loss, [X, W, b]), strict=True))
    if name == "batchnorm_backward":
        dout, z, gamma, beta, *running = arguments

        def loss(z, gamma, beta):
            return (solution.batchnorm_forward(z, gamma, beta, *running)[0] * dout).sum()

        return dict(zip(OUTPUTS[name], differences(loss, [z, gamma, beta]), strict=True))
    if name == "relu_backward":
        da, z = arguments
        (dz,) = differences(lambda z: (solution.relu_forward(z) * da).sum(), [z])
        return {"its result": dz}
    if name == "dropout_backward":
        da, mask, p = arguments
        a = np.ones_like(da)
        (found,) = differences(lambda a: (solution.dropout_forward(a, mask, p) * da).sum(), [a])
        return {"its result": found}
    y_hat, Y = arguments
    z2 = np.log(y_hat)
    (dz2,) = differences(lambda z2: solution.cross_entropy(solution.softmax(z2), Y), [z2])
    return {"its result": dz2}


def differences(loss: Callable, arrays: list[np.ndarray], step: float = 1e-5) -> list[np.ndarray]:
    """Return d loss / d array for each array."""
    gradients = []
    for which, array in enumerate(arrays):
        gradient = np.empty_like(array)
        for index in np.ndindex(array.shape):
            ends = []
            for change in (step, -step):
                moved = [each.copy() for each in arrays]
                moved[which][index] += change
                ends.append(loss(*moved))
            gradient[index] = (ends[0] - ends[1]) / (2 * step)
        gradients.append(gradient)
    return gradients


# ---- Grading one function, in a process of its own -----------------------------------------------


class Problem(Exception):
    """What is wrong with a student's function, in words."""


def load(path: Path):
    """Return the student's file as a module. Raises Problem if it doesn't load."""
    # The student's file is to have code of its own: nothing in this folder is importable from it.
    sys.path[:] = [folder for folder in sys.path if Path(folder or ".").resolve() != HERE]
    sys.modules["docs"] = None
    try:
        return module_of(path, "student")
    except SyntaxError as error:
        raise Problem(f"line {error.lineno}: {error.msg}; mend this first") from None


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, relative to the largest entry."""
    scale = max(np.abs(expected).max(), 1e-30)
    difference = np.abs(found - expected).max() / scale
    return float("inf") if np.isnan(difference) else float(difference)


def same(found: tuple, expected: tuple) -> bool:
    """Return whether two results are equal up to rounding, with NaN equal to NaN."""
    if len(found) != len(expected):
        return False
    for one, other in zip(found, expected, strict=True):
        try:
            one, other = np.asarray(one, float), np.asarray(other, float)
        except (TypeError, ValueError):
            return False
        if one.shape != other.shape:
            return False
        if not np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True):
            return False
    return True


def check_shapes(name: str, found: tuple, expected: tuple) -> None:
    """Raise Problem unless the arrays are numbers of the right shapes."""
    names = [what for what in OUTPUTS.get(name, ("its result",)) if what != "cache"]
    for what, mine, correct in zip(names, found, expected, strict=True):
        if mine is None:
            raise Problem(f"{what} is None: is a return missing?")
        try:
            array = np.asarray(mine, float)
        except (TypeError, ValueError):
            raise Problem(f"{what} is {type(mine).__name__}, not an array of numbers") from None
        if array.shape != np.shape(correct):
            wanted = np.shape(correct)
            raise Problem(f"{what} has shape {array.shape} instead of {wanted}")


def recognise(name: str, found: list[tuple], expected: list[tuple]) -> str | None:
    """Return the mistake that explains these results, with its hint.

    It explains them if they equal its own wherever its own are wrong: one mistake may spoil other
    results as well, in one student's code and not in another's.
    """
    for what, hint, wrong in mistakes.MISTAKES[name]:
        pairs = []
        for mine, theirs, correct in zip(found, results_of(name, wrong), expected, strict=True):
            for one, other, truth in zip(mine, theirs, correct):  # noqa: B905, () if it crashed
                if not same((other,), (truth,)):
                    pairs.append(((one,), (other,)))
        if pairs and all(same(*pair) for pair in pairs):
            return f"{what}. Hint: {hint}"
    return None


def results_of(name: str, wrong: Callable) -> list[tuple]:
    """Return what a mistake gives in each case; () if it crashes there."""
    results = []
    for arguments in cases(name):
        try:
            results.append(call(name, wrong, solution, arguments))
        except Exception:
            results.append(())
    return results


def grade_function(name: str, module) -> None:
    """Raise Problem unless the student's function is correct."""
    function = getattr(module, name, None)
    if not callable(function):
        raise Problem("is missing in the file")
    correct = getattr(solution, name)
    found = [call(name, function, module, arguments) for arguments in cases(name)]
    expected = [call(name, correct, solution, arguments) for arguments in cases(name)]
    if all(same(*each) for each in zip(found, expected, strict=True)):
        return
    if mistake := recognise(name, found, expected):
        raise Problem(mistake)
    titles = CASES.get(name, ("",) * len(found))
    for title, arguments, mine, reference in zip(titles, cases(name), found, expected, strict=True):
        check_shapes(name, mine, reference)
        check_values(name, title, arguments, mine, reference)


def check_values(name: str, title: str, arguments: tuple, found: tuple, expected: tuple) -> None:
    """Raise Problem for the first array that differs, if any does. title: of the case."""
    case = f" (in {title})" if title else ""
    names = [what for what in OUTPUTS.get(name, ("its result",)) if what != "cache"]
    for what, mine, reference in zip(names, found, expected, strict=True):
        mine = np.asarray(mine, float)
        if error(mine, reference) <= TOLERANCE:
            continue
        wrong = np.argwhere(~np.isfinite(np.atleast_2d(mine)))
        if len(wrong):
            raise Problem(f"{what} has NaN or infinite entries, in row {wrong[0][0]}{case}")
        if name.endswith("backward"):
            away = error(mine, numerical_gradients(name, arguments)[what])
            raise Problem(f"{what} differs from central differences by {away:.0e} (relative)")
        index = np.unravel_index(np.abs(mine - reference).argmax(), np.shape(reference))
        entry = f", most at {tuple(map(int, index))}" if index else ""
        away = error(mine, reference)
        raise Problem(f"{what} is wrong by {away:.0e} (relative){entry}{case}")


def grade_training(module) -> None:
    """Raise Problem unless the student's network learns drawn images."""
    from data.synthetic import synthetic

    pixels, labels = synthetic(5000, np.random.default_rng(0))
    X, Y = pixels / 255, np.eye(10)[labels]
    w = module.train(X[:4000], Y[:4000])
    if not all(np.isfinite(array).all() for array in w.values()):
        raise Problem("the weights are not finite: some gradient is wrong")
    # Not by the student's accuracy, which may return anything.
    accuracy = solution.accuracy(w, X[4000:], Y[4000:])
    if accuracy < ACCURACY:
        raise Problem(f"validation accuracy {accuracy:.1%}, and {ACCURACY:.0%} is to be reached")


def grade_one(name: str, path: Path, result: Path) -> None:
    """Grade one function, and write what is wrong, or nothing, to a file. Runs student's code."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    problem = ""
    try:
        with np.errstate(all="ignore"):
            module = load(path)
            if name == "training":
                grade_training(module)
            elif name != "load":
                grade_function(name, module)
    except Problem as found:
        problem = str(found)
    except NotImplementedError as empty:
        problem = str(empty) or "is empty"
    except MemoryError:
        problem = "asks for too much memory: is an array larger than it should be?"
    except RecursionError:
        problem = "calls itself without end"
    except (Exception, SystemExit) as failed:
        trace = traceback.extract_tb(failed.__traceback__)
        lines = [frame.lineno for frame in trace if frame.filename == str(path)]
        start = f"line {lines[-1]}: " if lines else ""
        problem = f"{start}fails with {type(failed).__name__}: {failed}"
    result.write_text(json.dumps(clean(problem, 200)), encoding="utf-8")


# ---- Grading a file ------------------------------------------------------------------------------


def run_grader(name: str, path: Path, folder: Path) -> str:
    """Return what is wrong with one function, "" if nothing is, from a process of its own."""
    result = folder / f"{name}.json"
    command = [sys.executable, str(HERE / "exercise.py"), "grade-one", name, str(path), str(result)]
    seconds = SECONDS.get(name, DEFAULT_SECONDS)
    try:
        subprocess.run(
            command,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what a student prints belongs to the student
            stderr=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"took more than {seconds} s: is there an endless loop?"
    try:
        return json.loads(result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "ended the program, or asked for too much memory"


def find_problems(path: Path, folder: Path) -> dict[str, str]:
    """Return what is wrong with each function, "" if nothing is."""
    fault = run_grader("load", path, folder)
    if fault:
        print(f"{path.name}: {fault}")
        return dict.fromkeys(POINTS, "the file doesn't load")
    problems = {}
    for name in shown_progress(POINTS):
        if name == "training" and any("took more than" in each for each in problems.values()):
            problems[name] = "not run, as a function takes too long"
            continue
        problems[name] = run_grader(name, path, folder)
    return problems


def check(path: Path, output: Path | None) -> int:
    """Grade a file, print a table, and return the exit code: 0 if all points are reached."""
    if path.suffix != ".py":
        raise UserError(f"{path}: a Python file is expected, whose name ends in .py")
    path = path.absolute()  # the graders' too, wherever they are started
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file; write one with: {command_line('new', path)}"
        )
    if output and os.path.realpath(output) == os.path.realpath(path):
        raise UserError(f"--json {shorter(output)}: is the graded file; choose another name")
    with tempfile.TemporaryDirectory() as folder:
        problems = find_problems(path, Path(folder))
    total = 0
    print(f"{'function':<24}points")
    for name, problem in problems.items():
        points = 0 if problem else POINTS[name]
        total += points
        print(f"{name:<24}{points:>3}/{POINTS[name]:<3}  {problem or 'correct'}")
    print(f"{'total':<24}{total:>3}/100")
    if output:
        report = {"points": total, "of": 100, "functions": {}}
        for name, problem in problems.items():
            points = 0 if problem else POINTS[name]
            report["functions"][name] = {"points": points, "of": POINTS[name], "problem": problem}
        with files.write_whole(output) as file:
            file.write(json.dumps(report, indent=1).encode())
        print(f"written to {shorter(output)}")
    return 0 if total == 100 else 1


def shown_progress(names):
    """Return the names behind a progress bar on a terminal."""
    from tqdm import tqdm

    return tqdm(names, desc="grading", unit=" functions", leave=False, disable=None)


# ---- The command line ----------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    parser = cli.ArgumentParser(prog="exercise.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="new|check")
    make = commands.add_parser("new", help="write a file with empty functions")
    make.add_argument("file", type=cli.output_path, metavar="MINE.py")
    grade = commands.add_parser("check", help="grade such a file")
    grade.add_argument("file", type=cli.user_path, metavar="MINE.py")
    grade.add_argument("--json", type=cli.output_path, metavar="FILE", help="for a gradebook")
    args = parser.parse_args(argv)
    if args.command == "new":
        new(args.file)
        return 0
    return check(args.file, args.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["grade-one"]:  # the grader's own process
        grade_one(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        sys.exit(cli.command(main))
