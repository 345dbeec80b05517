"""support/cli.py: errors in one line, the parser, names of files, exit codes."""

import argparse
import errno
import os
import shlex
import signal
import subprocess
import sys
import time

from support import cli

import numpy as np
import pytest
from conftest import ROOT, called, line_of

# ---- Errors in one line ---------------------------------------------------------------------------------------------


def test_clean():
    assert cli.clean("a\n\t b\x1b[31m\x00\udcff\x7f\u202e c ü€") == "a b?[31m???? c ü€"
    assert cli.clean(17) == "17"
    assert cli.clean("") == ""
    path = "folder/" * 20 + "file"
    text = cli.clean(f"{path}: holds {'9' * 10_000}; restore it by {'x' * 400}")
    assert len(text) == 300
    assert text.startswith(f"{path}: holds 999")
    assert "; restore it by xxx" in text
    assert len(cli.clean("word " * 1000)) == 300
    assert len(cli.clean("x" * 299 + " " + "y" * 299)) <= 300
    start = time.process_time()
    assert len(cli.clean("ab " * 10**7)) == 300
    assert len(cli.clean("x" * 10**8, 20)) == 20
    assert time.process_time() - start < 1


def test_an_error_is_one_line():
    with pytest.raises(cli.UserError) as caught:
        raise cli.UserError("file.npz: " + "\x1b\ud800\n" * 1000 + "; mend it")
    line_of(caught, "file.npz: ?? ?", "mend it")


# ---- The parser -----------------------------------------------------------------------------------------------------


def make_parser():
    parser = cli.ArgumentParser(prog="x.py")
    parser.add_argument("--lambda_reg", type=float)
    parser.add_argument("--hidden-size", type=int, default=0, help="units")
    parser.add_argument("--out-file", type=cli.output_path)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--version", action="version", version="1")
    parser.add_argument("--learning-rate", type=lambda text: float(int(text)))
    cli.add_threads(parser)
    return parser


def test_parser():
    parser = make_parser()
    parser.add_argument("rest", nargs="*")
    args = parser.parse_args(
        ["--lambda-reg=1", "--hidden_size", "2", "--out_file=--a_b=c_d", "--", "--x_y"]
    )
    assert (args.lambda_reg, args.hidden_size, str(args.out_file), args.rest) == (
        1,
        2,
        "--a_b=c_d",
        ["--x_y"],
    )
    assert str(parser.parse_args(["--out-file", "a_b"]).out_file) == "a_b"
    assert "units (default: 0)" in parser.format_help()
    assert args.threads >= 1


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["--hiden-size", "1"],
            "unrecognized arguments: --hiden-size 1; did you mean --hidden-size?",
        ),
        (
            ["--lamda_reg_", "1"],
            "unrecognized arguments: --lamda_reg_ 1; did you mean --lambda_reg?",
        ),
        (["--overwrit"], "unrecognized arguments: --overwrit; see"),
        (["--versions"], "unrecognized arguments: --versions; see"),
        (["--hel"], "unrecognized arguments: --hel; see"),
        (["--hidden"], "unrecognized arguments: --hidden"),
        (["--" + "x" * 10**6, "\x1b"], "unrecognized arguments: --xxx"),
        (["a b " * 1000] * 1000, "unrecognized arguments: a b a"),
        (["--hidden-size", "9" * 5000], "argument --hidden-size: invalid int value: '999"),
        (["--hidden-size", "9" * 10**6], "argument --hidden-size: "),
        (["--hidden-size", "\x1b[31m\udcff"], "argument --hidden-size: "),
        (["--learning-rate", "9" * 400], "argument --learning-rate: '999"),
        (["--threads", "0"], "argument --threads: '0' is no integer from 1 to 1024"),
        (["--threads", "1025"], "argument --threads: '1025' is no integer from 1 to 1024"),
        (["--threads", "9" * 5000], "argument --threads: '999"),
        (["--threads", "two"], "argument --threads: 'two' is no integer"),
        (["--hidden-size"], "argument --hidden-size: expected one argument"),
    ],
)
def test_wrong_arguments_are_one_line(argv, line, capsys):
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args(argv)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"x.py: error: {line}")
    assert err.endswith("; see x.py --help\n")
    assert err[:-1].isprintable()
    assert len(err) <= 301


# ---- Names of files -------------------------------------------------------------------------------------------------

NO_NAMES = [
    "",
    "a\0b",
    "a\udcffb",
    "a\nb",
    "\x1b[31m",
    "~nobody-of-that-name/x",
    "x" * 256,
    "ü" * 128,
    "a/" * 3000 + "b",
]


@pytest.mark.parametrize("text", NO_NAMES)
def test_names_that_no_file_can_have(text):
    for parse in (cli.output_path, cli.output_folder):
        with pytest.raises(argparse.ArgumentTypeError) as caught:
            parse(text)
        line_of(caught, ";")


def test_names_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    os.symlink("loop", "loop")
    for text in (".", "..", "/", "new/", str(tmp_path), "file/x", "file/x/y"):
        with pytest.raises(argparse.ArgumentTypeError):
            cli.output_path(text)
    for text in ("x", "new/x", "file", "~/x", "ü", "x" * 255, "a b"):
        assert cli.output_path(text) == cli.user_path(text)
    assert cli.user_path("~/x").is_absolute()
    for text in ("file", "file/x"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no folder"):
            cli.output_folder(text)
    for text in ("/", "//", "///"):
        with pytest.raises(argparse.ArgumentTypeError, match="name a folder in it"):
            cli.output_folder(text)
    assert str(cli.output_folder("new/folder/")) == "new/folder"
    assert str(cli.shorter(tmp_path / "a" / "b")) == "a/b"
    assert cli.shorter("/") == cli.shorter("/").absolute()


def test_resumed(monkeypatch, tmp_path):
    state, argv = tmp_path / "state", ["--output", "a b", "--overwrite"]
    monkeypatch.chdir(tmp_path)
    train, search = (shlex.join(["python", str(ROOT / name)]) for name in ("train.py", "search.py"))
    assert cli.resumed("train.py", state, argv) == f"{train} --output 'a b' --overwrite"
    state.touch()
    assert cli.resumed("train.py", state, argv) == f"{train} --output 'a b' --resume"
    monkeypatch.setattr(sys, "argv", ["x", "--resume", "--seed", "1"])
    assert cli.resumed("search.py", state) == f"{search} --seed 1 --resume"
    os.utime(state, (0, 0))  # another run's
    assert cli.resumed("search.py", state) == f"{search} --resume --seed 1"
    assert cli.resumed("train.py", state, argv) == f"{train} --output 'a b' --overwrite"
    monkeypatch.chdir(ROOT)
    assert cli.resumed("train.py", state, argv) == "python train.py --output 'a b' --overwrite"


# ---- A script's whole work ------------------------------------------------------------------------------------------


class Mended(cli.UserError):
    pass


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (None, 0, ""),
        (Mended("file: wrong;\n mend it"), 2, "t.py: error: file: wrong; mend it\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "f\x1b"),
            2,
            "t.py: error: f?: Permission denied; change its permissions or choose another place\n",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "f"),
            2,
            "t.py: error: f: Read-only file system; choose another place\n",
        ),
        (
            MemoryError(),
            2,
            "t.py: error: not enough memory; choose fewer hidden units, a smaller --batch-size or less data\n",
        ),
        (KeyboardInterrupt(), 130, "\nt.py: interrupted\n"),
        (
            KeyboardInterrupt("go on with: " + "x " * 300),
            130,
            f"\nt.py: go on with: {'x ' * 299}x\n",
        ),
    ],
)
def test_command(raised, code, line, capsys, monkeypatch):
    def main():
        if raised:
            raise raised

    monkeypatch.setattr(sys, "argv", ["/x/t.py"])
    assert cli.command(main) == code
    assert capsys.readouterr().err == line


def test_command_hides_no_bug():
    with pytest.raises(ZeroDivisionError):
        cli.command(lambda: 1 / 0)
    assert cli.command(lambda code: code, 3) == 3


def test_memory_that_numpy_lacks_is_one_line(capsys):
    assert called(lambda argv: np.empty(1 << 52), capsys)[0] == 2


START = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[0] = 't.py'\nfrom support import cli\n"
STOPPED = """
import os, signal, time
def main():
    try:
        print("ready", flush=True)
        time.sleep(20)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; go on with --resume") from None
sys.exit(cli.command(main))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_are_one_line(number, code):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", START + STOPPED], **options) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=20)[1] == "\nt.py: stopped; go on with --resume\n"
        assert process.returncode == code


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    cli.command(lambda: None)
    assert signal.getsignal(signal.SIGTERM) is before


def shell(code, redirection):
    """A script of ours with its streams redirected as a shell does: (exit code, stdout, stderr)"""
    line = f'exec "$0" -c "$1" {redirection}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, START + code], capture_output=True, text=True, timeout=30
    )
    return done.returncode, done.stdout, done.stderr


PRINTS = """
def main():
    for i in range(3):
        print("out", i, flush=True)
        print("err", i, file=sys.stderr)
    with open("written", "w") as file:
        file.write("file")
    assert open("written").read() == "file"
    if {fails}:
        raise cli.UserError("wrong; mend it")
sys.exit(cli.command(main))
"""


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams(tmp_path, monkeypatch, redirection, fails):
    monkeypatch.chdir(tmp_path)
    code, out, err = shell(
        PRINTS.format(fails=fails).replace('print("err", i, file=sys.stderr)', "pass"), redirection
    )
    assert code == (2 if fails else 0)
    assert out == (
        "" if ">&- " in f" {redirection} ".replace("2>&-", "") else "out 0\nout 1\nout 2\n"
    )
    assert err == ("t.py: error: wrong; mend it\n" if fails and "2>" not in redirection else "")
    assert (tmp_path / "written").read_text() == "file"


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_names_that_the_terminal_lacks(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    code, out, err = shell("sys.exit(cli.command(lambda: print('ü\\ud800')))", "")
    assert (code, out, err) == (0, "\\xfc\\ud800\n", "")


def test_an_interrupt_during_imports_is_one_line(tmp_path):
    script = tmp_path / "t.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"sys.modules['__main__'].__file__ = {str(ROOT / 't.py')!r}\n"
        "from support import cli\nprint('ready', flush=True)\nimport time\ntime.sleep(20)\n"
    )
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, script], **options) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[1] == "\nt.py: interrupted\n"
        assert process.returncode in (130, -signal.SIGINT)
