"""Which runs are this user's own: a signature in run.json over config.yaml, with a key that only this user can read.

A run of one's own may name classes of one's own packages without `--trust`. A config that was changed since, or that came from
elsewhere, has no valid signature.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import platformdirs
import yaml

from genai.runs.files import merge_json
from genai.runs.imports import import_paths

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


def signature(run_dir: Path, secret: bytes) -> str:
    """HMAC-SHA256 of the run's config.yaml, in hexadecimal digits."""
    return hmac.new(secret, (run_dir / "config.yaml").read_bytes(), hashlib.sha256).hexdigest()


def sign(run_dir: Path) -> None:
    """Write the signature of config.yaml into run.json; nothing if the user's config folder cannot be written."""
    secret = key(create=True)
    if secret is not None:
        merge_json(run_dir / "run.json", {"signature": signature(run_dir, secret)})


def is_own(run_dir: Path) -> bool:
    """Whether a fit of this user wrote the run's config.yaml as it is now."""
    secret = key()
    signed = json.loads((run_dir / "run.json").read_text()).get("signature")
    return secret is not None and isinstance(signed, str) and hmac.compare_digest(signed, signature(run_dir, secret))


def packages_of_user(run_dir: Path) -> Sequence[str]:
    """The packages that a run's config names, if the run is this user's own; no package otherwise."""
    if not is_own(run_dir):
        return ()
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    return sorted({path.split(".")[0] for path in import_paths(config) if "." in path})
