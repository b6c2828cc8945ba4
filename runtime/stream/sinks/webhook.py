"""``http(s)://HOST/PATH``: every event as a POST of its own, signed, tried again until it is taken.

With ``#secret_env=NAME`` each request carries ``X-Edgevlm-Signature: t=SECONDS,v1=HEX``, where HEX
is the HMAC-SHA256 of ``SECONDS.BODY`` under the secret. ``X-Edgevlm-Event`` is the event's id: the
same event may come twice, and its id tells. Redirects are not followed.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import time
from collections.abc import Callable, Sequence

from edgevlm.runtime.stream.delivery.courier import Refused, Undelivered
from edgevlm.runtime.stream.delivery.outbox import Message
from edgevlm.runtime.stream.delivery.sink import DeliveredSink
from edgevlm.runtime.stream.delivery.uri import Receiver

OPTIONS = ("secret_env", "timeout", "outbox")
TIMEOUT_S = 10.0
LATER = (408, 425, 429)  # of the 4xx, those that another try may mend


class WebhookSink(DeliveredSink):
    """Events to an HTTP endpoint.

    Args:
        uri: as in ``https://host/hook#secret_env=HOOK_SECRET&timeout=10&outbox=PATH``.

    Raises:
        ConfigError: no host, an unknown option, or no such environment variable.
        SinkError: the outbox cannot be opened.
    """

    def __init__(self, uri: str) -> None:
        receiver = Receiver.parse(uri, OPTIONS)
        secret = receiver.secret("secret_env")
        timeout_s = receiver.seconds("timeout", TIMEOUT_S)
        super().__init__(
            receiver.name, lambda: HttpChannel(receiver, secret, timeout_s), receiver.outbox
        )


class HttpChannel:
    """POSTs over one connection that is kept open while the receiver keeps it.

    Args:
        receiver: where.
        secret: of the signature; None sends none.
        timeout_s: for connecting and for every answer.
        clock: seconds since the Unix epoch, for the signature.
    """

    def __init__(
        self,
        receiver: Receiver,
        secret: str | None,
        timeout_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        parts = receiver.parts
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        assert parts.hostname is not None
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._secret = secret
        self._clock = clock

    def deliver(self, messages: Sequence[Message]) -> None:
        """POST each event.

        Raises:
            Undelivered: no answer, 5xx, 408, 425 or 429.
            Refused: any other answer but 2xx.
        """
        for taken, message in enumerate(messages):
            status, retry_after = self._post(message, taken)
            if 200 <= status < 300:
                continue
            if status >= 500 or status in LATER:
                raise Undelivered(f"the receiver answers {status}", taken, retry_after)
            raise Refused(f"the receiver answers {status}", taken)

    def _post(self, message: Message, taken: int) -> tuple[int, float | None]:
        body = message.body.encode()
        headers = {"Content-Type": "application/json", "X-Edgevlm-Event": message.event}
        if self._secret is not None:
            headers["X-Edgevlm-Signature"] = signature(self._secret, round(self._clock()), body)
        try:
            self._connection.request("POST", self._path, body, headers)
            answer = self._connection.getresponse()
            answer.read(65536)
            if not answer.isclosed():  # more than anybody needs to say
                self._connection.close()
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            raise Undelivered(f"no answer: {exc or type(exc).__name__}", taken) from exc
        wanted = answer.headers.get("Retry-After", "")
        return answer.status, float(wanted) if wanted.isdecimal() else None

    def idle(self) -> None:
        """Nothing is kept alive."""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def signature(secret: str, seconds: int, body: bytes) -> str:
    """What ``X-Edgevlm-Signature`` says: ``t=SECONDS,v1=HMAC-SHA256(secret, "SECONDS.BODY")``."""
    signed = hmac.new(secret.encode(), str(seconds).encode() + b"." + body, hashlib.sha256)
    return f"t={seconds},v1={signed.hexdigest()}"
