"""Structured logs, and repeated failures that are logged on the transition instead of on each try."""

import logging
import sys
from typing import Literal

import structlog

Logger = structlog.stdlib.BoundLogger


def configure(format_: Literal["console", "json"] = "json", level: str = "info") -> None:
    """Send structlog's and the libraries' records to standard error, one line each."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if format_ == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("bacpipes").setLevel(level.upper())


def get_logger(name: str) -> Logger:
    """A logger below ``bacpipes``."""
    logger: Logger = structlog.stdlib.get_logger(name)
    return logger


class Transition:
    """Says a failure once when it begins and once when it ends; between the two it is silent.

    A failure whose reason changes is said again.
    """

    def __init__(self, logger: Logger, what: str, **context: object) -> None:
        self._logger = logger
        self._what = what
        self._context = context
        self.reason: str | None = None

    @property
    def failing(self) -> bool:
        """True between a failure and the recovery from it."""
        return self.reason is not None

    def failed(self, reason: str, **context: object) -> None:
        """Note a failure; logged where it is new."""
        if reason != self.reason:
            self._logger.error(f"{self._what}: failed", reason=reason, **self._context, **context)
        self.reason = reason

    def recovered(self, **context: object) -> None:
        """Note a success; logged where it ends a failure."""
        if self.failing:
            self._logger.info(f"{self._what}: recovered", **self._context, **context)
        self.reason = None
