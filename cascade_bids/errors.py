"""Errors for the user, with their exit codes."""


class CascadeBidsError(Exception):
    """Base class of all errors that cascade_bids raises on purpose.

    The message states the problem, the file and the remedy.
    """

    exit_code = 1


class ScanError(CascadeBidsError):
    """One scan cannot be processed; the others can."""

    exit_code = 1


class UsageError(CascadeBidsError):
    """The command was called wrongly: invalid option, missing input, output inside the input."""

    exit_code = 2


class StartError(CascadeBidsError):
    """The run could not start: no usable scan, unreadable weights."""

    exit_code = 70
