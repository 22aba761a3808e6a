"""The native worker's JSON, compared with msgspec's."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable

import msgspec
import pytest

pytestmark = pytest.mark.slow  # The program is compiled first.

SOUND = [
    "null",
    "true",
    " [ ] ",
    "{}",
    "[1,-1,0,-0,9223372036854775807,-9223372036854775808,18446744073709551615]",
    "[1.5,-0.25,1e3,1E-3,2.0]",
    '{"a":{"b":[{"c":null}]},"d":"e"}',
    r'"\"\\\/\b\f\n\r\t"',
    r'"\u00e9\u20ac\ud83d\ude00\u0000"',
    '"é€😀"',
    '{"a":1,"a":2}',
    "[" * 100 + "]" * 100,
]
UNSOUND = [
    *("", " ", "nul", "truefalse", "[1,]", "[1 2]", "{,}", '{"a"}', '{"a":}', '{"a":1,}', "{a:1}"),
    *("01", "-", "+1", "1.", ".5", "1e", "1e+", "0x10", "NaN", "Infinity", "--1", "1e999"),
    *("9223372036854775808e", "18446744073709551616", "-9223372036854775809"),
    *('"', '"\\', '"\\u12', '"\\u12g4"', '"\\x41"', '"a\nb"', '"\x00"', "'a'"),
    *('"\\ud800"', '"\\udc00"', '"\\ud800\\u0041"', '"\\ud800x"'),
    *("[" * 10_000, "[" * 10_000 + "]" * 10_000, '{"a":' * 10_000, "[1] [2]", "[1]]", "// a\n1"),
]
BROKEN_UTF8 = [
    *(b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80"),
    *(b"\xf0\x80\x80\xaf", b"\xe0\x80\xaf", b"\xc3"),
]
Probe = Callable[[str, list[bytes]], list[str]]


def test_sound_documents_are_read_exactly(probe: Probe) -> None:
    answers = probe("json", [text.encode() for text in SOUND])
    for text, answer in zip(SOUND, answers, strict=True):
        assert answer.startswith("ok "), (text, answer)
        if "a" * 2 not in text.replace('"', ""):
            assert json.loads(answer[3:], strict=False) == json.loads(text), text


@pytest.mark.parametrize("text", UNSOUND, ids=lambda text: text[:12])
def test_unsound_documents_are_refused(probe: Probe, text: str) -> None:
    (answer,) = probe("json", [text.encode()])
    assert answer.startswith("error not JSON: ")


def test_text_that_is_not_utf8_is_refused(probe: Probe) -> None:
    for answer in probe("json", [b'"' + each + b'"' for each in BROKEN_UTF8]):
        assert answer.startswith("error not JSON: text that is not UTF-8"), answer


def test_mutations_are_read_as_msgspec_reads_them(probe: Probe) -> None:
    """What is accepted is the same value; what is refused is refused there too, or is one of the
    stricter rules: 64-bit numbers, whole surrogate pairs, few levels."""
    draw = random.Random(7)
    seeds = [text.encode() for text in SOUND] + [
        b'{"type":"open","backend":"onnxruntime","threads":2,"extra":{"spinning":"off"},'
        b'"artifact":{"inputs":[{"name":"x","shape":[1,3,2],"dtype":"float32"}]}}'
    ]
    alphabet = b'{}[]",:\\u0123456789eE+-.tfn \xc3\xa9\xed\xff\x00'
    documents = []
    for _ in range(6000):
        text = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(text) + 1)
            match draw.randrange(3):
                case 0:
                    text[at:at] = bytes([draw.choice(alphabet)])
                case 1:
                    del text[at : at + draw.randint(1, 3)]
                case _:
                    text[at : at + 1] = bytes([draw.choice(alphabet)])
        documents.append(bytes(text))
    accepted = 0
    for document, answer in zip(documents, probe("json", documents), strict=True):
        try:
            value = msgspec.json.decode(document)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            assert not answer.startswith("ok"), document
            continue
        stricter = ("64 bits", "surrogate", "too large", "levels")
        if not answer.startswith("ok"):
            assert any(words in answer for words in stricter), (document, answer)
            continue
        accepted += 1
        assert msgspec.json.decode(answer[3:]) == value, document
    assert accepted > 500


def test_digests_are_sha256(probe: Probe) -> None:
    documents = [
        bytes(range(256)) * 17,
        b"",
        *(b"a" * size for size in range(50, 70)),
        b"x" * 300_000,
    ]
    assert probe("sha256", documents) == [
        f"ok {hashlib.sha256(document).hexdigest()}" for document in documents
    ]
