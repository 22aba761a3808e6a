"""Worker program ``python -m latbench.audit.count_worker``: build models and count them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from latbench.errors import LatbenchError, StageError, first_line
from latbench.worker import messages
from latbench.worker.server import serve

if TYPE_CHECKING:
    from latbench.zoo.lazy_model import LazyModel


def handle(request: messages.CountRequest) -> messages.Response:
    """Handle one request. Raises :class:`LatbenchError`."""
    try:
        match request:
            case messages.CountModel():
                return _count(request)
            case messages.ApplyMethod():
                from latbench.zoo.merge_check import check_merge

                return messages.MethodApplied(graphs=check_merge(request.method, request.host))
    except (LatbenchError, KeyboardInterrupt):
        raise
    except BaseException as error:
        # The code of a model may raise anything, even SystemExit.
        name = type(error).__name__
        why = first_line(error)
        raise StageError("build", name if why == name else f"{name}: {why}") from error


def _count(request: messages.CountModel) -> messages.ModelCounted:
    """Build the model as for a run, and count it. With ``over``, count it at several sizes too."""
    growth = None
    if request.over is not None:
        from latbench.zoo.scaling import growth as growth_of

        growth = growth_of(request.model, request.over)
    model = _model(request.model, request.resolution)
    counts = model.counts()
    return messages.ModelCounted(
        trained=model.trained_parameters(),
        deployed=counts.parameters,
        macs=counts.macs,
        growth=growth,
    )


def _model(name: str, resolution: int | None) -> LazyModel:
    from latbench.zoo.lazy_model import LazyModel
    from latbench.zoo.resolver import resolve

    size = None if resolution is None else (resolution, resolution)
    return LazyModel(resolved=resolve(name, weights=None, batch=None, resolution=size, seed=0))


if __name__ == "__main__":
    serve("latbench-counter", msgspec.json.Decoder(messages.CountRequest).decode, handle)
