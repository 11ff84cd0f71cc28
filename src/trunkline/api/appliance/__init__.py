"""The Appliance API v1: what tenants order, and what hosts see of it.

service ──▶ Engine ──▶ appliances (what comes with one) ──▶ legs, units, policies ──▶ events
hosts' reports ──▶ observation ──▶ status
"""

from trunkline.api.appliance.observation import Figures, observe, settle, shown, waiting
from trunkline.api.appliance.quotas import limit as quota_limit
from trunkline.api.appliance.service import STAGES, service

__all__ = ["STAGES", "Figures", "observe", "quota_limit", "service", "settle", "shown", "waiting"]
