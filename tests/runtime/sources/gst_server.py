"""An RTSP server on loopback, run by Debian's Python: CLIP [USER PASSWORD]; prints its port."""

from __future__ import annotations

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
for element in ("qtdemux", "rtph264pay", "rtpbin"):
    if Gst.ElementFactory.find(element) is None:
        sys.exit(f"no GStreamer element {element}")
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service("0")
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_launch(f'( filesrc location="{sys.argv[1]}" ! qtdemux ! queue ! rtph264pay name=pay0 )')
factory.set_shared(True)
server.get_mount_points().add_factory("/cam", factory)
if len(sys.argv) > 3:
    auth = GstRtspServer.RTSPAuth.new()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(sys.argv[2], sys.argv[3]), token)
    server.set_auth(auth)
    allowed = "viewer, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    factory.add_role_from_structure(Gst.Structure.new_from_string(allowed))
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
