"""Missing: a report that is not there."""


class NoReportError(ValueError):
    """There is no report of an experiment; the message says why, and when there is one."""
