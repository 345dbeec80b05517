"""support/cli.py: errors in one line, the parser, names of files, exit codes."""

import argparse
import errno
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from support import cli

import numpy as np
import pytest
from helpers import ROOT, called, line_of

# ---- Errors in one line --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n\t b", "a b"),
        ("\x1b[31m\x00\udcff\x7f\u202e", "?[31m????"),
        ("c ü€", "c ü€"),
        (17, "17"),
        ("", ""),
    ],
)
def test_clean_keeps_what_a_terminal_shows(text, line):
    assert cli.clean(text) == line


def test_clean_cuts_values_and_keeps_file_fault_and_remedy():
    path = "folder/" * 20 + "file"
    text = cli.clean(f"{path}: holds {'9' * 10_000}; restore it by {'x' * 400}")
    assert len(text) == 300
    assert text.startswith(f"{path}: holds 999")
    assert "; restore it by xxx" in text


@pytest.mark.parametrize(
    "text", ["word " * 1000, "x" * 299 + " " + "y" * 299, "ab " * 10**6, "x" * 10**7]
)
def test_clean_keeps_to_its_limit(text):
    assert len(cli.clean(text)) == 300
    assert len(cli.clean(text, 20)) == 20


def test_an_error_is_one_line():
    with pytest.raises(cli.UserError) as caught:
        raise cli.UserError("file.npz: " + "\x1b\ud800\n" * 1000 + "; mend it")
    line_of(caught, "file.npz: ?? ?", "mend it")


# ---- The parser ----------------------------------------------------------------------------------


@pytest.fixture
def parser():
    parser = cli.ArgumentParser(prog="x.py")
    parser.add_argument("--lambda_reg", type=float)
    parser.add_argument("--hidden-size", type=int, default=0, help="units")
    parser.add_argument("--out-file", type=cli.output_path)
    parser.add_argument("rest", nargs="*")
    cli.add_threads(parser)
    return parser


def test_flags_are_known_with_dashes_and_with_underscores(parser):
    args = parser.parse_args(["--lambda-reg=1", "--hidden_size", "2"])
    assert (args.lambda_reg, args.hidden_size) == (1, 2)


def test_values_keep_their_underscores(parser):
    assert str(parser.parse_args(["--out_file=--a_b=c_d"]).out_file) == "--a_b=c_d"
    assert str(parser.parse_args(["--out-file", "a_b"]).out_file) == "a_b"
    assert parser.parse_args(["--", "--x_y"]).rest == ["--x_y"]


def test_help_shows_the_defaults(parser):
    text = parser.format_help()
    assert "units (default: 0)" in text
    assert "(default: None)" not in text


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--hiden-size"], "--hiden-size; did you mean --hidden-size?"),
        (["--lamda_reg_"], "--lamda_reg_; did you mean --lambda_reg?"),
        (["--hidden"], "unrecognized arguments: --hidden"),
        (["--" + "x" * 10**6, "\x1b"], "unrecognized arguments: --xxx"),
        (["--hidden-size", "9" * 5000], "argument --hidden-size: "),
        (["--hidden-size", "\x1b[31m\udcff"], "argument --hidden-size: "),
        (["--hidden-size"], "argument --hidden-size: expected one argument"),
        (["--threads", "0"], "argument --threads: '0' "),
        (["--threads", "1025"], " from 1 to 1024"),
        (["--threads", "9" * 5000], "argument --threads: '999"),
        (["--threads", "two"], "argument --threads: 'two' "),
    ],
)
def test_wrong_arguments_are_one_line(parser, argv, line, capsys):
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(argv)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("x.py: error: ")
    assert line in err
    assert err.endswith("; see x.py --help\n")
    assert err[:-1].isprintable()
    assert len(err) <= 301


# ---- Names of files ------------------------------------------------------------------------------


@pytest.mark.parametrize("parse", [cli.output_path, cli.output_folder])
@pytest.mark.parametrize(
    "text", ["", "a\0b", "a\udcffb", "a\nb", "\x1b[31m", "~nobody-of-that-name/x", "x" * 256]
)
def test_names_that_no_file_can_have_are_one_line(parse, text):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        parse(text)
    line_of(caught, ";")


@pytest.mark.parametrize("text", ["x", "new/x", "file", "~/x", "ü", "x" * 255, "a b"])
def test_a_file_to_write_need_not_exist(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert cli.output_path(text) == cli.user_path(text)


@pytest.mark.parametrize("text", [".", "..", "/", "new/", "folder", "file/x", "file/x/y"])
def test_a_file_to_write_is_no_folder_and_in_no_file(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(argparse.ArgumentTypeError, match="folder"):
        cli.output_path(text)


@pytest.mark.parametrize("folder", [".", "new", "new/folder"])
def test_a_folder_without_permission_to_write_names_the_flag(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.check_writable(Path(folder), "--out")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(cli.UserError, match="is not writable; choose another --out"):
        cli.check_writable(Path(folder), "--out")


def test_a_dash_as_a_file_to_write_names_the_file_of_standard_output():
    with pytest.raises(argparse.ArgumentTypeError, match="/dev/stdout"):
        cli.output_path("-")


@pytest.mark.parametrize("text", ["file", "file/x", "/", "//"])
def test_a_folder_to_write_is_no_file_and_has_a_name(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(argparse.ArgumentTypeError, match="folder"):
        cli.output_folder(text)


def test_a_folder_to_write_need_not_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(cli.output_folder("new/folder/")) == os.path.join("new", "folder")


def test_home_is_expanded():
    assert cli.user_path("~/x").is_absolute()


def test_paths_are_shown_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.shorter(tmp_path / "a").parts == ("a",)
    assert cli.shorter(ROOT) == ROOT


# ---- The command that resumes a run --------------------------------------------------------------


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    return tmp_path / "state"


def test_a_run_without_a_state_is_repeated_as_typed(state):
    line = cli.stopped("train.py", state, ["--output", "a b", "--overwrite"], "; kept")
    again = "python train.py --output 'a b' --overwrite"
    assert line == f"stopped before anything was saved; start again with: {again}"


def test_a_run_with_a_state_is_resumed(state):
    state.touch()
    line = cli.stopped("train.py", state, ["--output", "a b", "--overwrite"], "; kept")
    assert line == "stopped; kept; resume with: python train.py --output 'a b' --resume"


def test_the_state_of_another_run_is_not_resumed(state):
    state.touch()
    os.utime(state, (0, 0))
    line = cli.stopped("search.py", state, ["--seed", "1"])
    assert line.endswith("start again with: python search.py --seed 1")


def test_resume_is_typed_once(state, monkeypatch):
    state.touch()
    monkeypatch.setattr(sys, "argv", ["x", "--resume", "--seed", "1"])
    line = cli.stopped("search.py", state)
    assert line == "stopped; resume with: python search.py --seed 1 --resume"


def test_an_earlier_run_is_resumed_as_typed(state):
    state.touch()
    os.utime(state, (0, 0))
    line = cli.stopped("train.py", state, ["--resume", "--seed", "1"])
    assert line == "stopped; resume with: python train.py --resume --seed 1"


def test_what_was_never_saved_is_not_resumed(state):
    line = cli.stopped("train.py", state, ["--resume"])
    assert line.startswith("stopped before anything was saved; start again with: ")


def test_the_script_is_found_from_another_folder(state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = cli.stopped("train.py", state, [])
    assert shlex.split(line.partition("with: ")[2]) == ["python", str(ROOT / "train.py")]


# ---- A script's whole work -----------------------------------------------------------------------


class Special(cli.UserError):
    pass


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (Special("file: wrong;\n mend it"), 2, "file: wrong; mend it\n"),
        (PermissionError(errno.EACCES, "Permission denied", "f\x1b"), 2, "f?: Permission denied; "),
        (OSError(errno.EROFS, "Read-only file system", "f"), 2, "f: Read-only file system; "),
        (MemoryError(), 2, "not enough memory; "),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (KeyboardInterrupt("resume: " + "x " * 300), 130, f"resume: {'x ' * 299}x\n"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(raised, code, line, capsys, monkeypatch):
    def main():
        raise raised

    monkeypatch.setattr(sys, "argv", ["/x/t.py"])
    assert cli.command(main) == code
    err = capsys.readouterr().err.lstrip("\n")
    assert err.removeprefix("t.py: ").removeprefix("error: ").startswith(line)
    assert err.count("\n") == 1


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_what_main_returns(code):
    assert cli.command(lambda: code) == code


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.command(lambda: 1 / 0)


def test_memory_that_numpy_lacks_is_one_line(capsys):
    code, _, err = called(lambda argv: np.empty(1 << 52), capsys)
    assert code == 2
    assert "not enough memory" in err


START = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
sys.argv[0] = "t.py"
from support import cli
"""
SLEEP = """
import time
def main():
    try:
        print("ready", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; continue by --resume") from None
sys.exit(cli.command(main))
"""


def stopped(argv, number):
    """Send a signal to a process as soon as it prints "ready"; return exit code and stderr."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, *argv], **options) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        err = process.communicate(timeout=120)[1]
    return process.returncode, err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_are_one_line(number, code):
    assert stopped(["-c", START + SLEEP], number) == (
        code,
        "\nt.py: stopped; continue by --resume\n",
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_an_interrupt_during_imports_is_one_line(tmp_path):
    script = tmp_path / "t.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"sys.modules['__main__'].__file__ = {str(ROOT / 't.py')!r}\n"
        "from support import cli\nprint('ready', flush=True)\nimport time\ntime.sleep(600)\n"
    )
    code, err = stopped([script], signal.SIGINT)
    assert code in (130, -signal.SIGINT)
    assert err == "\nt.py: interrupted\n"


@pytest.mark.skipif(os.name == "nt", reason="needs a shell's redirections")
@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("main", "code"),
    [
        ("lambda: print('hello')", 0),
        ("lambda: cli.ArgumentParser().parse_args(['--bad'])", 2),
        ("lambda: open('/missing')", 2),
    ],
    ids=["a result", "a wrong flag", "an error"],
)
def test_a_closed_or_full_stream_keeps_the_exit_code(main, code, redirection):
    script = f"{START}\nsys.exit(cli.command({main}))"
    command = f"{shlex.join([sys.executable, '-c', script])} {redirection}"
    done = subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_the_handler_of_sigterm_is_restored():
    before = signal.getsignal(signal.SIGTERM)
    cli.command(lambda: None)
    assert signal.getsignal(signal.SIGTERM) is before


def test_names_that_the_terminal_lacks_are_escaped():
    done = subprocess.run(
        [sys.executable, "-c", START + "sys.exit(cli.command(lambda: print('ü\\ud800')))"],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\xfc\\ud800\n", "")


def test_numpy_is_whole_before_ctrl_c_may_interrupt():
    # numpy.random would be loaded at its first use, and would lose a Ctrl-C.
    script = "import sys; from support import startup; print('numpy.random' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "True\n"
