"""Errors that a user can fix."""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the system's numbers for a disk without space
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)  # and for a place that may not be written to


class UserError(Exception):
    """A mistake that the user can fix: one line that says what is wrong and how to fix it.

    The command line prints it without a traceback.
    """


class DamagedFileError(UserError):
    """A file that is truncated, malformed or too large. Code that reads many files reports it and continues."""


class WriteError(UserError):
    """The operating system refused a write. Existing files are unchanged.

    Attributes:
        reason: what the system said, such as `No space left on device`.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NothingFound(Exception):
    """A verb has looked for something, printed that it is not there, and ends with status 1, as grep does."""


class Notice(UserWarning):
    """What a user should know of a result; the command line prints it in one line after the result."""


def user_error(error: BaseException | None) -> UserError | None:
    """The UserError that `error` is or was raised from (jsonargparse wraps those of constructors); None if there is none."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def check_at_least(option: str, value: float, least: float) -> None:
    """Raise UserError for a value of an option that is below `least`, or not a number."""
    if not value >= least:
        raise UserError(f"{option} {value:g} is out of range: use {least:g} or more")
