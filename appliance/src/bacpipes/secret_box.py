"""Encryption at rest for the secrets that the database holds (broker password, client key)."""

import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from bacpipes.errors import BacpipesError, SettingsError, UnavailableError
from bacpipes.settings import Settings

KEY_FILE = "secret.key"


class SecretBox:
    """Encrypts and decrypts short texts with one key (Fernet: AES-128-CBC with HMAC-SHA256)."""

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)

    def seal(self, text: str) -> str:
        """Encrypt; the result is safe in a database."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, token: str) -> str:
        """Decrypt; raise where another key made it."""
        try:
            return self._fernet.decrypt(token.encode()).decode()
        except InvalidToken:
            raise BacpipesError(
                "A secret in the database was encrypted with another key.",
                "Restore the key (BACPIPES_SECRET_KEY, or the state directory's secret.key) or enter the secret again.",
            ) from None


def secret_box(settings: Settings) -> SecretBox:
    """The box for this appliance: the key from the settings, or a file in the state directory, made on first use."""
    if settings.secret_key is not None:
        return _box(settings.secret_key.get_secret_value().encode(), "BACPIPES_SECRET_KEY")
    path = settings.state_dir / KEY_FILE
    if not path.exists():
        _create(path)
    return _box(path.read_bytes().strip(), str(path))


def _box(key: bytes, origin: str) -> SecretBox:
    try:
        return SecretBox(key)
    except ValueError:
        raise SettingsError(f"{origin} does not hold a key (32 bytes, url-safe base64).") from None


def make_state_dir(path: Path) -> None:
    """Create the state directory where it is missing; raise `UnavailableError` where that can't be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(
            f"The state directory {path} can't be made: {error.strerror}.",
            "Create it, owned by this user, or set BACPIPES_STATE_DIR.",
        ) from None


def _create(path: Path) -> None:
    make_state_dir(path.parent)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(Fernet.generate_key())
    try:
        os.link(draft, path)  # atomic, and never over a key that another process made meanwhile
    except FileExistsError:
        pass
    finally:
        draft.unlink()
