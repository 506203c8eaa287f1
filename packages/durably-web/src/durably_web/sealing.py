"""What a page sends back unchanged: sealed by the application, and opened by any of its processes.

A seal hides nothing. It says that the application wrote this, and not whoever sends it.
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, cast

from pydantic import TypeAdapter
from starlette.exceptions import HTTPException

from durably import ConfigurationError, Durably

SHORTEST_KEY: Final = 32
MOST_BYTES: Final = 4_000
"""Of a sealed text: it is a part of URLs."""
ANYTHING: Final = TypeAdapter[object](object)
PURPOSE: Final = b"durably_web.trigger_button\0"
"""What else is signed with the same key is no seal of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What a button triggers."""

    job: str
    input: object = field(repr=False)
    """Plain JSON values."""
    idempotency_key: str | None = None


class Seal:
    """Seals, and opens.

    Args:
        key: The application's secret; None: nothing can be sealed, and nothing is opened.

    Raises:
        ConfigurationError: The key is too short to be one.
    """

    def __init__(self, key: str | None) -> None:
        if key is not None and len(key) < SHORTEST_KEY:
            raise ConfigurationError(
                f"secret_key must have at least {SHORTEST_KEY} characters that nobody can guess, the same ones in "
                "every process; make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        self._key = None if key is None else key.encode()

    def seal(self, durably: Durably, job: str, input: object, idempotency_key: str | None) -> str:
        """The text that only we could have written.

        Raises:
            ConfigurationError: There is no key, no such job, or the input is too large.
            ValidationError: The input does not fit the job.
        """
        if self._key is None:
            raise ConfigurationError(
                "trigger_button needs DurablyWeb(…, secret_key=…), the same in every process: what it triggers is "
                "signed with it, so that nobody can change it"
            )
        handle = durably.get_job(job)
        if handle is None:
            raise ConfigurationError(f"there is no job {job!r}; there are: {', '.join(sorted(durably.jobs))}")
        value: object = ANYTHING.dump_python(input, mode="json", by_alias=True)
        handle.input_codec.validate_json(json.dumps(value), what=f"the input of job {job!r}")
        text = json.dumps([job, value, idempotency_key], ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > MOST_BYTES:
            raise ConfigurationError(
                f"what a trigger_button triggers takes {len(text)} bytes, and may take {MOST_BYTES}: it is a part of "
                "URLs; pass a reference to what is large"
            )
        return f"{urlsafe_b64encode(text).decode()}.{_signed(self._key, text)}"

    def open(self, token: str) -> Sealed:
        """What was sealed.

        Raises:
            HTTPException: 403, it was not us.
        """
        body, _, signature = token.partition(".")
        try:
            text = urlsafe_b64decode(body.encode("ascii"))
            is_ours = self._key is not None and hmac.compare_digest(
                _signed(self._key, text).encode(), signature.encode("ascii")
            )
        except ValueError:
            is_ours, text = False, b""
        if not is_ours:
            raise HTTPException(
                403, "This button is not of this application, or of an older one: reload the page"
            )
        job, value, key = cast("tuple[str, Any, str | None]", json.loads(text))
        return Sealed(job=job, input=value, idempotency_key=key)


def _signed(key: bytes, text: bytes) -> str:
    return hmac.new(key, PURPOSE + text, sha256).hexdigest()
