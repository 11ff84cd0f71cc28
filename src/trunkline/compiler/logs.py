"""Logs of security groups to what is logged of which rule sets."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.compiler.derive import View
from trunkline.compiler.logical import TrafficLog
from trunkline.resources.network import Log, Port, SecurityGroup


def traffic_log(view: View, key: str) -> Iterator[TrafficLog]:
    """The rule sets that a log is of, and the port if it is of one alone."""
    log = view.need(Log, key)
    groups = view.ask(_groups, key)
    if not log.enabled or groups is None:
        return
    yield TrafficLog(
        key=key,
        rule_sets=groups,
        port=log.target_id,
        accepted=log.event != "DROP",
        dropped=log.event != "ACCEPT",
    )


def _groups(view: View, key: str) -> tuple[str, ...] | None:
    """The groups that a log is of; None where its port is not filtered."""
    log = view.need(Log, key)
    if log.target_id is not None:
        port = view.get(Port, log.target_id)
        if port is None or not port.port_security_enabled:
            return None
        return (log.resource_id,) if log.resource_id is not None else tuple(sorted(port.security_groups))
    if log.resource_id is not None:
        return (log.resource_id,)
    return tuple(group.id for group in view.where(SecurityGroup, "project_id", log.project_id))
