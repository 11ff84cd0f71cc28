"""Logs of what security groups let pass and drop."""

from __future__ import annotations

from typing import Annotated, Literal

from trunkline.resources.network.checks import Uuid
from trunkline.resources.schema import fixed, resource, settable
from trunkline.resources.standard import Standard
from trunkline.resources.types import Name


@resource(kind="log", plural="logs", service="network", quota=100)
class Log(Standard, kw_only=True):
    """Has packets written to the log of the host that let them pass or dropped them.

    Of a security group, of a port, or of a port as a member of a group; without either, of all groups
    of the project.
    """

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: Whether anything is written.
    enabled: Annotated[bool, settable()] = True
    #: What is written of: packets that a rule let pass, packets that none did, or both.
    event: Annotated[Literal["ALL", "ACCEPT", "DROP"], fixed()] = "ALL"
    #: What is looked at.
    resource_type: Annotated[Literal["security_group"], fixed(required=True)] = "security_group"
    #: The security group.
    resource_id: Annotated[Uuid | None, fixed(index=True)] = None
    #: The port.
    target_id: Annotated[Uuid | None, fixed(index=True)] = None
