"""Find the tensors of a checkpoint that are the weights of a network.

Training scripts keep weights under keys of their own, beside the optimizer's state, and wrappers
put prefixes before the names. So the names themselves decide: the weights are where all names of
the network follow one prefix, keys included.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latbench.errors import UsageError, listed
from latbench.zoo.checkpoint.read import Checkpoint, CheckpointEntry

if TYPE_CHECKING:
    import torch

WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of names that torch.compile, FSDP and activation checkpoints add at any depth."""
AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?|shadow)([._]|$)")
"""Keys of weights that were averaged over training, which authors evaluate."""
BOOKKEEPING = frozenset(
    {
        *("num_batches_tracked", "n_averaged", "num_updates", "decay", "step", "initted"),
        *("total_ops", "total_params"),
    }
)
"""Last parts of the names of counters, which inference does not use: of BatchNorm, of averaging,
and of thop, which counts operations."""
SHOWN = 5
MOST_KEYS = 10


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Tensors of a checkpoint that are the weights of a network."""

    tensors: Mapping[str, CheckpointEntry]
    """The network's name -> tensor."""
    prefix: str
    """What stands before the network's names: keys and prefix, with a dot at the end."""
    added: str
    """What the network's names have and the file's have not."""
    unused: tuple[str, ...]
    """Other tensors of the same dictionary, which do not begin with the prefix."""
    counters: tuple[str, ...]
    """Bookkeeping that is left out."""
    unwrapped: tuple[str, ...]
    """Parts of names that wrappers added."""
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    misshaped: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether all names and shapes are those of the network."""
        return not (self.missing or self.extra or self.misshaped)

    @property
    def key(self) -> str:
        """Where the dictionary is: keys joined by dots; empty for the outermost one."""
        return next((entry.keys for entry in self.tensors.values()), "")

    @property
    def label(self) -> str:
        """The prefix as a user writes it."""
        return self.prefix.rstrip(".") or "the outermost dictionary"


def choose(
    checkpoint: Checkpoint,
    expected: Mapping[str, torch.Tensor],
    own: Iterable[str],
    key: str | None,
) -> tuple[Fit, tuple[str, ...]]:
    """The weights for a network whose state_dict is ``expected``, and the keys of others that fit.

    ``own`` are the buffers that the network computes itself. With ``key`` only what is under that
    key is considered. Averaged weights are preferred. Raises :class:`UsageError` if none or several
    fit.
    """
    computed = frozenset(own)
    fits = _fits(checkpoint, expected, computed, key)
    good = [fit for fit in fits if fit.fits]
    if not good:
        raise _misfit(checkpoint, fits, key)
    whole = [fit for fit in good if not fit.unused] or good
    # The same tensors under two keys are one.
    distinct = list({_places(fit): fit for fit in reversed(whole)}.values())[::-1]
    averaged = [fit for fit in distinct if AVERAGED.search(fit.prefix)]
    best = averaged if len(averaged) == 1 else distinct
    if len(best) > 1:
        labels = [fit.label for fit in best]
        raise UsageError(
            f"{checkpoint.path.name} has weights that fit the model under several keys: "
            f"{_some(labels)}",
            hint=f"choose one, such as --weights-key {labels[0]}",
        )
    return best[0], tuple(fit.label for fit in distinct if fit is not best[0])


def contents(checkpoint: Checkpoint) -> list[str]:
    """What the outermost dictionary has under each key, in a few words."""
    held: dict[str, list[CheckpointEntry]] = {}
    for entry in checkpoint.entries:
        held.setdefault(entry.keys, []).append(entry)
    found = [
        f"{keys or 'outermost'} ({len(entries)} tensors)"
        for keys, entries in held.items()
        if not re.search(r"(^|\.)(state\.\d+|exp_avg\w*)(\.|$)", keys)
    ]
    return found + [
        f"{name} ({what})" for name, what in checkpoint.others.items() if name and "." not in name
    ]


def _fits(
    checkpoint: Checkpoint,
    expected: Mapping[str, torch.Tensor],
    computed: frozenset[str],
    key: str | None,
) -> list[Fit]:
    """What could be the weights, best first."""
    names, unwrapped = _names(checkpoint.entries, expected)
    found = []
    for added in _prefixes(expected):
        bare = {name.removeprefix(added): tensor for name, tensor in expected.items()}
        votes: Counter[str] = Counter()
        for full in names:
            for prefix in _starts(full):
                if full[len(prefix) :] in bare:
                    votes[prefix] += 1
        found += [
            _fit(prefix, added, names, bare, computed, unwrapped)
            for prefix, _ in votes.most_common(50)
            if key is None or f"{prefix}.".startswith(f"{key.rstrip('.')}.")
        ]
        if any(fit.fits for fit in found):
            break
    return sorted(found, key=lambda fit: len(fit.missing) + len(fit.extra) + len(fit.misshaped))


def _names(
    entries: Iterable[CheckpointEntry], expected: Mapping[str, object]
) -> tuple[dict[str, CheckpointEntry], tuple[str, ...]]:
    """Tensors by full name without the parts that wrappers add, and those parts."""
    plain = {entry.full: entry for entry in entries}
    if any(WRAPPERS.intersection(name.split(".")) for name in expected):
        return plain, ()
    removed = WRAPPERS.intersection(part for name in plain for part in name.split("."))
    bare = {
        ".".join(part for part in name.split(".") if part not in WRAPPERS): entry
        for name, entry in plain.items()
    }
    return (bare, tuple(sorted(removed))) if len(bare) == len(plain) else (plain, ())


def _starts(name: str) -> Iterable[str]:
    """Every start of ``name`` that ends with a dot, the empty one included."""
    yield ""
    for at, letter in enumerate(name):
        if letter == ".":
            yield name[: at + 1]


def _prefixes(expected: Mapping[str, object]) -> list[str]:
    """Starts that all of the network's names share, the empty one first."""
    first = next(iter(expected), "")
    return [start for start in _starts(first) if all(name.startswith(start) for name in expected)]


def _fit(
    prefix: str,
    added: str,
    names: Mapping[str, CheckpointEntry],
    expected: Mapping[str, torch.Tensor],
    computed: frozenset[str],
    unwrapped: tuple[str, ...],
) -> Fit:
    given = {full[len(prefix) :]: e for full, e in names.items() if full.startswith(prefix)}
    tensors = {name: given[name] for name in expected if name in given}
    places = {entry.keys for entry in tensors.values()}
    rest = {
        full: entry
        for full, entry in names.items()
        if entry.keys in places and full[len(prefix) :] not in tensors
    }
    inside = {full[len(prefix) :]: e for full, e in rest.items() if full.startswith(prefix)}
    counters = [full for full, entry in rest.items() if _is_counter(entry)]
    counters += [prefix + name for name in inside if added + name in computed]
    return Fit(
        tensors={added + name: entry for name, entry in tensors.items()},
        prefix=prefix,
        added=added,
        unused=tuple(f for f in rest if not f.startswith(prefix) and f not in counters),
        counters=tuple(counters),
        unwrapped=unwrapped,
        missing=tuple(
            sorted(
                name
                for name in expected
                if name not in tensors
                and name.rpartition(".")[2] not in BOOKKEEPING
                and not any(other in tensors for other in tied(name, expected))
            )
        ),
        extra=tuple(sorted(name for name in inside if prefix + name not in counters)),
        misshaped=tuple(
            f"{name} is {_difference(entry, expected[name])}"
            for name, entry in sorted(tensors.items())
            if _difference(entry, expected[name])
        ),
    )


def tied(name: str, expected: Mapping[str, torch.Tensor]) -> list[str]:
    """Other names of the network's tensor ``name``: a file may hold it under one of them."""
    tensor = expected[name]
    return [
        other
        for other, found in expected.items()
        if other != name
        and found.shape == tensor.shape
        and found.numel()
        and found.data_ptr() == tensor.data_ptr()
    ]


def _is_counter(entry: CheckpointEntry) -> bool:
    """Whether it only counts: by its name, or one integer."""
    last = entry.name.rpartition(".")[2]
    return entry.tensor.elements == 1 and (
        last in BOOKKEEPING or not entry.tensor.is_floating_point
    )


def _difference(entry: CheckpointEntry, wanted: torch.Tensor) -> str:
    """How the tensor differs from what the network has, or nothing."""
    tensor = entry.tensor
    if tensor.shape != tuple(wanted.shape):
        return f"{_sizes(tensor.shape)}, the model has {_sizes(wanted.shape)}"
    if wanted.is_floating_point() and not tensor.is_floating_point:
        return f"{tensor.dtype}, the model has {str(wanted.dtype).removeprefix('torch.')}"
    return ""


def _sizes(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _places(fit: Fit) -> frozenset[tuple[str, object]]:
    return frozenset((name, entry.tensor.place) for name, entry in fit.tensors.items())


def _some(names: Iterable[str], most: int = SHOWN) -> str:
    every = list(names)
    return listed(every[:most]) + (", …" if len(every) > most else "")


def _misfit(checkpoint: Checkpoint, fits: list[Fit], key: str | None) -> UsageError:
    """Why nothing in the file fits the network."""
    name, inside = checkpoint.path.name, contents(checkpoint)
    held = f"the file has: {_some(inside, MOST_KEYS)}" if inside else None
    if not checkpoint.entries:
        what = checkpoint.others.get("", "no tensor in it")
        return UsageError(
            f"{name} is not a dictionary of tensors: {what}",
            hint=held if len(inside) > 1 else "save the state_dict, best as .safetensors",
        )
    if not fits:
        under = f" under {key!r}" if key is not None else ""
        return UsageError(f"{name} has no tensor with a name of the model{under}", hint=held)
    best = fits[0]
    problems = [
        f"{len(names)} {what}: {_some(names)}"
        for what, names in (
            ("missing", best.missing),
            ("extra", best.extra),
            ("mis-shaped", best.misshaped),
        )
        if names
    ]
    unread = [
        f"{best.prefix}{each}" for each in best.missing if best.prefix + each in checkpoint.others
    ]
    if unread:
        return UsageError(
            f"{name}: {unread[0]} is a {checkpoint.others[unread[0]]}, which is not read",
            hint="save the tensors as plain ones, best as .safetensors",
        )
    where = f" ({best.label})" if best.prefix else ""
    return UsageError(
        f"{name} does not fit the model{where}: {'; '.join(problems)}",
        hint="are they the weights of this variant, head and version?"
        + (f" {held}" if held and len(inside) > 1 else ""),
    )


def remarks(fit: Fit, others: tuple[str, ...]) -> list[str]:
    """What a user should know about the choice, in short phrases."""
    found = []
    if others:
        found.append(f"{fit.label} is used; {_some(others)} fits too (--weights-key chooses)")
    stripped = fit.prefix.removeprefix(f"{fit.key}." if fit.key else "")
    if stripped:
        found.append(f"prefix {stripped!r} removed from the names")
    if fit.added:
        found.append(f"prefix {fit.added!r} added to the names")
    if fit.unwrapped:
        found.append(f"{_some(fit.unwrapped)} removed from the names")
    if fit.counters:
        found.append(f"{len(fit.counters)} not used, bookkeeping: {_some(fit.counters, 3)}")
    if fit.unused:
        found.append(f"{len(fit.unused)} not used, outside the prefix: {_some(fit.unused, 3)}")
    return found
