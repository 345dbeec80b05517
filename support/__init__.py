"""What all scripts stand on: the command line, whole files and safe arrays, threads. Imports nothing of ours."""

import signal

# Ctrl-C waits while numpy loads, which else reports it as a broken installation, in a page; `cli` has a line for it.
_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None

from support import cli, threads  # noqa: E402  (first of all: it sets the number of BLAS's threads before numpy loads)

if _mask is not None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask)

__all__ = ["cli", "threads"]
