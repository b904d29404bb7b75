"""The end of a process, in a test."""


class Killed(BaseException):
    """What ends a process; no handler of errors takes it for one."""
