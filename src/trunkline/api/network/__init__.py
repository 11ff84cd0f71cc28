"""The Network API (v2.0): networks, subnets, ports, routers, floating IPs, security groups."""

from __future__ import annotations

from trunkline.api.network.networks import Settings
from trunkline.api.network.quotas import limit as quota_limit
from trunkline.api.network.routers import reschedule
from trunkline.api.network.service import service
from trunkline.api.network.stages import stages

#: The stages of every kind, with the region's usual settings.
STAGES = stages(Settings())

__all__ = ["STAGES", "Settings", "quota_limit", "reschedule", "service", "stages"]
