"""What all scripts stand on: the command line, whole files and safe arrays, threads. Imports nothing of ours."""

from support import cli, threads  # threads first of all: it sets the number of BLAS threads before numpy loads

__all__ = ["threads"]
