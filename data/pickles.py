"""Read pickles of images without running anything that they ask for.

Python's own pickle.load runs whatever a file names. Here a small stack machine executes the two
dozen operations that a batch needs. A call that a pickle asks for is recorded, never made.
The machine's memory is bounded by the file's length, and nothing recurses. An array is a view of
the file's bytes.
"""

import codecs
import math
import os
import re
import struct
from collections.abc import Callable

from data.formats import file_fault
from support.cli import UserError, clean
from support.files import Fault, read_file

import numpy as np

LIMIT = 1 << 30  # bytes of a file
LONG_TEXT = 4096  # bytes; longer strings stay views of the file
MAX_DEPTH = 100  # of lists in lists
_CONTAINERS = (tuple, list, dict)


class DataError(UserError):
    """An error about the data, in one line: the file or flag, the fault, the remedy."""


class Name:
    """A function or class that a pickle names."""

    def __init__(self, text: str) -> None:
        self.text = text


class Call:
    """A call that a pickle asks for: the name, its arguments, and the state set afterwards."""

    def __init__(self, name: str, args: tuple) -> None:
        self.name = name
        self.args = args
        self.state: object = None


# The names that a batch may ask for, and their short names here.
_NAMES = {
    "numpy.core.multiarray._reconstruct": "_reconstruct",  # NumPy 1
    "numpy._core.multiarray._reconstruct": "_reconstruct",  # NumPy 2
    "numpy.core.multiarray.scalar": "scalar",
    "numpy._core.multiarray.scalar": "scalar",
    "numpy.core.numeric._frombuffer": "_frombuffer",
    "numpy._core.numeric._frombuffer": "_frombuffer",
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "_codecs.encode": "encode",
    "builtins.bytes": "bytes",
    "__builtin__.bytes": "bytes",  # Python 2
}

# ---- The machine ---------------------------------------------------------------------------------


class _Machine:
    """Execute the operations of a pickle; Python's pickletools describes each of them."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.view = memoryview(content)
        self.position = 0
        self.stack: list = []
        self.marks: list[list] = []  # the stack below each MARK
        self.memo: dict[int, object] = {}
        self.depths: dict[int, int] = {}  # of the containers, by id
        self.encoded = 0  # bytes that _codecs.encode has made

    def run(self) -> object:
        """Return the value that the pickle describes. Raises Fault if it isn't one of a batch."""
        code = 0
        try:
            # Each operation can make an object. A batch needs some five for an image of 3 kB.
            for _ in range(100_000 + len(self.content) // 256):
                code = self.content[self.position]
                self.position += 1
                if code == STOP:
                    return self.stack[-1]
                self.execute(code)
                if self.position > len(self.content):
                    raise Fault("is truncated or empty")
            raise Fault("has far more operations than a batch of its size needs")
        except Fault:
            raise
        except KeyError as error:
            reason = f"a reference to {clean(error, 30)}"
            if code not in _OPERATIONS:
                reason = f"operation {bytes([code])!r}"
        except (IndexError, struct.error):
            if self.position >= len(self.content):
                raise Fault("is truncated or empty") from None
            reason = ""
        except (TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__} in {bytes([code])!r}"
        raise Fault(
            f"is not a CIFAR-10 pickle ({reason})" if reason else "is not a CIFAR-10 pickle"
        )

    def execute(self, code: int) -> None:
        # The operations of labels and file names come first, without a call: 30,000 in a batch.
        if code == BININT1:
            self.stack.append(self.content[self.position])
            self.position += 1
        elif code == SHORT_BINSTRING:
            start = self.position + 1
            self.position = start + self.content[start - 1]
            self.stack.append(self.content[start : self.position])
        elif code == BINPUT:
            self.memo[self.content[self.position]] = self.stack[-1]
            self.position += 1
        else:
            _OPERATIONS[code](self)

    # Reading what follows an operation

    def number(self, form: str) -> int:
        """Return the number that follows; form: as for the module struct."""
        value = struct.unpack_from(form, self.view, self.position)[0]
        self.position += struct.calcsize(form)
        return value

    def take(self, size: int) -> memoryview:
        """Return the next `size` bytes."""
        start = self.position
        if size < 0 or start + size > len(self.view):
            self.position = len(self.view)
            raise Fault("is truncated or empty")
        self.position = start + size
        return self.view[start : self.position]

    def line(self, limit: int = 200) -> bytes:
        """Return the bytes up to the end of the line."""
        end = self.content.find(b"\n", self.position)
        if end < 0:
            self.position = len(self.content)
            raise Fault("is truncated or empty")
        if end - self.position > limit:
            raise Fault("is not a CIFAR-10 pickle (a line that is too long)")
        line = self.content[self.position : end]
        self.position = end + 1
        return line

    # Strings and numbers

    def push_bytes(self, form: str) -> None:
        view = self.take(self.number(form))
        self.stack.append(bytes(view) if len(view) <= LONG_TEXT else view)

    def push_text(self, form: str) -> None:
        self.stack.append(str(self.take(self.number(form)), "utf-8"))

    def push_long(self, form: str) -> None:
        size = self.number(form)
        if size > 16:
            raise Fault(f"holds an integer of {size:,} bytes")
        self.stack.append(int.from_bytes(self.take(size), "little", signed=True))

    def push_int(self) -> None:
        line = self.line()
        if line in (b"00", b"01"):  # False and True in protocol 0
            self.stack.append(line == b"01")
        else:
            self.push_decimal(line)

    def push_decimal(self, line: bytes) -> None:
        digits = line.removesuffix(b"L")
        if not re.fullmatch(rb"[+-]?[0-9]{1,40}", digits):
            raise Fault("holds an integer that is none, or too long")
        self.stack.append(int(digits))

    def push_literal(self) -> None:
        line = self.line(limit=len(self.content)).strip()
        if len(line) < 2 or line[:1] not in b"'\"" or line[-1:] != line[:1]:
            raise Fault("is not a CIFAR-10 pickle (a string without quotes)")
        self.stack.append(codecs.escape_decode(line[1:-1])[0])

    # The stack, and containers

    def pop(self, count: int) -> list:
        if len(self.stack) < count:
            raise IndexError
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def pop_mark(self) -> list:
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def mark(self) -> None:
        if len(self.marks) >= MAX_DEPTH:
            raise Fault(f"is nested over {MAX_DEPTH} deep")
        self.marks.append(self.stack)
        self.stack = []

    def deepen(self, container: object, items: list | tuple) -> None:
        """Update the depth of `container`, into which the items go."""
        depth = self.depths.get(id(container), 1)
        for item in items:
            if type(item) in _CONTAINERS:
                depth = max(depth, self.depths.get(id(item), 0) + 1)
        if depth > MAX_DEPTH:
            raise Fault(f"is nested over {MAX_DEPTH} deep")
        self.depths[id(container)] = depth

    def push_new(self, container: object, items: list | tuple = ()) -> None:
        self.depths.pop(id(container), None)  # of an earlier object at the same address
        self.deepen(container, items)
        self.stack.append(container)

    def push_tuple(self, size: int | None) -> None:
        items = tuple(self.pop_mark() if size is None else self.pop(size))
        self.push_new(items, items)

    def push_list(self) -> None:
        items = self.pop_mark()
        self.push_new(items, items)

    def extend(self, items: list) -> None:
        if type(self.stack[-1]) is not list:
            raise Fault("appends to something that is not a list")
        self.deepen(self.stack[-1], items)
        self.stack[-1].extend(items)

    def set_items(self, items: list) -> None:
        target = self.stack[-1]
        keys = items[::2]
        values = items[1::2]
        if type(target) is not dict or len(keys) != len(values):
            raise Fault("sets items of something that is not a dict")
        for key in keys:
            if type(key) not in (str, bytes, int):
                raise Fault(f"holds a key of type {type(key).__name__}")
        self.deepen(target, values)
        target.update(zip(keys, values, strict=True))

    def push_dict(self) -> None:
        items = self.pop_mark()
        self.push_new({})
        self.set_items(items)

    # The memo

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    # Names and calls

    def push_name(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str:
            raise Fault("names a function by something that is not text")
        known = _NAMES.get(f"{module}.{name}")
        if known is None:
            wanted = f"{clean(module, 60)}.{clean(name, 60)}"
            raise Fault(f"asks for {wanted}, which no image batch needs, and was not run")
        self.stack.append(Name(known))

    def call(self, name: object, args: object) -> None:
        if type(name) is not Name or type(args) is not tuple:
            raise Fault("calls something that is not a function")
        if name.text == "encode":  # Python 3 writes bytes this way in protocols 0 to 2
            self.stack.append(self.encode(args))
        elif name.text == "bytes":  # and empty bytes this way
            if args:
                raise Fault("asks for bytes of something")
            self.stack.append(b"")
        else:
            self.stack.append(Call(name.text, args))

    def encode(self, args: tuple) -> bytes:
        if len(args) != 2 or type(args[0]) is not str or args[1] != "latin1":
            raise Fault("asks for _codecs.encode of something that is not latin1 text")
        self.encoded += len(args[0])
        if self.encoded > len(self.content):
            raise Fault("asks for _codecs.encode of one text again and again")
        return args[0].encode("latin1")

    def build(self) -> None:
        state = self.stack.pop()
        call = self.stack[-1]
        if type(call) is not Call:
            raise Fault("sets the state of something that has none")
        call.state = state


BININT1, SHORT_BINSTRING, BINPUT, STOP = b"KUq."

_OPERATIONS: dict[int, Callable[[_Machine], None]] = {
    ord(code): operation
    for code, operation in {
        # Numbers and constants
        "\x80": lambda m: m.number("<B"),  # PROTO
        "\x95": lambda m: m.number("<Q"),  # FRAME
        "N": lambda m: m.stack.append(None),
        "\x88": lambda m: m.stack.append(True),
        "\x89": lambda m: m.stack.append(False),
        "M": lambda m: m.stack.append(m.number("<H")),  # BININT2
        "J": lambda m: m.stack.append(m.number("<i")),  # BININT
        "G": lambda m: m.stack.append(m.number(">d")),  # BINFLOAT
        "F": lambda m: m.stack.append(float(m.line())),
        "I": lambda m: m.push_int(),
        "L": lambda m: m.push_decimal(m.line()),
        "\x8a": lambda m: m.push_long("<B"),  # LONG1
        "\x8b": lambda m: m.push_long("<i"),  # LONG4
        # Strings
        "T": lambda m: m.push_bytes("<i"),  # BINSTRING, Python 2's
        "S": lambda m: m.push_literal(),
        "C": lambda m: m.push_bytes("<B"),  # SHORT_BINBYTES
        "B": lambda m: m.push_bytes("<I"),  # BINBYTES
        "\x8e": lambda m: m.push_bytes("<Q"),  # BINBYTES8
        "\x96": lambda m: m.push_bytes("<Q"),  # BYTEARRAY8
        "\x8c": lambda m: m.push_text("<B"),  # SHORT_BINUNICODE
        "X": lambda m: m.push_text("<I"),  # BINUNICODE
        "\x8d": lambda m: m.push_text("<Q"),  # BINUNICODE8
        "V": lambda m: m.stack.append(m.line(len(m.content)).decode("raw-unicode-escape")),
        # The stack
        "(": lambda m: m.mark(),
        "0": lambda m: m.stack.pop(),
        "1": lambda m: m.pop_mark(),
        "2": lambda m: m.stack.append(m.stack[-1]),
        # Containers
        ")": lambda m: m.push_new(()),
        "\x85": lambda m: m.push_tuple(1),
        "\x86": lambda m: m.push_tuple(2),
        "\x87": lambda m: m.push_tuple(3),
        "t": lambda m: m.push_tuple(None),
        "]": lambda m: m.push_new([]),
        "l": lambda m: m.push_list(),
        "a": lambda m: m.extend([m.stack.pop()]),
        "e": lambda m: m.extend(m.pop_mark()),
        "}": lambda m: m.push_new({}),
        "d": lambda m: m.push_dict(),
        "s": lambda m: m.set_items(m.pop(2)),
        "u": lambda m: m.set_items(m.pop_mark()),
        # The memo
        "g": lambda m: m.get(int(m.line(12))),
        "h": lambda m: m.get(m.number("<B")),
        "j": lambda m: m.get(m.number("<I")),
        "p": lambda m: m.put(int(m.line(12))),
        "r": lambda m: m.put(m.number("<I")),
        "\x94": lambda m: m.put(len(m.memo)),  # MEMOIZE
        # Calls
        "c": lambda m: m.push_name(m.line().decode(), m.line().decode()),
        "\x93": lambda m: m.push_name(*m.pop(2)),  # STACK_GLOBAL
        "R": lambda m: m.call(*m.pop(2)),
        "b": lambda m: m.build(),
    }.items()
}


# ---- The values ----------------------------------------------------------------------------------


def read_pickle(path: str | os.PathLike, *keys: str) -> dict[str, object]:
    """Return the dict in the pickle `path`, with text as keys.

    Raises Fault or OSError if there is none, or one of `keys` is missing.
    """
    content = read_file(path, LIMIT)
    try:
        value = _Machine(content).run()
    except Fault as fault:
        raise Fault(file_fault(content) or fault) from None
    if type(value) is not dict:
        raise Fault(f"holds a {type(value).__name__}, not a dict")
    items = {text(key): item for key, item in value.items() if type(key) is not int}
    for key in keys:
        if key not in items:
            found = ", ".join(repr(clean(each, 30)) for each in list(items)[:5])
            raise Fault(f"has no {key!r}, but {found or 'nothing'}")
    return items


def text(value: object) -> str:
    """Return a string of a pickle, of Python 2 or 3, as text. Raises Fault if it isn't a string."""
    if type(value) is bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Fault("holds text that is not UTF-8") from None
    if type(value) is not str:
        raise Fault(f"holds {type(value).__name__} where text belongs")
    return value


def array(call: object) -> np.ndarray:
    """Return the array that a recorded call describes, of shape () for a scalar.

    It is a read-only view of the file's bytes. Raises Fault if the call describes no array.
    """
    if type(call) is not Call:
        raise Fault(f"holds {type(call).__name__} where an array belongs")
    order: object = "C"
    if call.name == "_reconstruct":
        _, shape, dtype, fortran, raw = _items(call.state, 5)
        order = "F" if fortran is True else "C"
    elif call.name == "_frombuffer":
        raw, dtype, shape, order = _items(call.args, 4)
    elif call.name == "scalar":
        dtype, raw = _items(call.args, 2)
        shape = ()
    else:
        raise Fault(f"holds a bare numpy.{call.name}")
    dtype = _dtype(dtype)
    if not _is_shape(shape):
        raise Fault("holds an array of an invalid shape")
    if type(raw) not in (bytes, memoryview) or order not in ("C", "F"):
        raise Fault("holds an array without bytes")
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise Fault(f"holds an array of shape {shape} in {len(raw):,} bytes")
    if math.prod(max(n, 1) for n in shape) > LIMIT:  # NumPy refuses some empty arrays
        raise Fault(f"holds an empty array of shape {shape}")
    return np.ndarray(shape, dtype, raw, order=order)


def _is_shape(shape: object) -> bool:
    if type(shape) is not tuple or len(shape) > 4:
        return False
    return all(type(n) is int and 0 <= n <= 2**40 for n in shape)


def _dtype(call: object) -> np.dtype:
    if type(call) is not Call or call.name != "dtype" or not call.args:
        raise Fault("is not a CIFAR-10 pickle (an array without dtype)")
    kind = text(call.args[0])
    if not re.fullmatch(r"[<>|=]?[biufc]\d\d?", kind, re.ASCII):
        raise Fault(f"holds an array of dtype {clean(kind, 20)!r}")
    state = call.state
    order = "|"  # without a state the dtype has no byte order
    if state is not None:
        order = text(state[1]) if type(state) is tuple and len(state) > 1 else ""
    if order not in ("<", ">", "|", "="):
        raise Fault("holds an array of a dtype without byte order")
    try:
        return np.dtype(kind).newbyteorder(order)
    except TypeError:
        raise Fault(f"holds an array of dtype {clean(kind, 20)!r}") from None


def _items(value: object, count: int) -> tuple:
    if type(value) is not tuple or len(value) != count:
        raise Fault("is not a CIFAR-10 pickle (a call without its arguments)")
    return value
