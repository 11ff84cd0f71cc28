"""Logs of security groups: what they refer to is there, and takes them along when it goes."""

from __future__ import annotations

from trunkline.api.engine import Call
from trunkline.api.network import common
from trunkline.errors import Conflict, NotFound
from trunkline.resources.network import Log, Port, SecurityGroup

#: The types of resources that can be logged.
LOGGABLE = ("security_group",)


def create(call: Call, log: Log, given: frozenset[str]) -> Log:
    """Checks that group and port are there, and that the port is in the group."""
    common.owned(log)
    if log.resource_id is not None and call.tx.get(SecurityGroup, log.resource_id) is None:
        raise NotFound(
            f"Log resource {log.resource_id} could not be found.",
            type="ResourceNotFound",
            field="resource_id",
        )
    if log.target_id is None:
        return log
    port = call.tx.get(Port, log.target_id)
    if port is None:
        raise NotFound(
            f"Target resource {log.target_id} could not be found.",
            type="TargetResourceNotFound",
            field="target_id",
        )
    if log.resource_id is not None and log.resource_id not in port.security_groups:
        raise Conflict(
            f"Port {port.id} is not in security group {log.resource_id}: nothing would be logged.",
            type="InvalidResourceConstraint",
            field="target_id",
        )
    return log


def drop_of(call: Call, thing: SecurityGroup | Port) -> None:
    """Takes the logs of a group or a port away, which is deleted."""
    field = "resource_id" if isinstance(thing, SecurityGroup) else "target_id"
    for log in call.tx.find(Log, **{field: thing.id}):
        call.drop(log)
