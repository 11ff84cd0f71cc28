"""The backend `ovn`: the logical network as rows of OVN's northbound database (ovn-nb(5))."""

from trunkline.backends.ovn.backend import OvnBackend
from trunkline.backends.ovn.dhcp import unsupported_dhcp_options
from trunkline.backends.ovn.filters import unsupported_rule

__all__ = ["OvnBackend", "unsupported_dhcp_options", "unsupported_rule"]
