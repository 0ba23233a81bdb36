"""The one error that reaches a user of the module: what happened, why, and what to do about it."""

from __future__ import annotations


class JobError(RuntimeError):
    """Something could not be done.

    Args:
        what: the node, file, case or job that it happened to, by name.
        why: what went wrong.
        do: what the user can do about it.
        log: the last lines that the worker process printed, if there was one.
    """

    def __init__(self, what: str, why: str, do: str, log: str = "") -> None:
        self.what, self.why, self.do, self.log = str(what), str(why), str(do), str(log)
        super().__init__("{}: {}. {}".format(self.what, self.why.rstrip("."), self.do))
