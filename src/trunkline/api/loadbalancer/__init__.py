"""The Load Balancer API v2, as Octavia has it: what tenants order, on appliances.

service ──▶ Engine ──▶ loadbalancers, listeners, pools, l7 (their checks) ──▶ beneath ──▶ appliance
                                                              hosts' reports ──▶ told ──▶ statuses
"""

from trunkline.api.loadbalancer.beneath import observe
from trunkline.api.loadbalancer.quotas import limit as quota_limit
from trunkline.api.loadbalancer.service import service
from trunkline.api.loadbalancer.stages import STAGES

__all__ = ["STAGES", "observe", "quota_limit", "service"]
