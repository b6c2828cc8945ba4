"""``mqtt(s)://HOST/TOPIC``: events to an MQTT 5 broker, at least once.

Under the topic: ``TOPIC/events`` has every event with quality of service 1, its id as the user
property ``event``; ``TOPIC/status`` is retained and says ``online`` from every connection on, and
``offline`` when the run ends, or by the broker itself when it dies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from edgevlm.errors import BackendUnavailable
from edgevlm.runtime.stream.delivery.courier import Undelivered
from edgevlm.runtime.stream.delivery.outbox import Message
from edgevlm.runtime.stream.delivery.sink import DeliveredSink
from edgevlm.runtime.stream.delivery.uri import Receiver

OPTIONS = ("password_env", "client_id", "ca", "keepalive", "timeout", "outbox")
TIMEOUT_S, KEEPALIVE_S = 10.0, 15.0
LOOP_S = 0.05


class MqttSink(DeliveredSink):
    """Events to an MQTT broker.

    Args:
        uri: as in ``mqtts://user@host:8883/site/door#password_env=NAME&ca=FILE&client_id=door-1``.

    Raises:
        ConfigError: no host, an unknown option, or no such environment variable.
        BackendUnavailable: paho-mqtt is not installed.
        SinkError: the outbox cannot be opened.
    """

    def __init__(self, uri: str) -> None:
        receiver = Receiver.parse(uri, OPTIONS)
        password = receiver.secret("password_env")
        timeout_s = receiver.seconds("timeout", TIMEOUT_S)
        keepalive_s = receiver.seconds("keepalive", KEEPALIVE_S)
        try:
            import paho.mqtt.client as paho
        except ImportError as exc:
            raise BackendUnavailable("mqtt: needs paho-mqtt: pip install 'edgevlm[mqtt]'") from exc
        super().__init__(
            receiver.name,
            lambda: MqttChannel(paho, receiver, password, timeout_s, keepalive_s),
            receiver.outbox,
        )


class MqttChannel:
    """One connection to a broker, made when it is needed and made again when it is lost.

    Args:
        paho: the module ``paho.mqtt.client``.
        receiver: where.
        password: of the user in the URI.
        timeout_s: for connecting and for every acknowledgement.
        keepalive_s: the broker takes us for dead after one and a half of it.
    """

    def __init__(
        self,
        paho: Any,
        receiver: Receiver,
        password: str | None,
        timeout_s: float,
        keepalive_s: float,
    ) -> None:
        parts = receiver.parts
        self._paho = paho
        self._secure = parts.scheme == "mqtts"
        self._host, self._port = parts.hostname, parts.port or (8883 if self._secure else 1883)
        self._topic = parts.path.strip("/") or "edgevlm"
        self._user, self._password = parts.username, password
        self._options = receiver.options
        self._timeout_s, self._keepalive_s = timeout_s, max(1, round(keepalive_s))
        self._refusal = ""
        self._client: Any = None

    def _made(self) -> Any:
        """A client without a past: it sends nothing of an earlier connection again by itself."""
        client = self._paho.Client(
            self._paho.CallbackAPIVersion.VERSION2,
            client_id=self._options.get("client_id", ""),
            protocol=self._paho.MQTTv5,
        )
        client.connect_timeout = self._timeout_s
        client.on_connect = self._on_connect
        client.will_set(f"{self._topic}/status", "offline", qos=1, retain=True)
        if self._user is not None:
            client.username_pw_set(self._user, self._password)
        if self._secure:
            client.tls_set(ca_certs=self._options.get("ca"))
        return client

    def _on_connect(
        self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        self._refusal = str(reason) if reason.is_failure else ""
        if not reason.is_failure:
            client.publish(f"{self._topic}/status", "online", qos=1, retain=True)

    def deliver(self, messages: Sequence[Message]) -> None:
        """Publish events and wait for the broker to have them.

        Raises:
            Undelivered: no connection, or no acknowledgement in time.
        """
        self._connect()
        sent = []
        for message in messages:
            properties = self._paho.Properties(self._paho.PacketTypes.PUBLISH)
            properties.UserProperty = ("event", message.event)
            properties.ContentType = "application/json"
            sent.append(
                self._client.publish(
                    f"{self._topic}/events", message.body.encode(), qos=1, properties=properties
                )
            )
        for taken, info in enumerate(sent):
            if not self._until(info.is_published):
                self._client = None
                raise Undelivered("the broker does not acknowledge", taken)

    def _connect(self) -> None:
        if self._client is not None and self._client.is_connected():
            return
        self._refusal = ""
        self._client = self._made()
        try:
            self._client.connect(self._host, self._port, keepalive=self._keepalive_s)
        except (OSError, ValueError) as exc:
            raise Undelivered(f"no connection: {exc}") from exc
        self._until(lambda: self._client.is_connected() or bool(self._refusal))
        if self._refusal:
            raise Undelivered(f"the broker refuses: {self._refusal}")
        if not self._client.is_connected():
            raise Undelivered("the broker does not answer")

    def _until(self, done: Callable[[], bool], client: Any = None) -> bool:
        """Let the client work until ``done``, the connection is gone, or time is up."""
        client = client or self._client
        end = time.monotonic() + self._timeout_s
        while not done():
            if time.monotonic() > end:
                return False
            if client.loop(LOOP_S) != self._paho.MQTT_ERR_SUCCESS:
                return bool(done())
        return True

    def idle(self) -> None:
        """Keep the connection, and make it anew: the status is true while nothing happens.

        Raises:
            Undelivered: it is gone and cannot be made.
        """
        self._connect()
        if self._client.loop(LOOP_S) != self._paho.MQTT_ERR_SUCCESS:
            self._connect()

    def close(self) -> None:
        """Say that this run is over and disconnect."""
        client, self._client = self._client, None
        if client is None or not client.is_connected():
            return
        farewell = client.publish(f"{self._topic}/status", "offline", qos=1, retain=True)
        self._until(farewell.is_published, client)
        client.disconnect()
        client.loop(LOOP_S)
