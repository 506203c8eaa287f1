"""What a page sends back unchanged: sealed by the application, and opened by any of its processes.

A seal hides nothing. It says that the application wrote this, and not whoever sends it.
"""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, cast

from itsdangerous import BadData, URLSafeSerializer
from pydantic_core import to_jsonable_python
from starlette.exceptions import HTTPException

from durably import ConfigurationError, Durably
from durably_web.mistakes import nearest, shown

SHORTEST_KEY: Final = 32
LONGEST: Final = 5_400
"""Characters of a sealed text: it is a part of URLs."""
PURPOSE: Final = "durably_web.trigger_button"
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
        how = {"key_derivation": "hmac", "digest_method": sha256}
        self._signed = None if key is None else URLSafeSerializer(key, salt=PURPOSE, signer_kwargs=how)

    def seal(self, durably: Durably, job: str, input: object, idempotency_key: str | None) -> str:
        """The text that only we could have written.

        Raises:
            ConfigurationError: There is no key, no such job, or the input is too large.
            ValidationError: The input does not fit the job.
        """
        if self._signed is None:
            raise ConfigurationError(
                "trigger_button needs DurablyWeb(…, secret_key=…), the same in every process: what it triggers is "
                "signed with it, so that nobody can change it"
            )
        handle = durably.get_job(job)
        if handle is None:
            raise ConfigurationError(
                f"there is no job {shown(job)}{nearest(str(job), durably.jobs)}; there are: {', '.join(sorted(durably.jobs))}"
            )
        value: object = to_jsonable_python(input)
        handle.input_codec.validate_json(json.dumps(value), what=f"the input of job {job!r}")
        token = str(self._signed.dumps([job, value, idempotency_key]))
        if len(token) > LONGEST:
            raise ConfigurationError(
                f"what a trigger_button triggers takes {len(token):,} characters, and may take {LONGEST:,}: it is a part "
                "of URLs; pass a reference to what is large"
            )
        return token

    def open(self, token: str) -> Sealed:
        """What was sealed.

        Raises:
            HTTPException: 403, it was not us.
        """
        content: object = None
        if self._signed is not None:
            with suppress(BadData):
                content = self._signed.loads(token)
        if content is None:
            raise HTTPException(
                403, "This button is not of this application, or of an older one: reload the page"
            )
        job, value, key = cast("tuple[str, Any, str | None]", content)
        return Sealed(job=job, input=value, idempotency_key=key)
