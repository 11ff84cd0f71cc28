"""The Compute API (v2.1)."""

from trunkline.api.compute import flavors, groups, servers
from trunkline.api.compute.dialect import service
from trunkline.api.compute.flavors import seed

#: What each kind does beside the common stages.
STAGES = {**flavors.STAGES, **groups.STAGES, **servers.STAGES}

__all__ = ["STAGES", "seed", "service"]
