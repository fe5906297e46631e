"""A key in AWS KMS, which signs there and never leaves it: ECC_SECG_P256K1, SIGN_VERIFY."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from coordinator.chain.signers.secp256k1 import address_of_point
from coordinator.domain.errors import ConfigurationError, SignerUnavailable
from coordinator.extras import needs_extra

# A round of the executor waits for a signature: an answer that is late is asked for again soon.
_CONNECT_SECONDS: Final = 3
_READ_SECONDS: Final = 5
_TRIES: Final = 2
# What asking again does not mend.
_FOR_PEOPLE: Final = frozenset(
    {
        "AccessDeniedException",
        "DisabledException",
        "InvalidClientTokenId",
        "InvalidKeyUsageException",
        "InvalidSignatureException",
        "KMSInvalidStateException",
        "NotFoundException",
        "UnrecognizedClientException",
        "UnsupportedOperationException",
        "ValidationException",
    }
)
_Answer = TypeVar("_Answer")


class KmsKey:
    """A key of KMS by its id, ARN or alias; credentials and region are found as AWS's tools do."""

    def __init__(self, key_id: str) -> None:
        with needs_extra("aws-kms", "a key in AWS KMS"):
            import boto3  # type: ignore[import-untyped]  # noqa: F401
        self._key_id = key_id
        self._client: Any = None
        self._address: str | None = None

    @property
    def name(self) -> str:
        return f"the AWS KMS key {self._key_id}"

    def open(self) -> str:
        if self._address is None:
            self._address = self._ask(self._read_address)
        return self._address

    def sign(self, digest: bytes) -> bytes:
        self.open()
        return self._ask(lambda: self._sign(digest))

    def _read_address(self) -> str:
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, EllipticCurvePublicKey
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            PublicFormat,
            load_der_public_key,
        )

        self._client = self._connect()
        found = self._client.get_public_key(KeyId=self._key_id)
        key = load_der_public_key(found["PublicKey"])
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256K1):
            raise ConfigurationError(
                f"{self.name} is of another kind: make one with --key-spec ECC_SECG_P256K1"
                " --key-usage SIGN_VERIFY"
            )
        # An alias may be given to another key later; its ARN is this key's for good.
        self._key_id = found["KeyId"]
        point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return address_of_point(point)

    def _connect(self) -> Any:
        import boto3
        from botocore.config import Config  # type: ignore[import-untyped]

        # An ARN is arn:PARTITION:kms:REGION:ACCOUNT:key/ID.
        region = self._key_id.split(":")[3] if self._key_id.startswith("arn:") else None
        return boto3.client(
            "kms",
            region_name=region,
            config=Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"total_max_attempts": _TRIES, "mode": "standard"},
            ),
        )

    def _sign(self, digest: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        answer = self._client.sign(
            KeyId=self._key_id,
            Message=digest,
            MessageType="DIGEST",
            SigningAlgorithm="ECDSA_SHA_256",
        )
        r, s = decode_dss_signature(answer["Signature"])
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        from botocore.exceptions import (  # type: ignore[import-untyped]
            BotoCoreError,
            ClientError,
            NoCredentialsError,
            NoRegionError,
            PartialCredentialsError,
            ProfileNotFound,
        )

        try:
            return question()
        except ClientError as fault:
            code = str(fault.response.get("Error", {}).get("Code", "no code"))
            said = f"{self.name}: AWS refused with {code}"
            kind = ConfigurationError if code in _FOR_PEOPLE else SignerUnavailable
            raise kind(f"{said}; nothing was signed") from None
        except (NoCredentialsError, NoRegionError, PartialCredentialsError, ProfileNotFound) as no:
            raise ConfigurationError(f"{self.name}: {no}") from None
        except BotoCoreError as fault:
            said = f"{self.name}: no answer ({type(fault).__name__})"
            raise SignerUnavailable(f"{said}; nothing was signed") from None
