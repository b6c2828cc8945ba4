"""One way into ROS 2 for the source and the sink. It has not been run, for want of ROS."""

from __future__ import annotations

from typing import Any

SETUP = "needs rclpy, which comes with ROS 2 (`source /opt/ros/DISTRO/setup.bash`) and its Python"


def make_node(name: str) -> Any:
    """A node of this process; whoever asked for it destroys it.

    ROS takes no signals here: an interrupt ends the stream, which says its summary first.

    Raises:
        ImportError: no ``rclpy``.
    """
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    if not rclpy.ok():
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    return rclpy.create_node(name)
