"""Clocks as a transaction: all or nothing, and back again from wherever it was cut off."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import pytest

from latbench.devices.local_shell import LocalShell
from latbench.devices.preparation import (
    Clocks,
    Setting,
    Target,
    find_preparation,
    prepare_device,
    restore_device,
)
from latbench.devices.transport import Completed
from latbench.errors import StageError, UsageError
from support.command_line import in_process
from support.devices import use_home
from support.hosts import Bed

pytestmark = pytest.mark.skipif(
    os.name != "posix" or os.getuid() != 0, reason="sets the clocks of a tree as root"
)

CPU = "sys/devices/system/cpu"
BOOT = "proc/sys/kernel/random/boot_id"


def board(policies: int = 1) -> dict[str, str]:
    """A board with one group of CPUs or more."""
    tree = {BOOT: "first\n", f"{CPU}/cpufreq/boost": "1\n"}
    for number in range(policies):
        values = {
            "scaling_governor": "schedutil",
            "scaling_available_governors": "performance schedutil",
            "scaling_min_freq": "600000",
            "scaling_max_freq": "1500000",
            "cpuinfo_min_freq": "600000",
            "cpuinfo_max_freq": f"{1_800_000 + number}",
            "scaling_setspeed": "<unsupported>",
        }
        for name, value in values.items():
            tree[f"{CPU}/cpufreq/policy{4 * number}/{name}"] = f"{value}\n"
    return tree


def plant(root: Path, tree: dict[str, str]) -> Target:
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return Target(id="board", shell=LocalShell(), root=str(root))


def settings(root: Path) -> dict[str, str]:
    """Every file of the tree below /sys."""
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted((root / "sys").rglob("*"))
        if path.is_file()
    }


def journal(root: Path) -> Path:
    return root / "var/lib/latbench/prepared"


def test_everything_is_set_and_put_back(tmp_path: Path) -> None:
    target = plant(tmp_path, board(policies=2))
    before = settings(tmp_path)
    changed = prepare_device(target, Clocks(frequency="max", turbo="off"))
    now = {each.path: (each.before, each.now) for each in changed}
    policy = f"/{CPU}/cpufreq/policy4"
    assert now[f"/{CPU}/cpufreq/boost"] == ("1", "0")
    assert now[f"{policy}/scaling_governor"] == ("schedutil", "performance")
    assert now[f"{policy}/scaling_min_freq"] == ("600000", "1800001")
    assert now[f"{policy}/scaling_max_freq"] == ("1500000", "1800001")
    assert len(changed) == 7
    left = find_preparation(target)
    assert left is not None
    assert left.differing == changed
    assert left.made_unix_s is not None
    assert restore_device(target) == changed
    assert settings(tmp_path) == before
    assert restore_device(target) is None
    assert find_preparation(target) is None
    assert not list(journal(tmp_path).parent.glob("[!l]*"))


def test_the_governor_alone(tmp_path: Path) -> None:
    """Also on a kernel that has the files below each CPU only."""
    old = {k.replace("cpufreq/policy0", "cpu0/cpufreq"): v for k, v in board().items()}
    target = plant(tmp_path, old)
    changed = prepare_device(target, Clocks())
    path = f"/{CPU}/cpu0/cpufreq/scaling_governor"
    assert changed == (Setting(path=path, before="schedutil", now="performance"),)
    assert changed[0].text == "cpufreq/scaling_governor schedutil -> performance"


def test_intel_says_turbo_the_other_way(tmp_path: Path) -> None:
    target = plant(tmp_path, {**board(), f"{CPU}/intel_pstate/no_turbo": "0\n"})
    changed = prepare_device(target, Clocks(governor="schedutil", turbo="off"))
    path = f"/{CPU}/intel_pstate/no_turbo"
    assert changed == (Setting(path=path, before="0", now="1"),)


def test_a_second_prepare_is_refused(tmp_path: Path) -> None:
    target = plant(tmp_path, board())
    prepare_device(target, Clocks())
    now = settings(tmp_path)
    with pytest.raises(
        StageError, match="earlier prepare of board has not been restored"
    ) as caught:
        prepare_device(target, Clocks(frequency="max"))
    assert caught.value.hint == "latbench devices restore board"
    assert settings(tmp_path) == now


@pytest.mark.parametrize(
    ("clocks", "message"),
    [
        (Clocks(governor="userspace"), "it offers performance schedutil"),
        (Clocks(frequency="1800001"), "it offers 600000 to 1800000"),
        (Clocks(frequency="599999"), "it offers 600000 to 1800000"),
        (Clocks(governor="a b"), "not the name of a governor"),
        (Clocks(governor="*"), "not the name of a governor"),
        (Clocks(frequency="-1"), "not a frequency"),
        (Clocks(frequency="1.8GHz"), "not a frequency"),
    ],
)
def test_what_a_device_does_not_offer(tmp_path: Path, clocks: Clocks, message: str) -> None:
    target = plant(tmp_path, board())
    before = settings(tmp_path)
    with pytest.raises(UsageError, match=message):
        prepare_device(target, clocks)
    assert settings(tmp_path) == before
    assert not journal(tmp_path).exists()


def test_a_listed_clock_is_one_of_the_list(tmp_path: Path) -> None:
    table = {f"{CPU}/cpufreq/policy0/scaling_available_frequencies": "600000 1000000 1500000 \n"}
    target = plant(tmp_path, {**board(), **table})
    with pytest.raises(UsageError, match="it offers 600000 1000000 1500000"):
        prepare_device(target, Clocks(frequency="1100000"))
    assert prepare_device(target, Clocks(frequency="1000000"))


def test_a_device_without_control_of_clocks(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="offers no control of its clocks"):
        prepare_device(plant(tmp_path, {BOOT: "x"}), Clocks())
    tree = {name: text for name, text in board().items() if "boost" not in name}
    with pytest.raises(UsageError, match="no file that turns turbo off"):
        prepare_device(plant(tmp_path, tree), Clocks(turbo="off"))


def test_a_value_that_is_not_accepted_undoes_the_others(tmp_path: Path) -> None:
    """As where the firmware has locked the second group of CPUs."""
    target = plant(tmp_path, board(policies=2))
    locked = tmp_path / f"{CPU}/cpufreq/policy4/scaling_governor"
    locked.unlink()
    locked.symlink_to("/proc/sys/kernel/ostype")  # Root cannot write it either.
    before = settings(tmp_path)
    with pytest.raises(StageError, match=r"did not accept .*policy4/scaling_governor") as caught:
        prepare_device(target, Clocks(turbo="off"))
    assert caught.value.hint == "everything is as it was before"
    assert settings(tmp_path) == before
    assert not journal(tmp_path).exists()


def test_what_cannot_be_put_back_stays_in_the_journal(tmp_path: Path) -> None:
    target = plant(tmp_path, board())
    prepare_device(target, Clocks(turbo="off"))
    boost = tmp_path / f"{CPU}/cpufreq/boost"
    boost.unlink()
    with pytest.raises(StageError, match=r"could not put back .*boost \(was 1, is \)"):
        restore_device(target)
    assert journal(tmp_path).exists()
    boost.write_text("0\n")
    assert restore_device(target)
    assert boost.read_text() == "1\n"


def test_a_reboot_has_put_everything_back(tmp_path: Path) -> None:
    """The values are the old ones again, and another kernel may have other files."""
    target = plant(tmp_path, board())
    prepare_device(target, Clocks(turbo="off"))
    plant(tmp_path, {**board(), BOOT: "second\n"})
    (tmp_path / f"{CPU}/cpufreq/boost").unlink()
    left = find_preparation(target)
    assert left is not None
    assert left.differing == ()
    assert restore_device(target) == ()
    assert find_preparation(target) is None


def test_a_journal_reaches_no_other_file(tmp_path: Path) -> None:
    target = plant(tmp_path, {**board(), "etc/passwd": "root\n"})
    prepare_device(target, Clocks())
    lines = f"/etc/passwd\tevil\n/{CPU}/../../../../etc/passwd\tevil\n"
    journal(tmp_path).write_text(lines + journal(tmp_path).read_text())
    restore_device(target)
    assert (tmp_path / "etc/passwd").read_text() == "root\n"


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock")
def test_nobody_sets_clocks_while_somebody_measures(tmp_path: Path) -> None:
    import fcntl

    plant(tmp_path, board())
    lock = tmp_path / "device.lock"
    target = Target(id="board", shell=LocalShell(), root=str(tmp_path), lock=str(lock))
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StageError, match="somebody measures on it"):
            prepare_device(target, Clocks())
    assert prepare_device(target, Clocks())


class CutOff:
    """A machine whose program dies before its ``n``-th command."""

    kind = "local"
    TRAP = "n=0; trap '[ $((n += 1)) -eq {} ] && kill -9 $$' DEBUG\n"

    def __init__(self, n: int) -> None:
        self._n = n
        self.died = False

    def run(self, command: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        """Run it in bash, which can do something before each command."""
        program, *arguments = command[4:]
        trapped = self.TRAP.format(self._n) + program
        done = subprocess.run(
            ["bash", "-T", "-c", trapped, *arguments],
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        self.died = done.returncode == -9
        return Completed(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("action", ["prepare", "restore"])
def test_a_death_at_any_step_can_be_restored(tmp_path: Path, action: str) -> None:
    clocks = Clocks(frequency="max", turbo="off")
    target = plant(tmp_path, board())
    before = settings(tmp_path)
    deaths = changes = 0
    for n in range(1, 10_000):
        if action == "restore":
            prepare_device(target, clocks)
        shell = CutOff(n)
        cut = Target(id="board", shell=shell, root=str(tmp_path))
        try:
            prepare_device(cut, clocks) if action == "prepare" else restore_device(cut)
        except StageError:
            assert shell.died
        deaths += shell.died
        changed = settings(tmp_path) != before
        changes += changed
        # What has changed can be found, and is not changed any further.
        assert journal(tmp_path).exists() or not changed
        if changed:
            with pytest.raises(StageError, match="has not been restored"):
                prepare_device(target, clocks)
        restore_device(target)
        assert settings(tmp_path) == before
        assert not journal(tmp_path).exists()
        if not shell.died:
            break
    assert deaths > 20
    assert changes > 5


def test_the_program_is_plain_shell() -> None:
    program = files("latbench.devices").joinpath("preparation.sh").read_text()
    assert subprocess.run(["sh", "-n", "-c", program], check=False).returncode == 0
    assert "[[" not in program
    assert "local " not in program


def on_device(tree: dict[str, str]) -> dict[str, str]:
    return {f"/{name}": text for name, text in tree.items() if name != BOOT}


def test_a_remote_device_is_prepared_and_restored(
    ssh_bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("asyncssh", reason="needs the `ssh` extra")
    with ssh_bed.started(name="clocked", user="root", files=on_device(board())) as host:
        use_home(tmp_path / "home", host, monkeypatch)
        # Given files below /sys are read-only.
        place = f"/{CPU}/cpufreq"
        writable = f"cp -r {place} /tmp/cpufreq && mount --bind /tmp/cpufreq {place}"
        assert host.inside("sh", "-c", writable).returncode == 0

        def latbench(*words: str) -> tuple[int, str]:
            done = in_process(["devices", *words], dict(os.environ), tmp_path)
            return done.status, done.out + done.err

        latbench("add", "clocked", "ssh://clocked")
        status, said = latbench("prepare", "clocked", "--frequency", "max")
        assert status == 0, said
        assert said.startswith("prepared clocked: 3 settings changed\n")
        assert "policy0/scaling_governor schedutil -> performance" in said
        governor = f"/{CPU}/cpufreq/policy0/scaling_governor"
        assert host.inside("cat", governor).stdout == "performance\n"
        status, said = latbench("prepare", "clocked")
        assert status == 3
        assert "an earlier prepare of clocked has not been restored" in said
        _, said = latbench("check", "clocked")
        assert "set by an earlier prepare on " in said
        assert "latbench devices restore clocked" in said
        status, said = latbench("restore", "clocked")
        assert (status, said.splitlines()[0]) == (0, "restored clocked: 3 settings changed back")
        assert host.inside("cat", governor).stdout == "schedutil\n"
        status, said = latbench("restore", "clocked")
        assert (status, said) == (0, "clocked has not been prepared: nothing to restore\n")


def test_a_user_without_rights_is_told_so(
    ssh_bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("asyncssh", reason="needs the `ssh` extra")
    with ssh_bed.started(name="plain", files=on_device(board())) as host:
        use_home(tmp_path / "home", host, monkeypatch)
        in_process(["devices", "add", "plain", "ssh://plain"], dict(os.environ), tmp_path)
        done = in_process(["devices", "prepare", "plain"], dict(os.environ), tmp_path)
        assert done.status == 3
        assert "setting the clocks of plain needs root, or sudo without a password" in done.err
        assert host.inside("ls", "/var/lib/latbench").returncode != 0
