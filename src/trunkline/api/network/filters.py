"""Filters of the network API's lists that are more than a field being equal to a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, literal_column, not_, or_, select, true

from trunkline.api.query import Filter
from trunkline.errors import BadField
from trunkline.resources.network import Network, Port, Subnet
from trunkline.resources.schema import Resource
from trunkline.store import table_of

_TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})
_FALSE = frozenset({"false", "0", "no", "off", "f", "n"})


def element(
    column: ColumnElement[Any], holds: Callable[[ColumnElement[Any]], ColumnElement[bool]]
) -> ColumnElement[bool]:
    """Whether a list, stored as JSON, has an element for which a clause holds."""
    each = func.json_each(column).table_valued("value", name="each")
    return exists(select(literal_column("1")).select_from(each).where(holds(each.c.value)))


def standard(cls: type[Resource]) -> Mapping[str, Filter]:
    """The filters of all resources with standard attributes: tags, and time of change."""
    table = table_of(cls)

    def has(tag: str) -> ColumnElement[bool]:
        return element(table.c.tags, lambda value: value == tag)

    def every(values: Sequence[str]) -> ColumnElement[bool]:
        return and_(true(), *(has(tag) for tag in _split(values)))

    def some(values: Sequence[str]) -> ColumnElement[bool]:
        return or_(*(has(tag) for tag in _split(values)))

    def changed_since(values: Sequence[str]) -> ColumnElement[bool]:
        clause: ColumnElement[bool] = table.c.updated_at >= max(values)
        return clause

    return {
        "tags": every,
        "tags-any": some,
        "not-tags": lambda values: not_(every(values)),
        "not-tags-any": lambda values: not_(some(values)),
        "changed_since": changed_since,
    }


def _split(values: Sequence[str]) -> list[str]:
    return [tag for value in values for tag in value.split(",")]


def port_filters() -> Mapping[str, Filter]:
    """Of ports: by address, by security group."""
    table = table_of(Port)

    def fixed_ips(values: Sequence[str]) -> ColumnElement[bool]:
        wanted: dict[str, list[str]] = {}
        for value in values:
            key, equals, inner = value.partition("=")
            if not equals or key not in ("ip_address", "subnet_id", "ip_address_substr"):
                raise BadField(
                    "fixed_ips", "write it as fixed_ips=ip_address=A, subnet_id=S or ip_address_substr=T."
                )
            wanted.setdefault(key, []).append(inner)
        return and_(*(_any_address(key, found) for key, found in wanted.items()))

    def _any_address(key: str, found: list[str]) -> ColumnElement[bool]:
        name = "$.subnet_id" if key == "subnet_id" else "$.ip_address"

        def holds(value: ColumnElement[Any]) -> ColumnElement[bool]:
            inner = func.json_extract(value, name)
            if key == "ip_address_substr":
                return or_(*(inner.contains(part, autoescape=True) for part in found))
            return inner.in_(found)

        return element(table.c.fixed_ips, holds)

    return {
        **standard(Port),
        "fixed_ips": fixed_ips,
        "security_groups": lambda values: element(
            table.c.security_groups, lambda value: value.in_(list(values))
        ),
    }


def subnet_filters() -> Mapping[str, Filter]:
    """Of subnets: by whether their network is shared or external."""
    networks, table = table_of(Network), table_of(Subnet)

    def by(name: str, column: ColumnElement[bool]) -> Filter:
        def clause(values: Sequence[str]) -> ColumnElement[bool]:
            wanted = [boolean(name, value) for value in values]
            return table.c.network_id.in_(select(networks.c.id).where(column.in_(wanted)))

        return clause

    return {
        **standard(Subnet),
        "router:external": by("router:external", networks.c.external),
    }


def boolean(name: str, text: str) -> bool:
    """A filter's text as a truth value.

    Raises:
        BadField: it is none.
    """
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise BadField(name, f"'{text[:40]}' is not a boolean. Use true or false.")
