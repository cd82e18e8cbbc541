"""The errors that a user may see, each with the exit code that it leads to."""


class CascadeBidsError(Exception):
    """Root of all errors that cascade_bids raises on purpose.

    The message says what is wrong, in which file, and what to do about it.
    """

    exit_code = 1


class ScanError(CascadeBidsError):
    """One scan cannot be processed; the others go on."""

    exit_code = 1


class UsageError(CascadeBidsError):
    """The command was called wrongly: a bad flag, missing input, output inside input."""

    exit_code = 2


class StartError(CascadeBidsError):
    """The run could not start: no usable scan, unreadable weights."""

    exit_code = 70
