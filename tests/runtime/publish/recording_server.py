"""An RTSP server on loopback that takes a stream: FILE [USER PASSWORD]; prints its port.

Debian's Python runs it. What is published to /live is written to FILE as H.264 (Annex B).
"""

from __future__ import annotations

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
for element in ("rtph264depay", "h264parse", "filesink", "rtpbin"):
    if Gst.ElementFactory.find(element) is None:
        sys.exit(f"no GStreamer element {element}")
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service("0")
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_launch(
    "( rtph264depay name=depay0 ! h264parse ! video/x-h264,stream-format=byte-stream ! "
    f'filesink location="{sys.argv[1]}" append=true sync=false async=false buffer-mode=2 )'
)
factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
factory.set_latency(20)
server.get_mount_points().add_factory("/live", factory)
if len(sys.argv) > 3:
    auth = GstRtspServer.RTSPAuth.new()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "camera")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(sys.argv[2], sys.argv[3]), token)
    server.set_auth(auth)
    allowed = "camera, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    factory.add_role_from_structure(Gst.Structure.new_from_string(allowed))
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
