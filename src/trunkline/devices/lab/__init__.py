"""Lab mode: the hosts of a cloud, the underlay between them and the world outside, as namespaces.

    topology   names, addresses, and what is plugged into what
    wiring     makes that in the kernel, and takes it away
    daemons    the programs that run in it, as units of the keeper
    seeds      the files that those programs start from: databases, configurations

A lab host does what a real machine does; nothing above `devices` can tell the difference.
"""

from trunkline.devices.lab.daemons import controller_is_connected, switch_database, units
from trunkline.devices.lab.seeds import prepare_files
from trunkline.devices.lab.topology import Topology
from trunkline.devices.lab.wiring import connect_switch, remove, wire

__all__ = [
    "Topology",
    "connect_switch",
    "controller_is_connected",
    "prepare_files",
    "remove",
    "switch_database",
    "units",
    "wire",
]
