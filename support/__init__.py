"""What the scripts share: command line, files, threads, the network's parts beside its equations, figures, tables.

No module here imports a script of ours when it is loaded.
"""

import signal

# Ctrl-C waits while numpy loads, which else reports it as a broken installation, in a page; `cli` has a line for it.
_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None

from support import cli, threads  # noqa: E402  (first of all: it sets the number of BLAS's threads before numpy loads)

if _mask is not None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask)

__all__ = ["cli", "threads"]
