"""Errors that say who can mend them."""


class SetupError(ValueError):
    """What this machine or this command cannot give: nothing is wrong with the trial, so nothing is recorded of it."""
