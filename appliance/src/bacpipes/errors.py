"""Errors that a person reads: what is wrong, where, and what to do."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command line's exit status means (also printed by ``bacpipes --help``)."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNAVAILABLE = 4
    ALREADY_RUNNING = 5


class BacpipesError(Exception):
    """An expected failure: ``str(error)`` says what is wrong, ``remedy`` what to do about it."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} {self.remedy}".strip()


class SettingsError(BacpipesError):
    """A setting is missing, misspelt or contradictory."""

    exit_code = ExitCode.USAGE


class InputError(BacpipesError):
    """What a person or program handed in is refused whole; nothing was changed."""

    exit_code = ExitCode.REFUSED


class UnavailableError(BacpipesError):
    """Something that we need (database, broker, BACnet interface) can't be reached."""

    exit_code = ExitCode.UNAVAILABLE


class SchemaError(BacpipesError):
    """The database's schema is not the one that this version works with."""

    exit_code = ExitCode.UNAVAILABLE


class AlreadyRunningError(BacpipesError):
    """A second worker on the same site."""

    exit_code = ExitCode.ALREADY_RUNNING
