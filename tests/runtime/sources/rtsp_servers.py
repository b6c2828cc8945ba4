"""RTSP servers on loopback: Debian's GStreamer in a child process, and scripted sockets."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import av

PACKAGES = "gir1.2-gst-rtsp-server-1.0 python3-gi"


class Server:
    """A loopback socket; ``talk`` gets each connection, on a thread of its own."""

    def __init__(self, talk, tls=None, port=0):
        self._talk, self._tls = talk, tls
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.uri = f"rtsp://127.0.0.1:{self.port}/live"
        self.requests = []
        self._open = [self._listener]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(5)
                self._open.append(connection)
                with contextlib.suppress(OSError):
                    if self._tls is not None:
                        connection = self._tls.wrap_socket(
                            connection, server_side=True, do_handshake_on_connect=False
                        )
                        self._open.append(connection)
                        connection.do_handshake()
                    self._talk(self, connection)

    def forget(self):
        """Requests so far, and connections that are closed."""
        self.requests.clear()
        self._open[:] = [each for each in self._open if each.fileno() >= 0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._thread.join(5)


def answer(status, *headers, body=""):
    """Talk that answers every request so."""

    def talk(server, connection):
        while data := connection.recv(65536):
            server.requests.append(data.decode(errors="replace"))
            if (asked := re.search(rb"CSeq: *(\d+)", data)) is None:
                return  # not of this client
            number = asked[1].decode()
            lines = [f"RTSP/1.0 {status}", f"CSeq: {number}", *headers, "", body]
            connection.sendall("\r\n".join(lines).encode())

    return talk


def silent(server, connection):
    while data := connection.recv(65536):
        server.requests.append(data.decode(errors="replace"))


@contextlib.contextmanager
def gstreamer(require, clip, *credentials):
    """Debian's GStreamer RTSP server in a child process; gives the address without a scheme."""
    script = Path(__file__).with_name("gst_server.py")
    if not Path("/usr/bin/python3").exists():
        require(f"no /usr/bin/python3 with GStreamer (apt-get install {PACKAGES})")
    child = subprocess.Popen(
        ["/usr/bin/python3", str(script), str(clip), *credentials],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        port = child.stdout.readline().strip()
        if not port:
            reason = child.communicate()[1].strip().splitlines()[-1:]
            require(f"no GStreamer RTSP server (apt-get install {PACKAGES}): {reason}")
        yield f"127.0.0.1:{port}/cam"
    finally:
        child.kill()
        child.communicate()


def parameter_sets(clip):
    """SPS and PPS of an MP4 clip, out of its avcC box."""
    with av.open(str(clip)) as container:
        extra = container.streams.video[0].codec_context.extradata
    sets, at = [], 6
    for _ in range(2):
        size = int.from_bytes(extra[at : at + 2], "big")
        sets.append(extra[at + 2 : at + 2 + size])
        at += 2 + size + 1
    return sets


def pictures(clip):
    """The coded pictures of an MP4 clip, each a list of NAL units."""
    found = []
    with av.open(str(clip)) as container:
        for packet in container.demux(video=0):
            data, units = bytes(packet), []
            while data:
                size = int.from_bytes(data[:4], "big")
                units.append(data[4 : 4 + size])
                data = data[4 + size :]
            if units:
                found.append(units)
    return found


def playing(sets, coded, *, every_s=0.0, close=False):
    """Talk of a camera: accepts everything up to PLAY, sends ``coded``, then falls silent.

    RTP payload of RFC 6184, single NAL unit mode, interleaved as in RFC 2326 section 10.12.
    """
    sprop = ",".join(base64.b64encode(each).decode() for each in sets)
    sdp = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track\r\n"
        f"a=fmtp:96 packetization-mode=0;sprop-parameter-sets={sprop}\r\n"
    )

    def send(connection):
        sequence = 0
        for number, units in enumerate(coded):
            for unit in units:
                last = 0x80 if unit is units[-1] else 0
                head = struct.pack(">BBHII", 0x80, 96 | last, sequence, number * 3600, 7)
                rtp = head + unit
                connection.sendall(b"$\x00" + len(rtp).to_bytes(2, "big") + rtp)
                sequence += 1
            time.sleep(every_s)

    def talk(server, connection):
        while data := connection.recv(65536):
            request = data.decode(errors="replace")
            server.requests.append(request)
            number = re.search(r"CSeq: *(\d+)", request)[1]
            head = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\nSession: 1;timeout=60\r\n"
            if request.startswith("OPTIONS"):
                head += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif request.startswith("SETUP"):
                head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            body = sdp if request.startswith("DESCRIBE") else ""
            if body:
                head += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            connection.sendall(f"{head}\r\n{body}".encode())
            if request.startswith("PLAY"):
                send(connection)
                if close:
                    connection.close()
                    return

    return talk
