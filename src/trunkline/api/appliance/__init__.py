"""The Appliance API v1: what tenants order, and what hosts see of it.

service ──▶ Engine ──▶ appliances (what comes with one) ──▶ legs, units, policies ──▶ events
hosts' reports ──▶ observation ──▶ status
              └──▶ growth: more data planes by their load, or fewer
"""

from trunkline.api.appliance.figures import Counts, Figures
from trunkline.api.appliance.growth import Growth, Step, take, watched
from trunkline.api.appliance.observation import observe, settle, shown, waiting
from trunkline.api.appliance.quotas import limit as quota_limit
from trunkline.api.appliance.service import STAGES, service
from trunkline.api.appliance.subnets import followed as subnets_followed

__all__ = [
    "STAGES",
    "Counts",
    "Figures",
    "Growth",
    "Step",
    "observe",
    "quota_limit",
    "service",
    "settle",
    "shown",
    "subnets_followed",
    "take",
    "waiting",
    "watched",
]
