"""Errors that a user can fix."""


class UserError(Exception):
    """A mistake that the user can fix: one line that says what is wrong and how to fix it.

    The command line prints it without a traceback.
    """
