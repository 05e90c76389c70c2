"""Mistakes a user can mend."""


class UserError(Exception):
    """A mistake the user can mend: one line that names what is wrong and the fix.

    The command line prints it without a traceback.
    """
