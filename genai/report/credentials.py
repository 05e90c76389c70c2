"""C2PA content credentials: signed metadata in an image file, with c2pa-python (`pip install genai[c2pa]`)."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from genai import __version__
from genai.errors import UserError
from genai.files import read_bounded, write_atomically

FORMATS = {".png": "image/png", ".gif": "image/gif", ".webp": "image/webp", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
MAX_BYTES = 2**28
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}  # a picture could name any address
UNTRUSTED = "signingCredential.untrusted"


@dataclass(frozen=True)
class Credentials:
    """The content credentials of a file.

    Attributes:
        signer: common name in the signer's certificate.
        issuer: organisation in it.
        software: that wrote the credentials.
        is_generated: whether they say that a model made the image.
        problems: codes of failed checks, such as `assertion.dataHash.mismatch` for a file that was changed; a signer whose
            certificate no list of trusted ones has is none of them.
    """

    signer: str
    issuer: str
    software: str
    is_generated: bool
    problems: tuple[str, ...]


def library() -> Any:
    """The module c2pa; None if it is not installed."""
    try:
        import c2pa
    except ImportError:
        return None
    return c2pa


@dataclass(frozen=True)
class Certificate:
    """A signing certificate: the chain and the private key of a PEM file.

    Attributes:
        chain: certificates, the signer's first.
        key: private key.
        algorithm: es256, es384, ps256 or ed25519.
    """

    chain: bytes
    key: bytes
    algorithm: str

    @classmethod
    def read(cls, path: Path) -> "Certificate":
        """Read a PEM file with the certificates and the unencrypted private key, and sign a picture of one pixel with it.

        Raises:
            UserError: c2pa-python is not installed, there is no such file, or it has no usable certificate and key.
        """
        if library() is None:
            raise UserError("content credentials need c2pa-python: pip install 'genai[c2pa]'")
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

        if not path.is_file():
            raise UserError(f"there is no certificate {path}: name a PEM file with the certificate chain and the private key")
        content = read_bounded(path, 2**20)
        blocks = [b"-----BEGIN " + block for block in content.split(b"-----BEGIN ")[1:]]
        chain = b"".join(block for block in blocks if b"CERTIFICATE-----" in block.splitlines()[0])
        key = b"".join(block for block in blocks if b"PRIVATE KEY-----" in block.splitlines()[0])
        try:
            private: Any = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path} has no private key that can be read ({str(error).splitlines()[0]}): add it as PEM"
            ) from None
        if not chain:
            raise UserError(f"{path} has a private key and no certificate: add the certificate chain as PEM")
        if isinstance(private, ec.EllipticCurvePrivateKey):
            algorithm = {"secp256r1": "es256", "secp384r1": "es384"}.get(private.curve.name, "es512")
        else:
            algorithms: dict[type, str] = {ed25519.Ed25519PrivateKey: "ed25519", rsa.RSAPrivateKey: "ps256"}
            algorithm = algorithms.get(public_type(private) or object, "")
        if not algorithm:
            raise UserError(f"{path} has a key that C2PA does not know: use an elliptic curve (P-256), RSA or Ed25519")
        certificate = cls(chain, key, algorithm)
        pixel = io.BytesIO()
        Image.new("L", (1, 1)).save(pixel, "PNG")
        certificate.signed(pixel.getvalue(), FORMATS[".png"])
        return certificate

    def sign(self, path: Path) -> None:
        """Add content credentials to an image file of genai: that a model made it, signed."""
        write_atomically(path, self.signed(path.read_bytes(), FORMATS[path.suffix]))

    def signed(self, content: bytes, kind: str) -> bytes:
        """The bytes of an image of the media type `kind`, with content credentials.

        Raises:
            UserError: the certificate is not one for signing content.
        """
        c2pa = library()
        created = {"action": "c2pa.created", "digitalSourceType": GENERATED}
        manifest = {
            "claim_generator_info": [{"name": "genai", "version": __version__}],
            "format": kind,
            "assertions": [{"label": "c2pa.actions", "data": {"actions": [created]}}],
        }
        signed = io.BytesIO()
        try:
            signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(self.algorithm.encode(), self.chain, self.key, None))
            c2pa.Builder(manifest).sign(signer, kind, io.BytesIO(content), signed)
        except c2pa.C2paError as error:
            raise UserError(
                f"C2PA refuses the certificate ({str(error).splitlines()[0]}): it needs the key usage digitalSignature and the "
                "extended key usage emailProtection or documentSigning"
            ) from None
        return signed.getvalue()


def public_type(key: Any) -> type | None:
    """The class of cryptography's interface that a private key implements."""
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    return next((kind for kind in (ed25519.Ed25519PrivateKey, rsa.RSAPrivateKey) if isinstance(key, kind)), None)


def media_type(path: Path) -> str | None:
    """The type of a file that can have credentials, by its content; by its ending where it is no picture that Pillow reads."""
    try:
        with Image.open(path) as image:
            found = Image.MIME.get(image.format or "")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        found = None
    return found if found in FORMATS.values() else FORMATS.get(path.suffix.lower())


def read_credentials(path: Path) -> Credentials | str | None:
    """The content credentials of an image file; a URL where they lie on a server, which is not contacted; None without any.

    The module c2pa is installed.

    Raises:
        UserError: the credentials are damaged.
    """
    c2pa = library()
    kind = media_type(path)
    if kind is None:
        return None
    try:
        context = c2pa.Context(c2pa.Settings.from_dict(OFFLINE))
        content = io.BytesIO(read_bounded(path, MAX_BYTES))
        reader = c2pa.Reader(kind, content, context=context)
        found = json.loads(reader.json())
    except c2pa.C2paError as error:
        if "ManifestNotFound" in type(error).__name__:
            return None
        if "must fetch remote manifests" in str(error):
            return str(error).rpartition("from url ")[2]
        raise UserError(f"{path} has content credentials that cannot be read ({str(error).splitlines()[0]})") from None
    manifest = found["manifests"][found["active_manifest"]]
    signature, software = manifest.get("signature_info", {}), manifest.get("claim_generator_info") or [{}]
    codes = [status["code"] for status in found.get("validation_status", ())]
    return Credentials(
        signer=signature.get("common_name", "unknown"),
        issuer=signature.get("issuer", "unknown"),
        software=" ".join(str(software[0].get(key, "")) for key in ("name", "version")).strip(),
        is_generated=GENERATED in json.dumps(manifest),
        problems=tuple(code for code in codes if code != UNTRUSTED),
    )
