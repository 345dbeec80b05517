"""The parser, errors in one line, exit codes and file names."""

import argparse
import contextlib
import difflib
import errno
import os
import shlex
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from support.startup import ROOT
from support.threads import default_threads

LINE = 300  # characters; no line that reports an error is longer
TEXT = 270  # characters of an error, which leave room for the script's name
WORD = 60  # characters; shorter words are cut only if nothing else helps
MAX_THREADS = 1024
_STARTED = time.time()

# ---- Errors in one line --------------------------------------------------------------------------


def clean(text: object, limit: int = LINE) -> str:
    """Return one printable line of at most `limit` characters.

    Whitespace is folded. Control characters and lone surrogates become '?'. If the line is too
    long, its longest words lose their middle: these are values and paths, so the fault and the
    remedy around them stay readable. The first word, which names the file, is cut last.
    """
    text = _cut(str(text), 20 * limit)  # before the loop over characters, which is slow
    words = "".join(_printable(character) for character in text).split()
    while True:
        line = " ".join(words)
        excess = len(line) - limit
        if excess <= 0:
            return line
        i = _longest(words)
        if len(words[i]) <= WORD:
            return _cut(line, limit)
        words[i] = _cut(words[i], max(WORD, len(words[i]) - excess))


def _printable(character: str) -> str:
    if character.isprintable() or character.isspace():
        return character
    return "?"


def _longest(words: list[str]) -> int:
    """Return the index of the longest word; the first one only if no other exceeds WORD."""
    longest = max(range(1, len(words)), key=lambda i: len(words[i]), default=0)
    return longest if len(words[longest]) > WORD else 0


def _cut(text: str, limit: int) -> str:
    """Return the text, without its middle if it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    end = (limit - 1) // 2
    start = limit - 1 - end
    return f"{text[:start]}…{text[len(text) - end :]}"


class UserError(Exception):
    """An error that a user can correct, in one line: the file or flag, the fault, the remedy."""

    def __init__(self, text: object = "") -> None:
        super().__init__(clean(text, TEXT))

    def command_line_text(self) -> str:
        """Return the line that a script prints. A SettingError names flags in it."""
        return str(self)


# ---- The parser ----------------------------------------------------------------------------------


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Show defaults other than None and False, and keep the line breaks of the description."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)

    def _split_lines(self, text: str, width: int) -> list[str]:
        words = " ".join(text.split())
        return textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)


class ArgumentParser(argparse.ArgumentParser):
    """A parser with errors of one line. --some_flag means --some-flag; nothing is abbreviated."""

    def __init__(self, *args, **kwargs) -> None:
        defaults = {"allow_abbrev": False, "formatter_class": _HelpFormatter}
        super().__init__(*args, **(defaults | kwargs))

    def parse_known_args(self, args=None, namespace=None):
        args = list(sys.argv[1:] if args is None else args)
        flags = {flag.replace("_", "-"): flag for flag in self._option_string_actions}
        for i, arg in enumerate(args):
            if arg == "--":  # only values follow
                break
            if arg.startswith("--"):
                flag, equals, value = arg.partition("=")
                flag = flags.get(flag.replace("_", "-"), flag)
                args[i] = flag + equals + value
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._suggestion(unknown[0])}")
        return namespace

    def _suggestion(self, word: str) -> str:
        flag = word.partition("=")[0].replace("_", "-")[:40]
        near = difflib.get_close_matches(flag, self._option_string_actions, 1)
        return f"; did you mean {near[0]}?" if near else ""

    def error(self, message: str) -> None:
        line = clean(f"{self.prog}: error: {clean(message, 230)}; see {self.prog} --help")
        self.exit(2, line + "\n")


def integer(low: int, high: int) -> Callable[[str], int]:
    """Return an argparse type for integers from `low` to `high`."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:  # not a number, or one of thousands of digits
            number = None
        if number is None or not low <= number <= high:
            shown = _cut(text, 40)
            raise argparse.ArgumentTypeError(f"{shown!r} is not an integer from {low} to {high}")
        return number

    return parse


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add the flag --threads."""
    parser.add_argument(
        "--threads",
        type=integer(1, MAX_THREADS),
        default=default_threads(),
        metavar="N",
        help="threads that compute; the result is the same with any number",
    )


def note(text: str) -> None:
    """Print a line on stderr that asks for no action."""
    print(clean(f"note: {text}"), file=sys.stderr)


def labelled(label: str, text: str, width: int = 12) -> str:
    """Return "label  text", wrapped between words at 80 columns; width: up to the text."""
    return textwrap.fill(
        f"{label:{width}}{text}",
        width=80,
        subsequent_indent=" " * width,
        break_long_words=False,
        break_on_hyphens=False,
    )


# ---- Names of files ------------------------------------------------------------------------------


def user_path(text: str | os.PathLike) -> Path:
    """Return the path that a user typed, with ~ expanded.

    Raises UserError if no file or folder can have this name.
    """
    name = os.fspath(text)
    if not name:
        raise UserError("'': is empty; give a name")
    if not name.isprintable():
        raise UserError(f"{clean(name)!r}: is not printable; choose another name")
    try:
        path = Path(name).expanduser()
    except RuntimeError:
        raise UserError(f"{name}: home folder not found; write the path out") from None
    # Checked here, since a result's name would otherwise fail only after hours of training.
    if any(len(os.fsencode(part)) > 255 for part in path.parts):
        raise UserError(f"{name}: is longer than a file system allows; choose a shorter name")
    return path


def output_path(text: str) -> Path:
    """Return the path of a file to write, which need not exist: an argparse type."""
    try:
        if text == "-":
            raise UserError("'-': is no name of a file; for standard output give /dev/stdout")
        path = user_path(text)
        is_folder = text.endswith(("/", os.sep)) or path.name in ("", "..") or path.is_dir()
        if is_folder:
            raise UserError(f"{text}: is a folder; name a file in it")
        _check_writable_in(path.absolute().parent)
    except (UserError, OSError) as error:
        raise argparse.ArgumentTypeError(_describe(error)) from None
    return path


def output_folder(text: str) -> Path:
    """Return the path of a folder to write into, which need not exist: an argparse type."""
    try:
        path = user_path(text)
        if not path.absolute().name:
            raise UserError(f"{text}: is the root; name a folder in it")
        _check_writable_in(path.absolute())
    except (UserError, OSError) as error:
        raise argparse.ArgumentTypeError(_describe(error)) from None
    return path


def _check_writable_in(folder: Path) -> None:
    """Check that `folder` is a folder, or can become one. Raises UserError if a file is there."""
    for path in (folder, *folder.parents):
        if os.path.lexists(path):
            if not path.is_dir():
                raise UserError(
                    f"{path}: is not a folder, so nothing can be written into it; choose another"
                )
            return


def check_writable(folder: Path, flag: str) -> None:
    """Raise UserError, which names the folder's flag, if it isn't writable or creating it fails."""
    # The folder may not exist yet: then the first existing one above it decides.
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise UserError(f"{shorter(folder)}: is not writable; choose another {flag}")


def shorter(path: str | os.PathLike) -> Path:
    """Return the path relative to the working directory if it lies below it."""
    path = Path(os.path.abspath(path))
    if path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd())
    return path


def script(name: str) -> list[str]:
    """Return the words that run one of the scripts from the working directory."""
    return ["python", str(shorter(ROOT / name))]


def stopped(name: str, state: Path, argv: Sequence[str] | None = None, kept: str = "") -> str:
    """Return the last line of a stopped run of a script: how to resume it, or to start again.

    argv: the arguments as typed, by default those of sys.argv. --resume is added if the run has
    written its file `state`; otherwise there is nothing to resume, and the command stays as typed.
    kept: words on what is done, said if there is something to resume.
    """
    typed = list(sys.argv[1:] if argv is None else argv)
    written_by_this_run = state.is_file() and state.stat().st_mtime >= _STARTED
    if written_by_this_run:
        typed = [word for word in typed if word not in ("--resume", "--overwrite")]
        typed.append("--resume")
    again = shlex.join([*script(name), *typed])
    if "--resume" not in typed or not state.is_file():
        return f"stopped before anything was saved; start again with: {again}"
    return f"stopped{kept}; resume with: {again}"


# ---- A script's whole work -----------------------------------------------------------------------

_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file in it",
    errno.ELOOP: "check the path",
    errno.ENOSPC: "free some space or choose another folder",
    errno.EACCES: "change its permissions or choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def command(main: Callable[..., int | None], *args) -> int:
    """Run `main(*args)` as the whole work of a script and return the exit code.

    0 or what main returns; 2 for an error that a user can correct, a refusal by the operating
    system or a lack of memory, reported in one line on stderr; 130 after Ctrl-C; 143 after
    SIGTERM, which main also sees as KeyboardInterrupt; 141 if the reader of stdout has gone.
    """
    prog = Path(sys.argv[0]).name
    _open_closed_streams()
    _show_any_name()
    with _sigterm_interrupts() as terminated:
        try:
            return _run(main, *args)
        except KeyboardInterrupt as interrupt:
            # Not cut to one line: it may hold the command that resumes the run.
            text = clean(interrupt, 20_000) or "interrupted"
            _complain(f"\n{prog}: {text}")
            return 143 if terminated else 130
        except (UserError, OSError, MemoryError) as error:
            _discard_if_broken(sys.stdout, 1)
            if isinstance(error, BrokenPipeError) and error.filename is None:
                return 141  # nobody reads on, as after `| head`
            _complain(clean(f"{prog}: error: {_describe(error)}"))
            return 2


def _run(main: Callable[..., int | None], *args) -> int:
    try:
        return main(*args) or 0
    finally:
        sys.stdout.flush()  # here, where a failure becomes one line


def _describe(error: BaseException) -> str:
    """Return what is wrong, and what to do."""
    if isinstance(error, MemoryError):
        return "not enough memory; choose fewer hidden units, a smaller --batch-size or less data"
    if isinstance(error, OSError):
        remedy = _REMEDIES.get(error.errno, "choose another place")
        text = f"{error.strerror or error}; {remedy}"
        return text if error.filename is None else f"{error.filename}: {text}"
    return error.command_line_text()


def _open_closed_streams() -> None:
    """Let stdout and stderr lead to nothing if they are closed, as after `>&-`: Python has none."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, it stays open


def _show_any_name() -> None:
    """Escape characters that the terminal's encoding lacks: no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _complain(text: str) -> None:
    """Print the line on stderr. A full disk below stderr doesn't change the exit code."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
    _discard_if_broken(sys.stderr, 2)


def _discard_if_broken(stream: TextIO, number: int) -> None:
    """Redirect the stream to nothing if it fails: Python would flush it again at exit, and fail."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[list[int]]:
    """Let SIGTERM raise KeyboardInterrupt in the block; the yielded list then isn't empty."""
    received: list[int] = []

    def stop(number: int, frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
