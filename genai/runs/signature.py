"""Which runs are this user's own: a signature in run.json over config.yaml, with a key that only this user can read.

A run of one's own may name classes of one's own packages without `--trust`. A config that was changed since, or that came from
elsewhere, has no valid signature.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

import platformdirs

from genai.errors import DamagedFileError
from genai.runs.files import merge_json, read_object

KEY_BYTES = 32


def key_path() -> Path:
    """The file with this user's key, in the user's config folder."""
    return Path(platformdirs.user_config_dir("genai")) / "signing-key"


def key(create: bool = False) -> bytes | None:
    """This user's key; None if there is none, or its folder cannot be written."""
    path = key_path()
    try:
        if create and not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
            try:
                os.link(temporary, path)  # where another process was first, its key stays
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
        content = path.read_bytes()
    except OSError:
        return None
    return content if len(content) == KEY_BYTES else None


def signature(config: bytes, secret: bytes) -> str:
    """HMAC-SHA256 of a config, in hexadecimal digits."""
    return hmac.new(secret, config, hashlib.sha256).hexdigest()


def sign(run_dir: Path, config: bytes) -> None:
    """Write the signature of a run's config into run.json; nothing where the user's config folder cannot be written."""
    secret = key(create=True)
    if secret is not None:
        merge_json(run_dir / "run.json", {"signature": signature(config, secret)})


def is_own(run_dir: Path, config: bytes | None = None) -> bool:
    """Whether a fit of this user wrote the run's config as it is now.

    Args:
        run_dir: the run.
        config: the bytes of config.yaml where they were read already.
    """
    secret = key()
    try:
        signed = read_object(run_dir / "run.json").get("signature")
        content = (run_dir / "config.yaml").read_bytes() if config is None else config
    except (OSError, DamagedFileError):
        return False
    if secret is None or not isinstance(signed, str):
        return False
    return hmac.compare_digest(signed.encode(), signature(content, secret).encode())
