"""What the models that claims are about are counted to consist of."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest

from latbench.audit import model_counts
from latbench.audit.library import load_claims
from latbench.audit.model_counts import ToCount, count_models
from latbench.claims.judge import verdict
from latbench.claims.model import ClaimedModel, Uncounted
from latbench.claims.verdict import CheckContext, CountedModel
from latbench.devices.catalog import load_devices
from latbench.errors import LatbenchError, StageError, UsageError
from latbench.schema.graph import GraphSize, Growth, MergeCheck, MergedGraphs
from latbench.worker import messages

REGISTERED = load_claims(load_devices(None))
ONE = ClaimedModel(id="one", name="One", build="timm:one", parameters=1000, deployed_parameters=900)
NET = """\
from torch import nn

def net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 10),
    )
"""


class Program:
    """The counting program without a process: gives its responses in order."""

    def __init__(self, *responses: messages.Message | LatbenchError) -> None:
        self.asked: list[messages.RequestMessage] = []
        self._left = [*responses]

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *reasons: object) -> None:
        pass

    def ask(self, request: messages.RequestMessage, expect: type[Any]) -> Any:
        self.asked.append(request)
        response = self._left.pop(0)
        if isinstance(response, LatbenchError):
            raise response
        assert isinstance(response, expect)
        return response


def responses(
    monkeypatch: pytest.MonkeyPatch, *given: messages.Message | LatbenchError
) -> list[messages.RequestMessage]:
    """Responses of the counting program; the list receives its requests."""
    program = Program(*given)
    monkeypatch.setattr(model_counts, "CountingProgram", lambda: program)
    return program.asked


def counted(trained: int, deployed: int, macs: int, growth: Growth | None = None) -> Any:
    return messages.ModelCounted(trained=trained, deployed=deployed, macs=macs, growth=growth)


GROWTH = Growth(over="batch", sizes=(1, 2, 4), macs=(10, 20, 40))


def count_one(model: ClaimedModel, resolution: int | None = None) -> CountedModel:
    (found,) = count_models([ToCount(model=model, resolution=resolution)]).values()
    return found


def exact(found: CountedModel) -> tuple[float | None, float | None]:
    assert found.missing is None, found
    assert found.parameters is not None
    assert found.macs is not None
    return found.parameters.value, found.macs.value


def test_the_zoos_counts_are_known_without_building(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = responses(monkeypatch, counted(5_271_074, 1, 2))
    model = REGISTERED.models["mobilevig_ti"]
    assert exact(count_one(model)) == exact(count_one(model, 224)) == (5_271_074, 662_142_336)
    assert asked == []
    assert exact(count_one(model, 192)) == (5_271_074, 2)
    assert asked == [messages.CountModel(model="mobilevig_ti", resolution=192)]


def test_parameters_are_of_the_form_that_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = counted(1000, 900, 5)
    responses(monkeypatch, answer)
    assert exact(count_one(ONE)) == (1000, 5)
    responses(monkeypatch, answer)
    assert exact(count_one(msgspec.structs.replace(ONE, form="deployed"))) == (900, 5)
    responses(monkeypatch, answer)
    more = msgspec.structs.replace(ONE, uncounted=Uncounted(macs=7, what="products"))
    assert count_one(more).more_macs == 7


@pytest.mark.parametrize(
    ("trained", "deployed", "words"),
    [
        (21_841, 900, "timm:one has 21,841 parameters, but the claimed network has 1,000"),
        (1000, 1000, "timm:one has 1,000 parameters in its deploy form, but the claimed network"),
    ],
)
def test_another_network_of_that_name_is_not_counted(
    monkeypatch: pytest.MonkeyPatch, trained: int, deployed: int, words: str
) -> None:
    for over in (None, "batch"):
        responses(monkeypatch, counted(trained, deployed, 5, GROWTH))
        (found,) = count_models([ToCount(model=ONE, over=over)]).values()  # type: ignore[arg-type]
        assert found.parameters is found.macs is found.growth is None
        assert found.missing is not None
        assert words in found.missing
    responses(monkeypatch, counted(trained, deployed, 5))
    unpinned = ClaimedModel(id="one", name="One", build="timm:one")
    assert exact(count_one(unpinned)) == (trained, 5)


def test_why_a_model_could_not_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = StageError("build", "it was killed", hint="more memory", kind="crash", detail="a\nz")
    refused = UsageError("no such model", hint="did you mean timm:one?")
    responses(monkeypatch, refused, killed)
    other = msgspec.structs.replace(ONE, id="two", build="timm:two")
    found = count_models([ToCount(model=ONE), ToCount(model=other)])
    assert [each.missing for each in found.values()] == [
        "it could not be counted: no such model (did you mean timm:one?)",
        "it could not be counted: the counting program ended early (it was killed: z)",
    ]


def test_growth_is_of_the_network_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    responses(monkeypatch, counted(1000, 900, 5, GROWTH))
    (found,) = count_models([ToCount(model=ONE, over="batch")]).values()
    assert found.growth == GROWTH


def test_a_host_that_cannot_be_built_does_not_affect_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = GraphSize(operators=1, parameters=2, macs=3)
    graphs = MergedGraphs(plain=size, merged=size, unmerged_operators=2)
    asked = responses(monkeypatch, StageError("build", "no"), messages.MethodApplied(graphs=graphs))
    wanted = ToCount(model=ONE, method="scale-and-shift", hosts=("a", "b"))
    (found,) = count_models([wanted]).values()
    assert found.shown == (
        MergeCheck(host="a", missing="no"),
        MergeCheck(host="b", built=graphs),
    )
    assert asked == [messages.ApplyMethod(method="scale-and-shift", host=host) for host in "ab"]


MANY = """\
import os, signal, sys, time
from torch import nn

def fine():
    os.write(1, b'{"trained": 1, "deployed": 1, "macs": 1}\\n{"cut": ')
    print('{"trained": 2}')
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))

def leaves(): sys.exit("bye")
def raises(): raise ValueError("no weights today")
def own(): raise type("Own", (BaseException,), {})("mine")
def interrupts(): raise KeyboardInterrupt
def ends(): os._exit(9)
def is_killed(): os.kill(os.getpid(), signal.SIGKILL)
def hangs(): time.sleep(60)
"""


def count_many(folder: Path, *names: str) -> list[CountedModel]:
    (folder / "many.py").write_text(MANY)
    models = [
        ClaimedModel(id=f"m{i}", name=name, build=f"{folder / 'many.py'}:{name}")
        for i, name in enumerate(names)
    ]
    found = count_models([ToCount(model=model, resolution=32) for model in models])
    return [*found.values()]


@pytest.mark.torch
@pytest.mark.slow
def test_one_network_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    bad = ("leaves", "raises", "own", "interrupts", "ends", "is_killed")
    names = ("fine", *(name for each in bad for name in (each, "fine")))
    for name, found in zip(names, count_many(tmp_path, *names), strict=True):
        if name == "fine":
            assert exact(found) == (40, 30)
        else:
            assert found.missing is not None, name


@pytest.mark.torch
@pytest.mark.slow
def test_one_that_hangs_costs_its_own_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_counts, "TIMEOUT_S", 15.0)
    first, hanging, last = count_many(tmp_path, "fine", "hangs", "fine")
    assert exact(first) == exact(last) == (40, 30)
    assert hanging.missing == "it could not be counted: counting took more than 15 s"


@pytest.mark.parametrize(
    ("id", "other"), [("fbnet-b-macs", "fbnet_c"), ("fbnet-b-macs", "fbnet_a")]
)
def test_a_claim_is_not_answered_with_another_models_builder(id: str, other: str) -> None:
    """Rows whose `build` were exchanged."""
    claim = REGISTERED.find(id)
    right, wrong = REGISTERED.models[claim.model], REGISTERED.models[other]
    exchanged = msgspec.structs.replace(right, build=wrong.build)
    answers = []
    for model in (right, exchanged):
        bench = CheckContext(
            models={**REGISTERED.models, model.id: model}, counts={model.id: count_one(model)}
        )
        found = verdict(claim, [], bench).static
        assert found is not None
        answers.append((found.answer, " ".join(found.reasons)))
    assert answers[0][0] != "not testable here"
    assert answers[1][0] == "not testable here"
    assert f"{wrong.build} has" in answers[1][1]


@pytest.mark.torch
@pytest.mark.slow
def test_counts_are_those_of_a_record(tmp_path: Path) -> None:
    """The program's own, of a network that is small enough to count by hand."""
    from latbench.zoo.builder import build as build_model
    from latbench.zoo.resolver import resolve

    (tmp_path / "net.py").write_text(NET)
    build = f"{tmp_path / 'net.py'}:net"
    model = ClaimedModel(id="net", name="Net", build=build, parameters=216 + 16 + 90)
    known = resolve(build, weights=None, batch=None, resolution=(32, 32), seed=0)
    assert build_model(known).trained_parameters == model.parameters
    wrong = msgspec.structs.replace(model, id="wrong", build=f"{tmp_path / 'net.py'}:nothing")
    found = count_models([ToCount(model=each, resolution=32) for each in (model, wrong)])
    first, second = found.values()
    assert exact(first) == (322, 216 * 30 * 30 + 80)
    assert second.missing is not None
    assert "has no function 'nothing'" in second.missing
    fused = msgspec.structs.replace(model, form="deployed")
    assert exact(count_one(fused, 32)) == (216 + 8 + 90, 216 * 30 * 30 + 80)


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.skipif(find_spec("timm") is None, reason="needs the `timm` extra")
def test_timm_builds_the_networks_that_are_pinned() -> None:
    """Without the weights' own initialization and at a small size, which change no count."""
    import torch

    from latbench.zoo import timm
    from latbench.zoo.builder import deployed
    from latbench.zoo.resolver import TIMM, resolve

    wrong = []
    for model in REGISTERED.models.values():
        if model.build is None or not model.build.startswith(TIMM):
            continue
        with torch.device("meta"):
            module = timm.build_timm(model.build.removeprefix(TIMM), None)
        trained, fused = sum(p.numel() for p in module.parameters()), None
        if model.deployed_parameters is not None:
            module.to_empty(device="cpu").eval().requires_grad_(False)
            for buffer in module.buffers():
                buffer.fill_(1)
            for weight in module.parameters():
                weight.normal_(0, 0.02) if weight.ndim > 1 else weight.fill_(1)
            resolved = resolve(model.build, weights=None, batch=None, resolution=None, seed=0)
            form = deployed(resolved, module, (torch.zeros(1, 3, 64, 64),))
            fused = sum(p.numel() for p in form.parameters())
        wrong.append(model.another(trained, fused))
    assert len(wrong) > 60
    assert set(wrong) == {None}


def test_files_in_the_working_directory_do_not_stop_the_counting_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A namesake of a standard module is not imported, so the program starts and answers."""
    for name in ("json", "queue"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not the standard library')\n")
    monkeypatch.chdir(tmp_path)
    unknown = msgspec.structs.replace(ONE, build="no_such_model")
    assert "unknown model 'no_such_model'" in str(count_one(unknown).missing)
