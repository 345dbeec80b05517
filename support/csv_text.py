"""Write CSV rows whose text no spreadsheet takes for a formula."""

import csv
import io
from collections.abc import Iterable

# A cell that begins so is a formula to spreadsheets, and may run commands (OWASP: CSV injection).
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
FORMULA_STARTS += ("\uff1d", "\uff0b", "\uff0d", "\uff20")  # full-width = + - @


def safe(cell: object) -> object:
    """Return the cell; text that would be a formula gets an apostrophe in front.

    Only text is changed: a negative number, given as a number, stays one.
    """
    if isinstance(cell, str) and cell.startswith(FORMULA_STARTS):
        return "'" + cell
    return cell


def csv_row(cells: Iterable[object]) -> bytes:
    """Return one line of a CSV file, in UTF-8. What UTF-8 lacks is written as \\udc80 and so on."""
    text = io.StringIO()
    # This terminator makes the writer quote cells that hold \r or \n; the row itself ends in \n.
    csv.writer(text, lineterminator="\r\n").writerow([safe(cell) for cell in cells])
    row = text.getvalue().removesuffix("\r\n") + "\n"
    return row.encode("utf-8", "backslashreplace")
