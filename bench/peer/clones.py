"""Ports of the peer that only its database knows: enough for what lists cost."""

from __future__ import annotations

from typing import Any

from bench.peer.daemons import Peer

#: By table that has one row a port: the columns that are copied as they are.
_COPIED = {
    "ml2_port_bindings": ("host", "vif_type", "vnic_type", "profile", "vif_details", "status"),
    "ml2_port_binding_levels": ("host", "level", "driver", "segment_id"),
    "portsecuritybindings": ("port_security_enabled",),
    "securitygroupportbindings": ("security_group_id",),
}


def clone_ports(peer: Peer, template: dict[str, Any], number: int) -> None:
    """Copies a port until its network has so many: rows of the database, nothing in OVN."""
    subnet = template["fixed_ips"][0]["subnet_id"]
    rows = [
        f"SET @template = '{template['id']}', @network = '{template['network_id']}';",
        "SET @attribute = (SELECT standard_attr_id FROM ports WHERE id = @template);",
        "SET @base = (SELECT MAX(id) FROM standardattributes);",
        "SET @there = (SELECT COUNT(*) FROM ports WHERE network_id = @network);",
        "CREATE TEMPORARY TABLE made AS SELECT seq, UUID() AS id FROM seq_1_to_100000"
        f" WHERE seq <= {number} - @there;",
        "INSERT INTO standardattributes"
        " (id, resource_type, created_at, updated_at, description, revision_number)"
        " SELECT @base + seq, resource_type, NOW(), NOW(), description, revision_number"
        " FROM standardattributes JOIN made WHERE standardattributes.id = @attribute;",
        "INSERT INTO ports (project_id, id, name, network_id, mac_address, admin_state_up, status, device_id,"
        " device_owner, standard_attr_id, ip_allocation)"
        " SELECT project_id, made.id, CONCAT('clone', seq), network_id,"
        " CONCAT('fa:17:', LOWER(LPAD(HEX((@base + seq) DIV 65536), 2, '0')), ':',"
        " LOWER(LPAD(HEX((@base + seq) DIV 256 % 256), 2, '0')), ':',"
        " LOWER(LPAD(HEX((@base + seq) % 256), 2, '0')), ':01'), admin_state_up, status, device_id,"
        " device_owner, @base + seq, ip_allocation FROM ports JOIN made WHERE ports.id = @template;",
        "INSERT INTO ipallocations (port_id, ip_address, subnet_id, network_id)"
        f" SELECT id, INET_NTOA(INET_ATON('10.72.0.0') + @base + seq), '{subnet}', @network FROM made;",
        "INSERT INTO ovn_revision_numbers (standard_attr_id, resource_uuid, resource_type, revision_number,"
        " created_at, updated_at) SELECT @base + seq, made.id, 'ports', revision_number, NOW(), NOW()"
        " FROM ovn_revision_numbers JOIN made WHERE resource_uuid = @template AND resource_type = 'ports';",
    ]
    for table, names in _COPIED.items():
        columns = ", ".join(names)
        rows.append(
            f"INSERT INTO {table} (port_id, {columns}) SELECT made.id, {columns}"
            f" FROM {table} JOIN made WHERE port_id = @template;"
        )
    peer.sql("\n".join(rows))
