"""What asyncssh notices of a device; the product's transport rests on it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from support.hosts import Host, until

asyncssh = pytest.importorskip("asyncssh", reason="needs asyncssh")


def run(act: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(act, 60))


def connect(host: Host, **options: Any) -> Any:
    """A connection by the test bed's configuration and nothing of the user's."""
    return asyncssh.connect(host.name, config=[str(host.config)], **options)


def test_exit_statuses_and_jumps(inner: Host) -> None:
    async def act() -> None:
        async with connect(inner) as connection:
            done = await connection.run("hostname; exit 7")
            assert (done.stdout, done.exit_status) == ("inner\n", 7)

    run(act())


def test_another_host_key_is_refused(board: Host) -> None:
    async def act() -> None:
        async with connect(board) as connection:
            assert (await connection.run("true")).exit_status == 0
        board.change_host_key()
        with pytest.raises(asyncssh.HostKeyNotVerifiable):
            await connect(board)

    run(act())


def test_processes_can_be_signaled(board: Host) -> None:
    async def act() -> None:
        async with connect(board) as connection:
            process = await connection.create_process("exec sleep 1000")
            until(lambda: board.processes("sleep 1000") != ())
            process.terminate()
            done = await process.wait()
            assert done.exit_signal[0] == "TERM"
            assert board.processes("sleep 1000") == ()

    run(act())


@pytest.mark.parametrize("event", ["cut", "stop", "hang"])
def test_keep_alives_notice_a_silent_end(board: Host, event: str) -> None:
    async def act() -> None:
        options = {"keepalive_interval": 0.3, "keepalive_count_max": 2}
        async with connect(board, **options) as connection:
            process = await connection.create_process("exec cat")
            getattr(board, event)()
            # Even with `check`, a lost connection is not an error of the process: it has no status.
            done = await process.wait(check=True)
            assert (done.exit_status, done.exit_signal) == (None, None)
            with pytest.raises(asyncssh.Error, match="closed"):
                await connection.run("true")

    run(act())


def test_a_silent_process_survives_an_aborted_connection(board: Host) -> None:
    async def act() -> None:
        connection = await connect(board)
        await connection.create_process("exec sleep 1000")
        until(lambda: board.processes("sleep 1000") != ())
        connection.abort()
        await asyncio.to_thread(until, lambda: board.connections() == 0)
        assert len(board.processes("sleep 1000")) == 1

    run(act())
