"""Queries for stored verdicts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, func, select

from latbench.claims.verdict import StoredVerdict
from latbench.store.engine import shown
from latbench.store.tables import verdicts


def verdicts_on_claim(claim: str) -> Select[Any]:
    """All verdicts on the claim, the newest first."""
    return (
        select(verdicts.c.claim, verdicts.c.body)
        .where(verdicts.c.claim == claim)
        .order_by(verdicts.c.created_unix_ns.desc())
    )


def newest_on_claims(claims: Collection[str]) -> Select[Any]:
    """The newest verdict on each of the claims."""
    newest = (
        select(verdicts.c.claim, func.max(verdicts.c.created_unix_ns).label("at"))
        .where(verdicts.c.claim.in_(claims))
        .group_by(verdicts.c.claim)
        .subquery()
    )
    same = (newest.c.claim == verdicts.c.claim) & (newest.c.at == verdicts.c.created_unix_ns)
    return select(verdicts.c.claim, verdicts.c.body).join(newest, same).order_by(verdicts.c.claim)


def read_verdicts(
    connection: Connection, query: Select[Any]
) -> tuple[list[StoredVerdict], list[str]]:
    """The verdicts that a query finds, and why others cannot be read."""
    found, unread = [], []
    for claim, body in connection.execute(query).all():
        try:
            found.append(msgspec.json.decode(body, type=StoredVerdict).migrated())
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            unread.append(
                f"a verdict on {claim} in {shown(connection.engine.url)} cannot be read: a newer "
                f"latbench wrote it, or the registry is damaged ({error})"
            )
    return found, unread
