"""``latbench completion``, and what completes models, backends, devices, protocols and ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

if TYPE_CHECKING:
    from latbench.audit.library import ClaimLibrary
    from latbench.store.registry import Registry

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

    Commands, options, models, backends, devices, protocols, and ids of records, sweeps, claims,
    sources and jobs are completed.
    """
    from latbench.cli import cli

    found = get_completion_class(shell)
    assert found is not None, "every shell of SHELLS has a class in click"
    click.echo(found(cli, {}, "latbench", "_LATBENCH_COMPLETE").source())


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the zoo, and files; ids of records where ``--records`` asks for them."""
    if ctx.params.get("records"):
        return record_ids(ctx, param, incomplete)
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


def claims(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the claims."""
    return _items((claim.id for claim in _library().claims), incomplete)


def claim_models(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of the models that claims are about."""
    return _items(_library().models, incomplete)


def sources(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the papers and other sources of claims."""
    return _items(_library().sources, incomplete)


def _library() -> ClaimLibrary:
    """The claims, without the errors about invalid entries: those would be offered as names."""
    from latbench.audit.library import load_claims, user_claims
    from latbench.devices.catalog import load_devices, user_devices_path

    return load_claims(load_devices(user_devices_path()), user_claims(), trust_code=False)


def jobs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the runs that were left on devices."""
    from latbench.bench.left_jobs import left_jobs

    return _items((job.id for job in left_jobs()), incomplete)


def files_or_record_ids(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Files, and ids in the registry."""
    return [*record_ids(ctx, param, incomplete), CompletionItem(incomplete, type="file")]


def records_or_claims(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids in the registry, and those of the claims."""
    return [*record_ids(ctx, param, incomplete), *claims(ctx, param, incomplete)]


def tool_results(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of the results of other tools."""
    return _from_registry(ctx, lambda store: [each.id for each in store.reported(start=incomplete)])


def sweeps(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the sweeps in the registry, the newest first."""
    return _from_registry(ctx, lambda store: store.sweeps(incomplete))


def record_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids in the registry that begin with what was typed, the newest first; none without one."""
    return _from_registry(ctx, lambda store: store.ids(incomplete))


def _from_registry(
    ctx: click.Context, find: Callable[[Registry], Iterable[str]]
) -> list[CompletionItem]:
    from latbench.errors import LatbenchError
    from latbench.store.registry import Registry

    try:
        with Registry.open(ctx.params.get("registry"), create=False) as store:
            return [CompletionItem(id) for id in find(store)]
    except LatbenchError:
        return []
