"""What all scripts stand on: the command line, whole files and safe arrays, threads. Imports nothing of ours."""

# cli answers Ctrl-C while the rest is still loading; threads sets the number of BLAS's threads before numpy loads.
from support import cli, threads

__all__ = ["cli", "threads"]
