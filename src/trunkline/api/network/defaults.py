"""What every project has one of without asking for it: made at first use."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trunkline.api.context import Context
from trunkline.api.engine import Call, Engine
from trunkline.resources.identity import Project
from trunkline.store import Reader


@dataclass(frozen=True)
class Default:
    """The one of a kind that every project has. It owns the claims of its scope, a project's name for an id.

    Args:
        scope: of the claims by which projects have theirs.
        make: (call, project id, id) makes one, and what belongs to it.
    """

    scope: str
    make: Callable[[Call, str, str], None]

    def there(self, reader: Reader, project_id: str) -> str | None:
        """The id of a project's, if it has been made."""
        return reader.claim_owner(self.scope, project_id)

    def of(self, call: Call, project_id: str) -> str:
        """The id of a project's, which is made now if it is not there."""
        found = self.there(call.tx, project_id)
        if found is not None:
            return found
        id = str(uuid.uuid4())
        call.tx.claim(self.scope, project_id, id)
        self.make(call, project_id, id)
        return id

    async def ensure(self, engine: Engine, context: Context, asked: Iterable[str] = ()) -> None:
        """Makes that of the caller's project if there is none yet.

        Args:
            asked: the projects that are asked for: admins look at what others have, who may not have looked
                themselves yet.
        """
        with engine.store.read() as reader:
            wanted = {context.project_id} - {""}
            if context.is_admin:
                wanted |= {project for project in asked if reader.get(Project, project) is not None}
            missing = [each for each in sorted(wanted) if self.there(reader, each) is None]
        if missing:
            await engine.write(context, lambda call: [self.of(call, project) for project in missing])
