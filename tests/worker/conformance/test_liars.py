"""Workers that break one rule each: the suite names that rule and no other."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from latbench.worker.conformance.checks import CHECKS, selected
from latbench.worker.conformance.models import IdentityModel, given_model, read_specs
from latbench.worker.conformance.suite import CheckResult, Subject, run_checks

pytestmark = pytest.mark.slow
HONEST = Path(__file__).with_name("identity_worker.pl")
INPUTS = ("a=2x3:float32", "b=4:float64", "c=3:int64", "d=5:bool", "e=2x2:uint8", "f=7:int32")
OWN_PROCESS = {
    *("unknown-type", "not-json", "no-object", "pinned", "cpus", "close"),
    *("signal", "signal-strangers", "reserve", "owner-timeout", "stoppable", "children"),
    *("end-of-input", "end-of-input-in-a-block", "end-of-input-in-a-wait"),
    *(check.name for check in CHECKS if check.section == "Scripts"),
}
"""Checks that take longer: only a worker that should fail them is put through."""
READINGS = "wall_ns cpu_ns wait_ns involuntary_switches others_ns steal_ns throttled_ns frequency_khz temperature_mc"
LIES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # What is replaced in the honest worker, by what, and the checks that fail.
    "another protocol": ("protocol => 2", "protocol => 1", ("hello",)),
    "a pid of somebody else": (
        "version => '1.0', pid => $$}",
        "version => '1.0', pid => 1}",
        ("pid",),
    ),
    "one more line": (
        "$say->($response);",
        'print {$out} $json->encode($response), qq(\\n), $session ? qq({"type":"closed"}\\n) : \'\';',
        ("only-responses",),
    ),
    "prints on standard output": (
        "my $response = answer($request);",
        "my $response = answer($request); print {$out} qq(loading\\n) if $session;",
        ("only-responses",),
    ),
    "answers in another order": (
        "print {$to} $data;",
        "print {$to} join '', reverse $data =~ /.*\\n?/g;",
        ("in-order",),
    ),
    "strict about fields": (
        "last if ref $request ne 'HASH'",
        "last if $request->{news} || ref $request ne 'HASH'",
        ("unknown-fields",),
    ),
    "a line in pieces is two": (
        "print {$to} $data;",
        "print {$to} $data =~ /\\n\\z/ ? $data : qq($data\\n);",
        ("pieces",),
    ),
    "answers an empty line": ("next if $line !~ /\\S/;", "", ("empty-line",)),
    "goes on after an unknown type": (
        "|| !$ANSWER{$request->{type} // ''};",
        "; if (!$ANSWER{$request->{type}}) { $say->(failed('probe', 'error', 'what?')); next }",
        ("unknown-type",),
    ),
    "goes on after no JSON": (
        "last if ref $request ne 'HASH'",
        "next if !defined $request; last if ref $request ne 'HASH'",
        ("not-json",),
    ),
    "silent about unknown backends": (
        "@{$_[0]{backends}};",
        "grep { $_ eq 'identity' } @{$_[0]{backends}};",
        ("capabilities",),
    ),
    "leaves out what it does not know": ("on_battery);", ");", ("conditions",)),
    "opens for any backend": (
        "if $request->{backend} ne 'identity';",
        "if 0;",
        ("unknown-backend",),
    ),
    "takes any option": ("for sort keys %{$request->{extra}};", "if 0;", ("unknown-option",)),
    "a stage of its own": (
        "die failed('open', 'error', \"$request->{path}: $!\")",
        "die failed('loading', 'error', \"$request->{path}: $!\")",
        ("missing-file",),
    ),
    "ends at a failure": (
        "$say->($response);",
        "$say->($response); last if $response->{message} && $response->{message} =~ /JSON/;",
        ("broken-file",),
    ),
    "loads in no time": ("load_ns => $session->{opened_ns} - $start", "load_ns => 0", ("open",)),
    "settings that are not texts": ("{threads => '1'}", "{threads => 1}", ("open",)),
    "a placement that is certain of nothing": ("known => 'proven'", "known => 'surely'", ("open",)),
    "a sample is missing": (
        "push @samples, now_ns() - $start;",
        "push @samples, now_ns() - $start if $i != 1;",
        ("time",),
    ),
    "not a number": (
        "sample_ns => \\@samples",
        "sample_ns => [map { -sin(9**9**9) } @samples]",
        ("time",),
    ),
    "no time passes": ("push @samples, now_ns() - $start;", "push @samples, 0;", ("time",)),
    "more time than has passed": (
        "push @samples, now_ns() - $start;",
        "push @samples, 10 * 1e9;",
        ("time",),
    ),
    "blocks without a beginning": (
        "start_ns => $begun - $session->{opened_ns}",
        "start_ns => 0",
        ("time",),
    ),
    "other clocks of other calls": (
        "sample_ns => \\@samples",
        "sample_ns => \\@samples, beside_ns => {gpu => [1, 2]}",
        ("time",),
    ),
    "discards more than it runs": ("if $settle < 0 || $settle > $calls;", "if 0;", ("bad-block",)),
    "ignores the period": ("my $wait = $period ?", "my $wait = 0 ?", ("period",)),
    "readings of a shorter block": (
        "sample_ns => \\@samples",
        f"sample_ns => \\@samples, readings => {{map {{ $_ => 1 }} qw({READINGS})}}",
        ("readings",),
    ),
    "another type": (
        "{dtype => $_->{dtype}, shape => $_->{shape}, data =>",
        "{dtype => 'float32', shape => $_->{shape}, data =>",
        ("outputs",),
    ),
    "half of the data": (
        "encode_base64($_->{data}, '')",
        "encode_base64(substr($_->{data}, 0, 4), '')",
        ("outputs",),
    ),
    "never any memory": ("$peak * 1024", "$peak * 1", ("peak-memory",)),
    "other inputs": ("$z ^= $z >> 30;", "$z ^= $z >> 29;", ("inputs-seeded",)),
    "every input the same": ("+ ($k << 56)", "", ("inputs-seeded",)),
    "every seed the same": ("(($seed << 32)", "((0 << 32)", ("inputs-seeded",)),
    "the first value everywhere": ("$values[$i] :", "$values[0] :", ("inputs-values",)),
    "the upper end is never reached": (
        "($high - $low + 1) if",
        "($high - $low) if",
        ("inputs-range",),
    ),
    "rounds once": (
        "float32(float32(($z >> 40) * 2**-24 * float32($high - $low)) + $low)",
        "($z >> 40) * 2**-24 * ($high - $low) + $low",
        ("inputs-range",),
    ),
    "no seed of its own": (
        "{ ($seed, $content) = ($1, undef) }",
        "{ ($seed, $content) = ($seed, undef) }",
        ("inputs-random",),
    ),
    "the first array for all": (
        "$stored->{$spec->{name}} //",
        "(sort { length $b <=> length $a } values %$stored)[0] //",
        ("inputs-file",),
    ),
    "keeps the old session": ("    undef $session;\n", "", ("failed-open",)),
    "a profile of other calls": (
        "profile => undef",
        "profile => {source => 'x', calls => 1, total_ns => 1, operators => [{name => 'a', kind => 'b', time_ns => 1}]}",
        ("operators",),
    ),
    "kills anybody": (
        "if !has_variable($pid, 'LATBENCH_HARNESS'",
        "if 0 && !has_variable($pid, 'LATBENCH_HARNESS'",
        ("signal-strangers",),
    ),
    "sends no signal": ("existed => kill($number, -$pid) ?", "existed => 1 ?", ("signal",)),
    "reserves for everybody": ("if (!flock($file, LOCK_EX | LOCK_NB)) {", "if (0) {", ("reserve",)),
    "survives the end of its input": (
        "sysread(STDIN, my $data, 65536) or last;",
        "sysread(STDIN, my $data, 65536) or sleep 600;",
        ("end-of-input",),
    ),
    "survives it in a block": (
        "    end_all_with('LATBENCH_WORKER');\n    end_all_with('LATBENCH_HARNESS') if $ENV{LATBENCH_OWNER_TIMEOUT_S};\n    kill 'KILL', $worker;\n",
        "    close $to;\n",
        ("end-of-input-in-a-block", "end-of-input-in-a-wait"),
    ),
    "leaves behind what it started": ("    end_all_with('LATBENCH_WORKER');\n", "", ("children",)),
    "survives silence": ("last if now_ns() - $heard > $silence * 1e9;", "", ("owner-timeout",)),
    "ends with another status": ("POSIX::_exit(0)", "POSIX::_exit(3)", ("close",)),
    "stops answering": (
        "sub outputs {\n",
        "sub outputs {\n    sleep 600 if $session;\n",
        ("outputs",),
    ),
    "goes on after a failure of the model": (
        "$failure = failure_of($response) if $name eq 'model';",
        "",
        ("script-failure",),
    ),
}


def performed(
    text: str, folder: Path, model: IdentityModel, failing: Sequence[str]
) -> list[CheckResult]:
    folder.mkdir()
    worker = folder / "worker.pl"
    worker.write_text(text)
    cheap = [check.name for check in CHECKS if check.name not in OWN_PROCESS]
    command = ["perl", str(worker)]
    timeout_s = 6 if "sleep 600 if" in text else 60
    subject = Subject(
        command, folder=folder, timeout_s=timeout_s, model=model, script=[*command, "script"]
    )
    return list(run_checks(subject, selected([*cheap, *failing])))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[CheckResult]]]:
    """What the suite says of each; most of the time it waits, so many are checked at once."""
    folder = tmp_path_factory.mktemp("liars")
    if subprocess.run(["perl", "-MJSON::PP", "-e", "1"], check=False).returncode:
        pytest.skip("perl with JSON::PP is required")
    artifact = folder / "pass.identity"
    artifact.write_text(f'{{"identity": {len(INPUTS)}}}')
    model = given_model("identity", artifact, read_specs(INPUTS))
    honest = HONEST.read_text()
    with ThreadPoolExecutor(12) as pool:
        found = {}
        for number, (name, (old, new, failing)) in enumerate(LIES.items()):
            assert honest.count(old) == 1, (name, honest.count(old))
            lie = honest.replace(old, new)
            found[name] = pool.submit(performed, lie, folder / str(number), model, failing)
        yield {name: future.result() for name, future in found.items()}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_named(results: dict[str, list[CheckResult]], name: str) -> None:
    failed = [result for result in results[name] if result.outcome == "failed"]
    assert all(each.came for each in failed)
    names, expected = {each.name for each in failed}, set(LIES[name][2])
    if names != expected:
        # On a busy machine a block may be over before its input ends, and then it is answered.
        assert name == "survives it in a block", failed
        assert names == {"end-of-input-in-a-wait", "only-responses"}, failed
