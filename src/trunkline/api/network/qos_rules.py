"""The paths of QoS rules: below their policy, and by their own ids; and the types that there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trunkline.api import openapi
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.network import dialect
from trunkline.api.network.collection import Handle
from trunkline.errors import BadField
from trunkline.resources.network import QOS_RULES, QosPolicy, QosRule
from trunkline.resources.network.qos import MARKS
from trunkline.resources.schema import spec_of
from trunkline.store import Reader

_BASE = "/v2.0/qos"
#: The backend that makes packets obey, by the name that clients know it by.
_DRIVER = "ovn"
_DIRECTIONS = {
    "parameter_name": "direction",
    "parameter_type": "choices",
    "parameter_values": ["egress", "ingress"],
}


_ANY_DIRECTION = {**_DIRECTIONS, "parameter_values": ["any", "egress", "ingress"]}


def _range(name: str, start: int) -> dict[str, Any]:
    return {
        "parameter_name": name,
        "parameter_type": "range",
        "parameter_values": {"start": start, "end": 2**31 - 1},
    }


#: By type, the fields of its rules and their values.
PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "bandwidth_limit": [_range("max_kbps", 1), _range("max_burst_kbps", 0), _DIRECTIONS],
    "dscp_marking": [
        {"parameter_name": "dscp_mark", "parameter_type": "choices", "parameter_values": sorted(MARKS)}
    ],
    "minimum_bandwidth": [_range("min_kbps", 1), _DIRECTIONS],
    "minimum_packet_rate": [_range("min_kpps", 1), _ANY_DIRECTION],
    "packet_rate_limit": [_range("max_kpps", 1), _range("max_burst_kpps", 0), _DIRECTIONS],
}


class Rules:
    """The handlers of one kind of rule."""

    def __init__(self, engine: Engine, cls: type[QosRule]) -> None:
        self.engine = engine
        self.cls = cls
        self.spec = spec_of(cls)
        self.many = self.spec.plural
        self.one = self.many.removesuffix("s")

    async def index(self, request: Request) -> Reply:
        """Lists the rules of a policy."""
        policy = request.path["policy"]
        self._may_read(request)
        await self.engine.read(lambda reader: self.engine.get(reader, request.context, QosPolicy, policy))
        pairs = [*request.query, ("qos_policy_id", policy)]
        query = self.engine.query(self.cls, pairs, aliases=dialect.ALIASES)
        page = await self.engine.page(request.context, self.cls, query)
        return Reply(dialect.listing(request, self.many, query, page))

    async def create(self, request: Request) -> Reply:
        """Puts a rule into a policy."""
        body = dialect.given(await request.envelope(self.one), self.one)
        if "qos_policy_id" in body:
            raise BadField("qos_policy_id", "the path names the policy. Remove it.")
        body["qos_policy_id"] = request.path["policy"]
        return Reply({self.one: await self.engine.create(request.context, self.cls, body)}, 201)

    async def show(self, request: Request) -> Reply:
        """Shows one."""
        fields = dialect.shown_fields(request.query)
        self._may_read(request)
        rule = await self.engine.read(self._found(request))
        item = await self.engine.show(request.context, self.cls, rule.id, fields=fields)
        return Reply({self._envelope(request): item})

    async def update(self, request: Request) -> Reply:
        """Changes one."""
        one, found = self._envelope(request), self._found(request)
        given = dialect.given(await request.envelope(one), one)
        values = self.spec.parse_update(given, lax=True)

        def run(call: Call) -> dict[str, Any]:
            rule = call.update(found(call.tx), values)
            return self.engine.render(call.tx, call.context, [rule])[0]

        return Reply({one: await self.engine.write(request.context, run)})

    async def delete(self, request: Request) -> Reply:
        """Takes one away."""
        found = self._found(request)
        await self.engine.write(request.context, lambda call: call.delete(found(call.tx)))
        return Reply(status=204)

    def _may_read(self, request: Request) -> None:
        own = {"project_id": request.context.project_id}
        self.engine.require(self.engine.rule(self.cls, "get"), request.context, own)

    def _envelope(self, request: Request) -> str:
        return self.one if "policy" in request.path else f"alias_{self.one}"

    def _found(self, request: Request) -> Callable[[Reader], QosRule]:
        """Finds the rule that the path names: of the policy in it, where there is one."""
        id, policy = request.path["id"], request.path.get("policy")

        def find(reader: Reader) -> QosRule:
            if policy is not None:
                self.engine.get(reader, request.context, QosPolicy, policy)
            rule = self.engine.get(reader, request.context, self.cls, id)
            if policy is not None and rule.qos_policy_id != policy:
                raise self.engine.missing(self.cls, id)
            return rule

        return find

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        kind, words = self.spec.kind, self.one.replace("_", " ")
        below = f"{_BASE}/policies/{{policy}}/{self.many}"
        new = openapi.input_schema(kind, "create", self.one)

        def at(method: str, path: str, handler: Handle, summary: str, **more: Any) -> Endpoint:
            more = {"envelope": self.one, **more}
            return Endpoint(method, path, handler, summary=summary, kind=kind, **more)

        found = [
            at("GET", below, self.index, f"List the {words}s of a policy"),
            at("POST", below, self.create, f"Put a {words} into a policy", success=201, request=new),
        ]
        places = ((below, self.one), *((f"{_BASE}/{name}", f"alias_{self.one}") for name in self._aliases()))
        for path, one in places:
            schema = openapi.input_schema(kind, "update", one)
            found += [
                at(
                    "GET",
                    f"{path}/{{id}}",
                    self.show,
                    f"Show a {words}",
                    parameters=("fields",),
                    envelope=one,
                ),
                at("PUT", f"{path}/{{id}}", self.update, f"Change a {words}", request=schema, envelope=one),
                at("DELETE", f"{path}/{{id}}", self.delete, f"Delete a {words}", success=204),
            ]
        return found

    def _aliases(self) -> tuple[str, str]:
        """The paths by a rule's own id: as the reference writes it, and as older clients do."""
        name = f"alias_{self.many}"
        return name.replace("_", "-"), name


class RuleTypes:
    """What kinds of rules there are, and what each may hold."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def index(self, request: Request) -> Reply:
        """List the types of QoS rules"""
        self.engine.require("get_rule_type", request.context, {})
        for name, _ in request.query:
            # Every type is one that the backend carries out, so both say the same.
            if name not in ("all_supported", "all_rules", "fields", "type"):
                raise BadField(name[:80], "rule types have no such filter. Remove it.")
        wanted = {value for name, value in request.query if name == "type"}
        return Reply({"rule_types": [{"type": t} for t in PARAMETERS if not wanted or t in wanted]})

    async def show(self, request: Request) -> Reply:
        """Show a type of QoS rules"""
        self.engine.require("get_rule_type:drivers", request.context, {})
        name = request.path["type"]
        if name not in PARAMETERS:
            raise dialect.no_such(f"Rule type {name[:80]}")
        driver = {"name": _DRIVER, "supported_parameters": PARAMETERS[name]}
        return Reply({"rule_type": {"type": name, "drivers": [driver]}})


def endpoints(engine: Engine) -> list[Endpoint]:
    """Of all kinds of rules, and of the types."""
    types, path = RuleTypes(engine), f"{_BASE}/rule-types"
    found = [endpoint for cls in QOS_RULES.values() for endpoint in Rules(engine, cls).endpoints()]
    return [
        *found,
        Endpoint("GET", path, types.index, summary=(types.index.__doc__ or "").strip()),
        Endpoint("GET", f"{path}/{{type}}", types.show, summary=(types.show.__doc__ or "").strip()),
    ]
