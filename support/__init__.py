"""What the scripts share. Importing it prepares the process for NumPy, see startup.py."""

from support import startup

__all__ = ["startup"]
