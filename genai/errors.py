"""Errors that a user can fix."""


class UserError(Exception):
    """A mistake that the user can fix: one line that says what is wrong and how to fix it.

    The command line prints it without a traceback.
    """


def check_at_least(option: str, value: float, least: float) -> None:
    """Raise UserError for a value of an option that is below `least`, or no number."""
    if not value >= least:
        raise UserError(f"{option} {value:g} is out of range: use {least:g} or more")
