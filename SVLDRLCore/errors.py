"""The one error that reaches a user: what happened, why, and what to do about it."""

from __future__ import annotations

import errno


class InputError(Exception):
    """Something the user gave cannot be used.

    Args:
        what: the file, case or setting that is wrong, by name.
        why: what is wrong with it, with the offending value.
        do: what the user can do about it.
    """

    def __init__(self, what: str, why: str, do: str) -> None:
        self.what, self.why, self.do = str(what), str(why), str(do)
        super().__init__(f"{self.what}: {self.why}. {self.do}")


class NotWritten(InputError):
    """A file could not be written whole. What stood there before is as it was."""


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
