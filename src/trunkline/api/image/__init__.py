"""The Image API (v2)."""

from trunkline.api.image.behaviour import STAGES, register_image
from trunkline.api.image.dialect import service

__all__ = ["STAGES", "register_image", "service"]
