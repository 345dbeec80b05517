"""support/csv_text.py: no cell of a CSV file is a formula to a spreadsheet."""

import csv
import io

from support.csv_text import csv_row

import pytest


def read_back(cells):
    return next(csv.reader(io.StringIO(csv_row(cells).decode(), newline="")))


@pytest.mark.parametrize(
    "start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"]
)
def test_text_that_would_be_a_formula_gets_an_apostrophe(start):
    assert read_back([start + "1+1"]) == ["'" + start + "1+1"]


@pytest.mark.parametrize("text", ["cat", "a=b", "", "'=1", "1-2", "猫", 'with "quotes", and comma'])
def test_other_text_is_unchanged(text):
    assert read_back([text, "x"]) == [text, "x"]


def test_numbers_keep_their_sign():
    assert csv_row([-1, -0.5, "x"]) == b"-1,-0.5,x\n"


def test_what_utf_8_lacks_is_written_as_an_escape():
    assert csv_row(["a\udc80"]) == b"a\\udc80\n"
