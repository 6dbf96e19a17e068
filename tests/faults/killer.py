"""Kills processes of a trial at random instants: head, keeper, supervisor, init and criu.

Not the payload's own: a job whose program is killed has failed, and rightly says so.
"""

from __future__ import annotations

import random
import time

from faults import tree
from faults.plan import Plan
from faults.tree import Role

#: How often each is chosen. A supervisor or an init that dies takes the payload along.
_ROLES: dict[Role, int] = {"supervisor": 4, "keeper": 2, "head": 3, "init": 2, "criu": 3}
#: criu runs for moments only, so its start is waited for, at most so long (s), and then so long at most.
_CRIU_COMES, _CRIU_STAYS = 2.0, 0.06


class Killer:
    """See the module."""

    def __init__(self, plan: Plan) -> None:
        self.done: list[str] = []
        self._random = random.Random(plan.seed)
        now = time.monotonic()
        self._due = sorted(now + self._random.uniform(0.0, plan.span) for _ in range(plan.kills))
        self._role: Role | None = None
        self._since = now

    def waits(self) -> bool:
        """Whether it is about to strike at a moment that comes by itself only."""
        return self._role == "criu"

    def act(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._role is None:
            if not self._due or now < self._due[0]:
                return
            self._due.pop(0)
            self._role = self._random.choices(list(_ROLES), list(_ROLES.values()))[0]
            self._since = now
        if self._strike(self._role) or time.monotonic() - self._since > _CRIU_COMES:
            self._role = None

    def _strike(self, role: Role) -> bool:
        there = self._there(role)
        if there and role == "criu":
            time.sleep(self._random.uniform(0.0, _CRIU_STAYS))
            there = self._there(role)
        if not there:
            return False
        struck = tree.kill(self._random.choice(there))
        if struck:
            self.done.append(role)
        return struck

    @staticmethod
    def _there(role: Role) -> list[tree.Member]:
        return [member for member in tree.members() if member.role == role]
