"""Why a request to a device brought nothing."""

from bacpipes.errors import BacpipesError


class BacnetError(BacpipesError):
    """A request that brought no answer that we can use; ``str()`` is the reason, for people."""


class NoAnswerError(BacnetError):
    """The device did not answer within time-out and retries."""


class RefusedError(BacnetError):
    """The device answered with an Error: ``error_class`` and ``error_code`` in the standard's words (clause 18)."""

    def __init__(self, error_class: str, error_code: str) -> None:
        super().__init__(f"{error_class}: {error_code}")
        self.error_class, self.error_code = error_class, error_code


class RejectedError(BacnetError):
    """The device rejected the request (clause 18.8), as one does that does not know the service."""


class AbortedError(BacnetError):
    """The device aborted (clause 18.9), as one does whose answer would be too long."""


class MalformedError(BacnetError):
    """The answer can't be decoded, or is not for what was asked."""
