"""``latbench completion``, and what completes models, backends, devices, protocols and ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS = ("bash", "zsh", "fish")
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(*, shell: str) -> None:
    """Print the completion script for SHELL, to be evaluated by the shell.

    \b
    bash:  eval "$(latbench completion bash)"     in ~/.bashrc
    zsh:   eval "$(latbench completion zsh)"      in ~/.zshrc
    fish:  latbench completion fish | source      in ~/.config/fish/config.fish

    Commands, options, models, backends, devices, protocols and record ids are completed.
    """
    from latbench.cli import cli

    found = get_completion_class(shell)
    assert found is not None, "every shell of SHELLS has a class in click"
    click.echo(found(cli, {}, "latbench", "_LATBENCH_COMPLETE").source())


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the zoo, and files."""
    from latbench.zoo.catalog import ZOO

    named = _items((entry.name for entry in ZOO), incomplete)
    return [*named, CompletionItem(incomplete, type="file")]


def backends(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the installed runners."""
    from latbench.plugins import runner_names

    return _items(runner_names(), incomplete)


def formats(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Formats with an installed exporter."""
    from latbench.plugins import format_names

    return _items(format_names(), incomplete)


def devices(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the known devices."""
    from latbench.defaults import LOCAL
    from latbench.devices.catalog import load_devices, user_devices_path
    from latbench.devices.connections import load_connections

    known = (device.id for device in load_devices(user_devices_path()))
    return _items((LOCAL, *(each.id for each in load_connections()), *known), incomplete)


def connections(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of the user's own devices."""
    from latbench.devices.connections import load_connections

    return _items((each.id for each in load_connections()), incomplete)


def protocols(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shipped protocols as ``name@version``."""
    from latbench.schema.protocol_catalog import SHIPPED

    return _items((protocol.label for protocol in SHIPPED), incomplete)


def record_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids in the registry that begin with what was typed, the newest first; none without one."""
    from latbench.errors import LatbenchError
    from latbench.store.registry import Registry

    try:
        with Registry.open(ctx.params.get("registry"), create=False) as store:
            return [CompletionItem(id) for id in store.ids(incomplete)]
    except LatbenchError:
        return []
