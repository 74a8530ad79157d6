"""The exporter's own certificate: shown to browsers, and read again when its files change."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bacpipes.errors import BacpipesError, InputError, SettingsError
from bacpipes.exporter.reason import Reason
from bacpipes.log import Transition, get_logger
from bacpipes.mqtt import certificates
from bacpipes.mqtt.certificates import CertificateInfo
from bacpipes.mqtt.config import read_text
from bacpipes.settings import Settings

logger = get_logger(__name__)
LOOK_EVERY = 10.0  # seconds between two looks at the files
WARN_DAYS = 14
COMPONENT = "certificate"
WHAT = "page's certificate"
RENEW = "Renew it: `ansible-playbook playbooks/rotate_certs.yml` does it for a fleet."


class ServerCertificate:
    """The certificate of ``BACPIPES_HTTP_CERTIFICATE``; raise `SettingsError` where nothing can be served with it.

    One that has expired is shown all the same, and said to be: browsers warn, and the page stays in reach.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._health = Transition(logger, "reading the page's certificate anew")
        self._seen: object = None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self.info = self._load()
        except InputError as error:
            names = "BACPIPES_HTTP_CERTIFICATE and BACPIPES_HTTP_KEY"
            raise SettingsError(f"{names}: {error}", "Nothing is served until they are right.") from None
        self._say()

    @classmethod
    def of(cls, settings: Settings) -> "ServerCertificate | None":
        """The one that the settings name; None for plain HTTP."""
        if settings.http_certificate is None or settings.http_key is None:
            return None
        return cls(settings.http_certificate, settings.http_key)

    async def follow(self) -> None:
        """Take new files over for as long as the exporter runs; connections that are open keep what they have."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.look()

    def look(self) -> None:
        """Take the files over where they are others than before; those that can't be used leave the old in force."""
        if self._stamp() == self._seen and not self._health.failing:
            return
        try:
            self.info = self._load()
        except BacpipesError as error:
            self._health.failed(str(error))
            return
        self._health.recovered()
        self._say()

    def reasons(self) -> list[Reason]:
        """What is wrong with it now; empty where nothing is."""
        now, found = datetime.now(UTC), []
        if self._health.reason:
            found.append(Reason(COMPONENT, f"The new files are not in use: {self._health.reason}", "Correct them."))
        if self.info.not_after <= now:
            text = f"The page's certificate expired on {_minute(self.info.not_after)}; browsers warn."
            found.append(Reason(COMPONENT, text, RENEW))
        elif self.info.not_before > now:
            text = f"The page's certificate is valid only from {_minute(self.info.not_before)}."
            found.append(Reason(COMPONENT, text, "Is our clock right?"))
        return found

    def ends_soon(self) -> Reason | None:
        """A word while it still holds, but not for long."""
        left = self.info.not_after - datetime.now(UTC)
        if not timedelta(0) < left < timedelta(days=WARN_DAYS):
            return None
        return Reason(COMPONENT, f"The page's certificate expires on {_minute(self.info.not_after)}.", RENEW)

    def _load(self) -> CertificateInfo:
        seen = self._stamp()
        certificate, key = (read_text(path) for path in self._files)
        info = certificates.check_pair(certificate, key, WHAT)
        # In a context of its own first: one that refuses may have lost what it had.
        certificates.load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key, WHAT)
        certificates.load_pair(self.context, certificate, key, WHAT)
        self._seen = seen
        return info

    def _stamp(self) -> object:
        try:
            found = [path.stat() for path in self._files]
        except OSError as error:
            return str(error)
        return [(one.st_mtime_ns, one.st_ino, one.st_size) for one in found]

    def _say(self) -> None:
        logger.info("the page's certificate is in use", certificate=str(self.info))
        for reason in [*self.reasons(), *filter(None, [self.ends_soon()])]:
            logger.warning("the page's certificate", reason=reason.reason, remedy=reason.remedy)


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
