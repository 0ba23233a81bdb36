"""The one error that reaches a user: what happened, why, and what to do about it."""

from __future__ import annotations


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


class Cancelled(Exception):
    """The user asked a job to stop; everything worth keeping has been saved."""
