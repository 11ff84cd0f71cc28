"""The Image API (v2)."""

from trunkline.api.image.behaviour import STAGES, register_image
from trunkline.api.image.dialect import service
from trunkline.api.image.imports import Imports, Web

__all__ = ["STAGES", "Imports", "Web", "register_image", "service"]
