"""What a fleet with a configured key writes to Redis is sealed or signed, so that what others write there does not
count.

Whoever can write to Redis could otherwise register commands, add API keys and pose as a member. Sealed is what has
secrets: how upstreams are reached. Signed is what only has to be true: lists of upstreams, API keys, virtual servers,
members. Without the setting ``secret`` nothing is marked, as the fleet's key is then in Redis itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw, Struct

from shared.secrets import FleetKey

Fields = Mapping[bytes, bytes]
SEALED = "sealed"
"""The field of a hash that has the sealed fields."""
SIGNATURE = "signature"
"""The field of a hash that has the names of the signed fields and the signature over them."""
FOREIGN = "its record in Redis is not sealed with this fleet's key (GATEWAY_SECRET): register it again, or remove it"
NO_KEY = (
    "its record in Redis is sealed with a key that this process does not have: set GATEWAY_SECRET as the rest of the "
    "fleet has it"
)


class _Sealed(Struct, array_like=True):
    fields: dict[str, bytes]


class _Signed(Struct, frozen=True):
    record: Raw
    signature: str


class Seals:
    """The seals and signatures of one fleet. ``active`` is false if the fleet has no configured key."""

    def __init__(self, secret: str = "") -> None:
        self._key = FleetKey.from_secret(secret) if secret else None
        self.active = self._key is not None
        self.rotating = self._key is not None and self._key.has_older

    def fingerprint(self, purpose: str, data: bytes) -> str:
        """Return what is equal for equal ``data`` and tells nothing else about it; empty without a key."""
        return self._key.sign(_statement(purpose, "", [data]))[:32] if self._key is not None else ""

    # ---- text that stands for one record

    def sign(self, purpose: str, name: str, record: bytes) -> str:
        """Return the signature of a record, for its name and purpose; empty without a key."""
        return self._key.sign(_statement(purpose, name, [record])) if self._key is not None else ""

    def signed(self, purpose: str, name: str, record: bytes, signature: str) -> bool:
        """Return whether this fleet wrote a record. Without a key every record counts."""
        return self._key is None or self._key.signed(_statement(purpose, name, [record]), signature)

    def enclose(self, purpose: str, name: str, record: bytes) -> bytes:
        """Return a record of JSON with its signature, as JSON; as it is without a key."""
        signature = self.sign(purpose, name, record)
        return msgspec.json.encode(_Signed(Raw(record), signature)) if signature else record

    def disclose(self, purpose: str, name: str, enclosed: bytes) -> bytes | None:
        """Return the record that this fleet enclosed, ``None`` if it did not. Without a key every record counts."""
        if self._key is None:
            return enclosed
        try:
            found = msgspec.json.decode(enclosed, type=_Signed)
        except msgspec.MsgspecError:
            return None
        record = bytes(found.record)
        return record if self.signed(purpose, name, record, found.signature) else None

    # ---- hashes

    def sign_fields(self, purpose: str, name: str, fields: Mapping[str, str | bytes]) -> dict[str, str | bytes]:
        """Return ``fields`` with their signature; as they are without a key."""
        if self._key is None:
            return dict(fields)
        names = sorted(fields)
        parts = [value.encode() if isinstance(value := fields[one], str) else value for one in names]
        listed = ",".join(names)
        return {**fields, SIGNATURE: f"{listed}:{self._key.sign(_statement(purpose, name, [listed.encode(), *parts]))}"}

    def signed_fields(self, purpose: str, name: str, fields: Fields) -> dict[bytes, bytes] | None:
        """Return the fields that this fleet signed, ``None`` if the signature is missing or wrong. Without a key all
        fields count."""
        if self._key is None:
            return {key: value for key, value in fields.items() if key != SIGNATURE.encode()}
        listed, _, signature = fields.get(SIGNATURE.encode(), b"").decode("latin-1").rpartition(":")
        names = [one.encode("latin-1") for one in listed.split(",")]
        if not signature or not all(one in fields for one in names):
            return None
        parts = [fields[one] for one in names]
        if not self._key.signed(_statement(purpose, name, [listed.encode("latin-1"), *parts]), signature):
            return None
        return dict(zip(names, parts, strict=True))

    def seal_fields(self, name: str, fields: Sequence[str | bytes]) -> str:
        """Return alternating names and values of a hash as one sealed text; empty without a key."""
        if self._key is None:
            return ""
        pairs = zip(fields[::2], fields[1::2], strict=True)
        held = {str(field): value.encode() if isinstance(value, str) else value for field, value in pairs}
        return self._key.seal(_Sealed(held), _purpose(name))

    def unseal_fields(self, name: str, fields: Fields) -> tuple[Fields, str]:
        """Return the fields with those that are sealed put over them, and why they do not count, if they do not."""
        sealed = fields.get(SEALED.encode(), b"")
        if self._key is None:
            return fields, NO_KEY if sealed else ""
        found = self._key.unseal(sealed.decode("latin-1"), _Sealed, _purpose(name)) if sealed else None
        if found is None:
            return fields, FOREIGN
        return {**fields, **{field.encode(): value for field, value in found.fields.items()}}, ""

    def renewed(self, name: str, sealed: str) -> str | None:
        """Return the same under the first key, ``None`` if it is under that, or not this fleet's."""
        key = self._key
        if key is None or key.unseal(sealed, _Sealed, _purpose(name), newest=True) is not None:
            return None
        found = key.unseal(sealed, _Sealed, _purpose(name))
        return key.seal(found, _purpose(name)) if found is not None else None


def _purpose(name: str) -> bytes:
    return b"upstream\0" + name.encode()


def _statement(purpose: str, name: str, parts: Sequence[bytes]) -> bytes:
    """Return bytes that are the same only for the same parts: each is behind its length."""
    statement = bytearray()
    for part in (purpose.encode(), name.encode(), *parts):
        statement += len(part).to_bytes(8, "big") + part
    return bytes(statement)
