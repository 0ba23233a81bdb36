"""The one error that reaches a user: what happened, why, and what to do about it."""

from __future__ import annotations

import errno
import os
import unicodedata


class InputError(Exception):
    """Something the user gave cannot be used.

    Args:
        what: the file, case or setting that is wrong, by name.
        why: what is wrong with it, with the offending value.
        do: what the user can do about it.
    """

    def __init__(self, what: str | os.PathLike[str], why: str, do: str) -> None:
        self.what, self.why, self.do = _printable(what), _printable(why), _printable(do)
        super().__init__(f"{self.what}: {self.why}. {self.do}")


def shown(value: object) -> str:
    """A value as messages quote it: not longer than a line, whatever was given."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, a list in a list in a list ...
        return f"a very long {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def shown_path(path: object) -> str:
    """A file's place as messages quote it: of a very long one the end, which has its name."""
    text = repr(str(path))[1:-1]
    return text if len(text) <= 240 else f"...{text[-237:]}"


class NotWritten(InputError):
    """A file could not be written whole. What stood there before is as it was."""


class ToldElsewhere(InputError):
    """Another process of the same training tells why it ended; this one keeps quiet."""


def _printable(text: object) -> str:
    """Text that can be written anywhere: what it quotes may hold half a character, or commands for a terminal."""
    odd = {c for c in str(text) if unicodedata.category(c) in ("Cc", "Cs") and c != "\n"}
    return str(text).translate({ord(c): c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in odd})


class Cancelled(Exception):
    """The user asked a job to stop; everything worth keeping has been saved."""


_REMEDIES = {
    "Free some space, or choose another folder": ("ENOSPC", "EDQUOT", "EFBIG"),
    "Check the permissions, or choose another folder": ("EACCES", "EPERM", "EROFS"),
    "Choose a shorter name, or a folder that is not so deep": ("ENAMETOOLONG",),
    "Check the path, upper and lower case included": ("ENOENT",),
    "A part of the path is a file, or a folder stands where a file should be: choose another path": (
        "ENOTDIR", "EISDIR", "EEXIST", "ENOTEMPTY",
    ),
    "Remove the circle of links, or choose another path": ("ELOOP",),
}  # fmt: skip
_REMEDY_OF = {getattr(errno, name): do for do, names in _REMEDIES.items() for name in names if hasattr(errno, name)}


def reason_of(error: OSError) -> str:
    """What the operating system said, such as "Permission denied"."""
    return error.strerror or str(error) or type(error).__name__


def remedy_of(error: OSError) -> str:
    """What a user can do about it."""
    return _REMEDY_OF.get(error.errno, "Check the disk or the network drive, and try again")


def in_plain_words(error: OSError, what: str | None = None) -> InputError:
    """An error of the operating system as what happened, why, and what to do."""
    named = error.filename if error.filename is not None else "a file or stream"
    return InputError(what or str(named), reason_of(error), remedy_of(error))


FREE_MEMORY = (
    "Close other programs or crop the image. A smaller data.patch_size or a larger data.spacing_mm, set before a "
    "training, needs less"
)
"""What helps where memory is short."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that memory ran out: Python's, NumPy's and PyTorch's own words."""
    while error is not None:
        # by its name: this runs where there is no PyTorch
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        words = str(error)
        if isinstance(error, RuntimeError) and any(said in words for said in _MEMORY_WORDS):
            return True
        error = error.__cause__
    return False


_MEMORY_WORDS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "std::bad_alloc",
    "Failed to allocate memory",  # SimpleITK
    "CUBLAS_STATUS_ALLOC_FAILED",
    "out of memory",
)


def memory_error(error: BaseException) -> InputError | None:
    """What to tell a user of an error that says that memory ran out; None for any other."""
    if not is_out_of_memory(error):
        return None
    detail = str(error).strip().partition("\n")[0][:200]
    return InputError("memory", f"there is not enough of it ({detail or type(error).__name__})", FREE_MEMORY)
