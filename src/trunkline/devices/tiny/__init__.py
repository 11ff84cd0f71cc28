"""The first image."""

from trunkline.devices.tiny.build import TinyImage, build, default_cache
from trunkline.devices.tiny.packages import BuildFailed

__all__ = ["BuildFailed", "TinyImage", "build", "default_cache"]
