"""Metering labels and their rules: what a rule may say, and what the hosts have counted."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.network import common
from trunkline.api.network.addressing import refuse_field
from trunkline.errors import BadRequest, Conflict
from trunkline.resources.network import HostCount, MeteringLabel, MeteringLabelRule
from trunkline.resources.network.metering import COUNTS


def create(call: Call, label: MeteringLabel, given: frozenset[str]) -> MeteringLabel:
    """Needs a project."""
    common.owned(label)
    return label


def delete(call: Call, label: MeteringLabel) -> None:
    """Its rules go with it."""
    for rule in call.tx.find(MeteringLabelRule, metering_label_id=label.id):
        call.drop(rule)


def create_rule(call: Call, rule: MeteringLabelRule, given: frozenset[str]) -> MeteringLabelRule:
    """Checks what a rule says; it is of its label's project.

    Raises:
        NotFound, BadRequest; Conflict: MeteringLabelRuleOverlaps.
    """
    label = call.get(MeteringLabel, rule.metering_label_id)
    if "project_id" in given and rule.project_id != label.project_id:
        raise refuse_field("project_id", f"a rule is of the project of its label, {label.project_id}.")
    both = [text for text in (rule.source_ip_prefix, rule.destination_ip_prefix) if text is not None]
    if rule.remote_ip_prefix is not None and both:
        raise refuse_field(
            "remote_ip_prefix", "it does not go with source_ip_prefix or destination_ip_prefix. Leave it out."
        )
    if rule.remote_ip_prefix is None and not both:
        raise BadRequest(
            "A metering label rule needs source_ip_prefix, destination_ip_prefix or remote_ip_prefix.",
            type="Invalid",
            field="source_ip_prefix",
        )
    if len({ipaddress.ip_network(text).version for text in both}) > 1:
        raise refuse_field("destination_ip_prefix", "it is of the same family as source_ip_prefix.")
    _refuse_overlap(call, rule)
    return replace(rule, project_id=label.project_id)


def _refuse_overlap(call: Call, rule: MeteringLabelRule) -> None:
    """As in Neutron, of the one field that it is refused of; a packet is counted once in any case."""
    if rule.remote_ip_prefix is None:
        return
    own = ipaddress.ip_network(rule.remote_ip_prefix)
    for other in call.tx.find(MeteringLabelRule, metering_label_id=rule.metering_label_id):
        if (other.direction, other.excluded) != (rule.direction, rule.excluded):
            continue
        if other.remote_ip_prefix and own.overlaps(ipaddress.ip_network(other.remote_ip_prefix)):
            raise Conflict(
                f"Label rule with remote_ip_prefix '{rule.remote_ip_prefix}' overlaps another.",
                type="MeteringLabelRuleOverlaps",
                field="remote_ip_prefix",
            )


def observe(call: Call, counts: Iterable[tuple[str, HostCount]]) -> None:
    """Adds what a host has counted since it was last heard, by the ids of labels."""
    for id, count in counts:
        label = call.tx.get(MeteringLabel, id)
        if label is not None and count not in label.host_counts:
            call.tx.observe(counted(label, count))


def counted(label: MeteringLabel, count: HostCount) -> MeteringLabel:
    """A label with what a host says now: all of it where the host began to count anew."""
    before = {each.host: each for each in label.host_counts}
    last = before.get(count.host)
    known = last if last is not None and last.since == count.since else None
    # A host never counts back; were it to, nothing would be taken away.
    more = {name: max(0, getattr(count, name) - (getattr(known, name) if known else 0)) for name in COUNTS}
    before[count.host] = count
    return replace(
        label,
        host_counts=list(before.values()),
        **{name: getattr(label, name) + added for name, added in more.items()},
    )
