"""``/v3/auth``: tokens, and where one can go with them."""

from __future__ import annotations

from typing import Any

from trunkline.api.engine import Call
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.identity.auth_request import AuthBody
from trunkline.api.identity.behaviours import new_id
from trunkline.api.identity.catalog import catalog
from trunkline.api.identity.collection import Parts, body_of, listed, render
from trunkline.api.identity.grants import Grant
from trunkline.api.identity.token_body import reachable
from trunkline.api.identity.token_body import render as render_token
from trunkline.api.openapi import shape_schema
from trunkline.errors import BadRequest, NotFound, Unauthenticated
from trunkline.resources.identity import Revocation
from trunkline.store import Reader, table_of


def auth(parts: Parts) -> list[Endpoint]:
    """The endpoints."""
    own = _Auth(parts)
    tokens = "/v3/auth/tokens"
    return [
        Endpoint(
            "POST",
            tokens,
            own.log_in,
            token=False,
            summary="Log in",
            request=shape_schema(AuthBody, "auth"),
            success=201,
            parameters=["nocatalog"],
        ),
        Endpoint("GET", tokens, own.show, summary="Show a token", parameters=["nocatalog"]),
        Endpoint("HEAD", tokens, own.check, summary="Check a token"),
        Endpoint("DELETE", tokens, own.revoke, summary="Revoke a token", success=204),
        Endpoint("GET", "/v3/auth/catalog", own.catalog, summary="Show the catalog of one's token"),
        Endpoint(
            "GET", "/v3/auth/projects", own.projects, summary="List the projects one can have a token for"
        ),
        Endpoint("GET", "/v3/auth/domains", own.domains, summary="List the domains one can have a token for"),
        Endpoint("GET", "/v3/auth/system", own.system, summary="List the systems one can have a token for"),
    ]


class _Auth:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.engine = parts.engine

    async def log_in(self, request: Request) -> Reply:
        text, grant = await self.parts.logins.log_in(await body_of(request, "auth"), request.context.remote)
        return await self._token(request, text, grant, 201)

    async def show(self, request: Request) -> Reply:
        text, grant = self._subject(request, "validate_token")
        return await self._token(request, text, grant, 200)

    async def check(self, request: Request) -> Reply:
        self._subject(request, "check_token")
        return Reply()

    async def revoke(self, request: Request) -> Reply:
        _, grant = self._subject(request, "revoke_token")
        token = grant.token

        def run(call: Call) -> None:
            now = call.tx.now.timestamp()
            for old in call.tx.select(Revocation, table_of(Revocation).c.expires_at < now):
                call.drop(old)
            call.tx.insert(Revocation(id=new_id(), audit_id=token.audit_ids[0], expires_at=token.expires_at))

        await self.engine.write(request.context, run)
        return Reply(status=204)

    async def catalog(self, request: Request) -> Reply:
        context = request.context
        if not (context.project_id or context.domain_id or context.system):
            raise BadRequest("The token is for nothing, and so has no catalog. Log in with a scope.")

        def run(reader: Reader) -> list[Any]:
            return catalog(reader, project_id=context.project_id, user_id=context.user_id)

        return Reply(listed(request, "catalog", await self.engine.read(run)))

    async def projects(self, request: Request) -> Reply:
        def run(reader: Reader) -> list[Any]:
            projects, _, _ = reachable(reader, request.context.user_id)
            return render(self.parts, reader, request, "/projects", projects)

        return Reply(listed(request, "projects", await self.engine.read(run)))

    async def domains(self, request: Request) -> Reply:
        def run(reader: Reader) -> list[Any]:
            _, domains, _ = reachable(reader, request.context.user_id)
            return render(self.parts, reader, request, "/domains", domains)

        return Reply(listed(request, "domains", await self.engine.read(run)))

    async def system(self, request: Request) -> Reply:
        def run(reader: Reader) -> list[Any]:
            _, _, everything = reachable(reader, request.context.user_id)
            return [{"all": True}] if everything else []

        return Reply(listed(request, "system", await self.engine.read(run)))

    def _subject(self, request: Request, rule: str) -> tuple[str, Grant]:
        """The token that the request is about, once the rule allows it."""
        text = request.headers.get("x-subject-token", "")
        if not text:
            raise BadRequest("The header X-Subject-Token, with the token that this is about, is missing.")
        try:
            grant = self.parts.sessions.grant(text)
        except Unauthenticated:
            raise NotFound("Could not find token.") from None
        target = {"target.token.user_id": grant.user.id}
        self.engine.require(f"identity:{rule}", request.context, target)
        return text, grant

    async def _token(self, request: Request, text: str, grant: Grant, status: int) -> Reply:
        with_catalog = "nocatalog" not in dict(request.query)
        body = await self.engine.read(lambda reader: render_token(reader, grant, with_catalog=with_catalog))
        return Reply(body, status, {"x-subject-token": text, "vary": "X-Auth-Token"})
