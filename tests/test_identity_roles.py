"""Which roles count where: three computations of one truth, on random worlds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trunkline.api.identity.roles import (
    SYSTEM,
    Scope,
    assignment,
    effective,
    expanded,
    relation_id,
    scopes_of,
)
from trunkline.resources.identity import (
    Domain,
    Membership,
    Project,
    Role,
    RoleAssignment,
    RoleInference,
    User,
)
from trunkline.store import Store, Tx

DOMAINS = ("d1", "d2")
#: Project -> parent: a tree of three levels in d1, one project in d2.
PROJECTS = {"p1": "d1", "p2": "p1", "p3": "p2", "p4": "p1", "q1": "d2"}
HOME = {project: "d2" if project == "q1" else "d1" for project in PROJECTS}
USERS = ("u1", "u2")
GROUPS = ("g1", "g2")
#: r4 is a role of the domain d1's own.
ROLES = ("r1", "r2", "r3", "r4")
SCOPES = [*(Scope("project", p) for p in PROJECTS), *(Scope("domain", d) for d in DOMAINS), SYSTEM]


@dataclass(frozen=True)
class World:
    members: frozenset[tuple[str, str]] = frozenset()
    implied: frozenset[tuple[str, str]] = frozenset()
    #: (role, actor kind, actor id, scope, inherited)
    given: frozenset[tuple[str, str, str, Scope, bool]] = field(default_factory=frozenset)


worlds = st.builds(
    World,
    members=st.frozensets(st.tuples(st.sampled_from(USERS), st.sampled_from(GROUPS))),
    # From a smaller number to a greater one, so that there is no circle.
    implied=st.frozensets(st.sampled_from(list(itertools.combinations(ROLES, 2)))),
    given=st.frozensets(
        st.tuples(
            st.sampled_from(ROLES),
            st.sampled_from(("user", "group")),
            st.sampled_from(("1", "2")),
            st.sampled_from(SCOPES),
            st.booleans(),
        ).map(lambda t: (t[0], t[1], t[1][0] + t[2], t[3], t[4] and t[3] != SYSTEM)),
        max_size=6,
    ),
)


def slow(world: World, user: str, scope: Scope) -> set[str]:
    """What Keystone's documentation says, word for word and without any haste."""
    actors = {("user", user)} | {("group", group) for member, group in world.members if member == user}
    found: set[str] = set()
    for role, kind, id, place, inherited in world.given:
        if (kind, id) not in actors:
            continue
        if not inherited:
            if place == scope:
                found.add(role)
        elif scope.kind == "project":
            above, parent = set(), PROJECTS[scope.id]
            while parent in PROJECTS:
                above.add(Scope("project", parent))
                parent = PROJECTS[parent]
            above.add(Scope("domain", HOME[scope.id]))
            if place in above:
                found.add(role)
    while True:
        more = {implied for prior, implied in world.implied if prior in found} - found
        if not more:
            return found - {"r4"}
        found |= more


def build(tx: Tx, world: World) -> None:
    for kind in (RoleAssignment, RoleInference, Membership):
        for old in tx.find(kind):
            tx.delete(kind, old.id)
    for user, group in world.members:
        tx.insert(Membership(id=relation_id(user, group), user_id=user, group_id=group))
    for prior, implied in world.implied:
        tx.insert(RoleInference(id=relation_id(prior, implied), prior_role_id=prior, implied_role_id=implied))
    for role, actor, actor_id, scope, inherited in world.given:
        tx.insert(assignment(role, actor, actor_id, scope, inherited))


def found(
    tx: Tx,
) -> tuple[dict[tuple[str, Scope], set[str]], dict[tuple[str, Scope], set[str]], dict[str, set[Scope]]]:
    one = {
        (user, scope): {role.id for role in effective(tx, user, scope)} for user in USERS for scope in SCOPES
    }
    other: dict[tuple[str, Scope], set[str]] = {}
    for line in expanded(tx, tx.find(RoleAssignment)):
        other.setdefault((line.actor_id, line.scope), set()).add(line.role_id)
    return one, other, {user: scopes_of(tx, user) for user in USERS}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store.open(tmp_path_factory.mktemp("roles") / "db" / "store")

    def begin(tx: Tx) -> None:
        for domain in DOMAINS:
            tx.insert(Domain(id=domain, name=domain))
        for project, parent in PROJECTS.items():
            tx.insert(Project(id=project, name=project, domain_id=HOME[project], parent_id=parent))
        for user in USERS:
            tx.insert(User(id=user, name=user, domain_id="d1"))
        for role in ROLES:
            tx.insert(Role(id=role, name=role, domain_id="d1" if role == "r4" else None))

    made.write_sync(begin)
    yield made
    made.close()


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds)
def test_tokens_lists_and_the_slow_way_agree(store: Store, world: World) -> None:
    def run(tx: Tx) -> None:
        build(tx, world)
        tokens, lists, places = found(tx)
        for user, scope in itertools.product(USERS, SCOPES):
            wanted = slow(world, user, scope)
            assert tokens[user, scope] == wanted
            assert lists.get((user, scope), set()) == wanted
            if wanted:
                assert scope in places[user]

    store.write_sync(run)


def test_ids_of_relations_do_not_run_together() -> None:
    assert relation_id("a", "b") != relation_id("ab", "") != relation_id("", "ab")
