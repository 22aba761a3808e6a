"""Choices of CPUs: their forms, and what they stand for on a device."""

from __future__ import annotations

import pytest

from latbench.errors import UsageError
from latbench.schema.cpu_choice import chosen_cpus, cpu_list, numbers_of, read_cpus
from latbench.schema.environment import Cluster
from latbench.schema.request_syntax import option_words, side_request

LITTLE = Cluster(cpus=(0, 1, 2, 3), max_khz=1_704_000)
MID = Cluster(cpus=(4, 5), max_khz=2_300_000)
FASTER_MID = Cluster(cpus=(6,), max_khz=2_300_000)
BIG = Cluster(cpus=(7,), max_khz=2_914_000)
EIGHT = tuple(range(8))


@pytest.mark.parametrize(
    ("text", "form"),
    [
        *((name, name) for name in ("big", "mid", "little")),
        *(("0xf0", "4-7"), ("0XA1", "0,5,7"), ("4-7,2", "2,4-7"), ("3", "3"), ("1,0,1", "0-1")),
    ],
)
def test_forms(text: str, form: str) -> None:
    assert read_cpus(text) == form == read_cpus(form)
    if form[0].isdecimal():
        assert cpu_list(numbers_of(form)) == form


@pytest.mark.parametrize(
    "text", ["", "huge", "0x0", "0x", "7-4", "-1", "1,", "1;2", "4096", "0-99999999", "Big", "f0"]
)
def test_texts_that_name_no_cpus(text: str) -> None:
    with pytest.raises(UsageError):
        read_cpus(text)


@pytest.mark.parametrize(
    ("choice", "clusters", "cpus"),
    [
        ("big", (LITTLE, MID, BIG), (7,)),
        ("mid", (LITTLE, MID, BIG), (4, 5)),
        ("mid", (LITTLE, MID, FASTER_MID, BIG), (4, 5, 6)),
        ("little", (LITTLE, BIG), (0, 1, 2, 3)),
        ("2,4-5", None, (2, 4, 5)),
    ],
)
def test_chosen(choice: str, clusters: tuple[Cluster, ...] | None, cpus: tuple[int, ...]) -> None:
    assert chosen_cpus(choice, clusters=clusters, usable=EIGHT, device="pixel") == cpus


@pytest.mark.parametrize(
    ("choice", "clusters", "usable", "message"),
    [
        ("big", (LITTLE,), EIGHT, r"all CPUs of pixel are of one kind \(0-3 at 1.70 GHz\)"),
        ("mid", (LITTLE, BIG), EIGHT, "two kinds of CPUs and no mid ones: 0-3 at 1.70 GHz, 7 at"),
        ("big", None, EIGHT, "does not report which of its CPUs are big"),
        ("big", (LITTLE, BIG), (0, 1, 2), "CPU 7 of pixel does not exist, is offline"),
        ("6-9", None, EIGHT, "CPUs 8-9 of pixel do not exist"),
        ("0", None, None, "does not let a program choose its CPUs"),
    ],
)
def test_what_a_device_does_not_have(
    choice: str, clusters: tuple[Cluster, ...] | None, usable: tuple[int, ...] | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        chosen_cpus(choice, clusters=clusters, usable=usable, device="pixel")


def test_sides_and_command_lines() -> None:
    request = side_request("mobilevig_ti,cpus=0xf", backend="onnxruntime")
    assert request.cpus == "0-3"
    words = option_words(request)
    assert words[words.index("--cpus") + 1] == "0-3"
    assert side_request(r"mobilevig_ti,cpus=4-7\,2", cpus="big").cpus == "2,4-7"
    assert "--cpus" not in option_words(side_request("mobilevig_ti"))
