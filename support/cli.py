"""What the command lines of all scripts share: the parser, errors in one line, exit codes, names of files."""

import argparse
import contextlib
import difflib
import errno
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from support.startup import ROOT

LINE = 300  # characters; no line that reports an error is longer
TEXT = 270  # characters of an error, which leave room for the script's name in the line
MAX_THREADS = 1024
_STARTED = time.time()
DESTRUCTIVE = ("--overwrite", "--help", "--version")  # never suggested for a mistyped flag

# ---- Errors in one line ---------------------------------------------------------------------------------------------


def clean(text: object, limit: int = LINE) -> str:
    """One line of at most `limit` characters that a terminal shows as it is.

    Whitespace is folded, and what isn't printable (control characters, lone surrogates) becomes '?'. What is too long
    loses characters in the middle: first its longest words, which are values and paths, so that the fault and the
    remedy around them survive, and the first word, which names the file, last.
    """
    text = str(text)
    if len(text) > 20 * limit:  # what follows would take long for megabytes
        text = _cut(text, 20 * limit)
    words = "".join(c if c.isprintable() or c.isspace() else "?" for c in text).split()
    while (excess := len(" ".join(words)) - limit) > 0:
        # The first word, which names the file, keeps its length longest.
        longest = max(
            range(len(words)), key=lambda i: min(len(words[i]), 61 if i == 0 else len(words[i]))
        )
        if len(words[longest]) <= 60:
            return _cut(" ".join(words), limit)
        words[longest] = _cut(words[longest], max(60, len(words[longest]) - excess))
    return " ".join(words)


def _cut(text: str, limit: int) -> str:
    """The text without its middle, where it is longer than `limit` characters."""
    half = (limit - 1) // 2
    return text if len(text) <= limit else f"{text[: limit - 1 - half]}…{text[len(text) - half :]}"


class UserError(Exception):
    """What a user can mend, in one line: the file or flag, the fault, the remedy."""

    def __init__(self, text: object = "") -> None:
        super().__init__(clean(text, TEXT))


# ---- The parser -----------------------------------------------------------------------------------------------------


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the defaults that say something, and keeps the line breaks of the description."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_nothing = action.default is None or action.default is False
        return action.help if says_nothing else super()._get_help_string(action)


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, but --some_flag is --some-flag, no flag is abbreviated, and an error is one line."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(
            *args, **{"allow_abbrev": False, "formatter_class": _HelpFormatter} | kwargs
        )

    def parse_known_args(self, args=None, namespace=None):
        flags = {flag.replace("_", "-"): flag for flag in self._option_string_actions}
        args = list(sys.argv[1:] if args is None else args)
        end = args.index("--") if "--" in args else len(args)
        for i, arg in enumerate(args[:end]):
            flag, equals, value = arg.partition("=")
            if flag.startswith("--"):
                args[i] = flags.get(flag.replace("_", "-"), flag) + equals + value
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0].replace("_", "-")[:40]
            candidates = [each for each in self._option_string_actions if each not in DESTRUCTIVE]
            near = difflib.get_close_matches(flag, candidates, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            shown = " ".join(_cut(word, 60) for word in unknown[:5]) + " …" * (len(unknown) > 5)
            self.error(f"unrecognized arguments: {shown}{hint}")
        return namespace

    def _get_value(self, action: argparse.Action, arg_string: str) -> object:
        try:
            return super()._get_value(action, arg_string)
        except OverflowError:  # such as float() of a huge integer
            raise argparse.ArgumentError(action, f"{_cut(arg_string, 60)!r} is too large") from None

    def error(self, message: str) -> None:
        self.exit(
            2, clean(f"{self.prog}: error: {clean(message, 230)}; see {self.prog} --help") + "\n"
        )


def integer(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: an integer, low <= n <= high."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:  # no number, or one of thousands of digits
            number = None
        if number is None or not low <= number <= high:
            raise argparse.ArgumentTypeError(
                f"{_cut(text, 40)!r} is no integer from {low} to {high}"
            )
        return number

    return parse


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add the flag --threads."""
    from support.threads import default_threads

    parser.add_argument(
        "--threads",
        type=integer(1, MAX_THREADS),
        default=default_threads(),
        metavar="N",
        help="threads that compute; the result is the same with any number",
    )


# ---- Names of files -------------------------------------------------------------------------------------------------


def user_path(text: str | os.PathLike) -> Path:
    """A path as a user typed it, with ~ expanded. UserError if no file or folder can be called so."""
    name = os.fspath(text)
    if not name or not name.isprintable():
        fault = "can't be printed" if name else "is no name"
        raise UserError(f"{clean(name)!r}: {fault}; choose another name")
    try:
        path = Path(name).expanduser()
    except RuntimeError:
        raise UserError(
            f"{name}: there is no such user's home folder; write the path out"
        ) from None
    if (
        max(len(os.fsencode(part)) for part in (path.parts or (".",))) > 255
        or len(os.fsencode(path)) > 4000
    ):
        raise UserError(f"{name}: is longer than a file system allows; choose a shorter name")
    return path


def output_path(text: str) -> Path:
    """An argparse type: the path of a file to write, which need not be there yet."""
    return _output(text, folder=False)


def output_folder(text: str) -> Path:
    """An argparse type: the path of a folder to write into, which need not be there yet."""
    return _output(text, folder=True)


def _output(text: str, folder: bool) -> Path:
    try:
        path = user_path(text)
        if folder and not path.absolute().name:
            raise UserError(f"{text}: is no place for results; name a folder in it")
        if not folder and (
            text.endswith(("/", os.sep)) or path.name in ("", "..") or path.is_dir()
        ):
            raise UserError(f"{text}: is a folder; name a file in it")
        place = path.absolute() if folder else path.absolute().parent
        there = next(each for each in (place, *place.parents) if os.path.lexists(each))
        if not there.is_dir():
            raise UserError(
                f"{there}: is no folder, so nothing can be written into it; choose another place"
            )
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}; {_remedy(error)}") from None
    return path


def shorter(path: str | os.PathLike) -> Path:
    """The path as seen from the working directory, where it is below it."""
    path = Path(os.path.abspath(path))
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def script(name: str) -> list[str]:
    """The words that run a script of ours from the working directory, whichever that is."""
    return ["python", str(shorter(ROOT / name))]


def resumed(name: str, state: Path, argv: Sequence[str] | None = None) -> str:
    """The command line that goes on with a stopped run of a script: the same one with --resume, if the run has written
    its `state` by now, or else as it was typed. argv is sys.argv's by default."""
    typed = list(sys.argv[1:] if argv is None else argv)
    if state.is_file() and state.stat().st_mtime >= _STARTED:
        typed = [word for word in typed if word not in ("--resume", "--overwrite")] + ["--resume"]
    return shlex.join([*script(name), *typed])


# ---- A script's whole work ------------------------------------------------------------------------------------------

_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file in it",
    errno.ELOOP: "check the path",
    errno.ENOSPC: "free some space or choose another place",
    errno.EACCES: "change its permissions or choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def _remedy(error: OSError) -> str:
    return _REMEDIES.get(error.errno, "choose another place")


def command(main: Callable[..., int | None], *args) -> int:
    """Run `main(*args)` as a script's whole work; the exit code: what main returns, or 0 for None.

    What a user can mend, a `UserError` or the operating system's error about a file, is one line on stderr and 2, and
    so is a lack of memory. Ctrl-C is 130 and SIGTERM, which main sees as KeyboardInterrupt too, 143, with the
    interrupt's text in a line; a reader that has gone (`| head`) is 141.
    """
    prog = Path(sys.argv[0]).name
    _open_closed_streams()
    with _terminated_like_interrupted() as terminated:
        try:
            try:
                return main(*args) or 0
            finally:
                print(end="", flush=True)  # here, where the failure can be reported
        except KeyboardInterrupt as interrupt:
            # Not cut: it may hold the command that goes on, which has to be whole.
            text = clean(interrupt, 20_000) or "interrupted"
            _report(f"\n{prog}: {text}")
            return 143 if terminated else 130
        except (UserError, OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.filename is None:
                _give_up_stdout()
                if isinstance(error, BrokenPipeError):
                    return 141
            _report(clean(f"{prog}: error: {_describe(error)}"))
            return 2


def _describe(error: UserError | OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory; choose fewer hidden units, a smaller --batch-size or less data"
    if isinstance(error, OSError):
        text = f"{error.strerror or (error.args[0] if error.args else 'failed')}; {_remedy(error)}"
        return text if error.filename is None else f"{error.filename}: {text}"
    return str(error)


def _report(line: str) -> None:
    with contextlib.suppress(
        OSError, ValueError
    ):  # a full or closed stderr: nobody is left to tell
        print(line, file=sys.stderr, flush=True)


def _open_closed_streams() -> None:
    """Send what goes to a stream that the shell closed (`>&-`) nowhere: else the next file opened would get it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(
            stream, "reconfigure"
        ):  # a name that the terminal's encoding lacks is no reason to fail
            stream.reconfigure(errors="backslashreplace")


def _give_up_stdout() -> None:
    """Send standard output nowhere if it can't be written: Python would try once more at exit, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[list[int]]:
    """Let SIGTERM raise KeyboardInterrupt in the block; the list yielded then isn't empty."""
    received: list[int] = []

    def stop(number: int, frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
