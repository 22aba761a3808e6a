"""The script that process 1 of a device runs, and the files that it mounts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from uuid import uuid4

from support.hosts import adbd
from support.hosts.spec import HostSpec

UID = 1000
PHONE_PROGRAMS = "/system/bin/"
EMULATOR = Path("/usr/bin/qemu-aarch64-static")
X86_FOR_SSHD = (
    *("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/openssh", "/usr/sbin/sshd"),
    *("/usr/sbin/nologin",),
)
"""What sshd needs from this machine in a root of another architecture."""
AARCH64 = (
    r":aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
    rf":{EMULATOR}:FP"
)
"""A line for binfmt_misc (kernel, Documentation/admin-guide/binfmt-misc.rst)."""

SSHD = """\
Port 22
HostKey /etc/ssh/host_key
PidFile /run/sshd.pid
AuthorizedKeysFile /etc/ssh/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
AcceptEnv LANG LC_*
"""

CLOCK = """\
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, id, at);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += OFFSET_S;
    return failed;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec, at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return at ? *at = now.tv_sec : now.tv_sec;
}
"""


def write_files(spec: HostSpec, folder: Path, authorized_key: str) -> None:
    """Write what stays the same over reboots: /etc, the keys, the home folder, the given files."""
    etc, ssh, home = folder / "etc", folder / "ssh", folder / "home"
    for each in (etc, ssh, home, folder / "root", folder / "data"):
        each.mkdir()
    shell = spec.shell
    passwd = (
        f"root:x:0:0:root:/root:{shell}\n"
        "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        f"bench:x:{UID}:{UID}::/home/bench:{shell}\n"
    )
    (etc / "passwd").write_text(passwd)
    (etc / "group").write_text(f"root:x:0:\ntty:x:5:\nnogroup:x:65534:\nbench:x:{UID}:\n")
    (etc / "hostname").write_text(f"{spec.name}\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {spec.name}\n")
    (etc / "machine-id").write_text(f"{uuid4().hex}\n")
    if spec.clock_offset_s:
        (etc / "ld.so.preload").write_text("/etc/clock.so\n")
        compiler = ("cc", "-shared", "-fPIC", f"-DOFFSET_S={spec.clock_offset_s}", "-xc", "-")
        subprocess.run(
            [*compiler, "-o", etc / "clock.so"], input=CLOCK, text=True, check=True, timeout=60
        )
    config = SSHD
    if spec.sftp:
        config += "Subsystem sftp internal-sftp\n"
    if spec.banner is not None:
        config += "Banner /etc/ssh/banner\n"
        (ssh / "banner").write_text(spec.banner)
    (ssh / "sshd_config").write_text(config)
    (ssh / "authorized_keys").write_text(authorized_key)
    write_host_key(ssh)
    if spec.chatter is not None:
        for name in (".bashrc", ".profile"):
            (home / name).write_text(f"printf '%s\\n' {quote(spec.chatter)}\n")
    if spec.user != "root":
        for each in (home, *home.iterdir()):
            os.chown(each, UID, UID)
    for path, text in spec.files.items():
        place = folder / "files" / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        if path.startswith(PHONE_PROGRAMS):
            place.chmod(0o755)


def write_host_key(ssh: Path) -> None:
    """Write a new host key into the device's folder /etc/ssh."""
    new = ssh / "new"
    write_key(new)
    new.rename(ssh / "host_key")
    new.with_suffix(".pub").rename(ssh / "host_key.pub")


def write_key(path: Path) -> None:
    """Write an Ed25519 key pair without a passphrase."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path],
        check=True,
        capture_output=True,
        timeout=60,
    )


def script(spec: HostSpec, folder: Path) -> str:
    """Shell commands that build the root, start sshd and stay until standard input ends.

    The first line of output is the process's number outside; a line of input says that the network
    is there; ``ready`` says that sshd listens.
    """
    return "\n".join(["set -eu", *_lines(spec, folder)]) + "\n"


def _lines(spec: HostSpec, folder: Path) -> Iterator[str]:
    # /proc is still that of the outside. The shell opens the file itself, so this is its number.
    yield "read -r outside _ < /proc/self/stat; echo $outside; read -r _"
    yield f"H={quote(str(folder))} R={quote(str(folder / 'root'))}"
    yield f"echo {quote(spec.name)} > /proc/sys/kernel/hostname"
    size = f",size={spec.disk_bytes}" if spec.disk_bytes else ""
    yield f"mount -t tmpfs -o mode=755{size} root $R; cd $R"
    yield "mkdir -p usr etc proc sys dev/pts dev/shm tmp var/tmp var/log run/sshd root home .etc .work"
    yield "chmod 1777 tmp var/tmp dev/shm"
    yield "for each in bin sbin lib lib64; do ln -s usr/$each $each; done"
    yield from _usr(spec)
    lower = f"$H/etc:{quote(str(spec.root)) if spec.root else ''}/etc"
    yield f"mount -t overlay -o lowerdir={lower},upperdir=.etc,workdir=.work etc etc"
    yield "mkdir -p etc/ssh; mount --bind $H/ssh etc/ssh"
    yield "mount -t proc proc proc"
    if spec.root is not None:
        yield "mount -t binfmt_misc binfmt_misc proc/sys/fs/binfmt_misc"
        yield f"printf '%s' {quote(AARCH64)} > proc/sys/fs/binfmt_misc/register"
    yield "mount -t sysfs sysfs sys; mount --rbind /sys/fs/cgroup sys/fs/cgroup"
    yield "mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts"
    yield "for each in null zero full random urandom tty; do"
    yield "  touch dev/$each; mount --bind /dev/$each dev/$each"
    yield "done"
    yield "ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd"
    yield "for each in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${each%:*} dev/${each#*:}; done"
    yield "cat /proc/sys/kernel/random/uuid > run/boot_id; chmod 444 run/boot_id"
    yield "mount --bind run/boot_id proc/sys/kernel/random/boot_id"
    yield from _home(spec)
    if spec.adbd is not None:
        yield "mkdir -p data system/bin; mount --bind $H/data data; mkdir -p -m 771 data/local/tmp"
    for place in (*spec.visible, *([spec.adbd] if spec.adbd else ())):
        where = quote(str(place))
        yield f"mkdir -p $R{where}; mount --bind -o ro {where} $R{where}"
    yield from _files(spec)
    yield "mkdir .old; pivot_root . .old; umount -l .old; rmdir .old; cd /"
    yield "exec 3<&0"
    if spec.adbd is not None:
        yield from adbd.lines(spec.adbd)
    else:
        yield "/usr/sbin/sshd -D -E /var/log/sshd.log < /dev/null > /var/log/boot.log 2>&1 & sshd=$!"
        yield "until [ -s /run/sshd.pid ]; do kill -0 $sshd; sleep 0.005; done"
    yield "cat <&3 > /dev/null & keeper=$!"
    yield "echo ready; exec > /dev/null 2>&1"
    # `wait` also takes the status of orphans, as an init does.
    yield "wait $keeper"


def _usr(spec: HostSpec) -> Iterator[str]:
    if spec.root is not None:
        yield f"mount --bind -o ro {quote(str(spec.root / 'usr'))} usr"
        for path in X86_FOR_SSHD:
            yield f"mount --bind -o ro {path} .{path}"
    elif spec.python and spec.adbd is None:
        yield "mount --bind -o ro /usr usr"
    else:
        yield "mkdir .usr .usr-work"
        yield "mount -t overlay -o lowerdir=/usr,upperdir=.usr,workdir=.usr-work usr usr"
        yield "rm -rf usr/bin/python*"
    # Only the system's own Python: what is installed locally is this machine's, not a device's.
    yield "mount -t tmpfs -o mode=755 local usr/local"


def _home(spec: HostSpec) -> Iterator[str]:
    home = f".{spec.home}"
    yield f"mkdir -p {home}"
    if spec.disk_bytes:
        yield f"cp -a $H/home/. {home}"
    else:
        yield f"mount --bind $H/home {home}"


def _files(spec: HostSpec) -> Iterator[str]:
    """Given files: bound over those of /proc, laid over folders of /sys, copied elsewhere."""
    layers = set()
    for path in spec.files:
        place = quote(path)
        if path.startswith("/proc/"):
            yield f"mount --bind $H/files{place} .{place}"
        elif path.startswith("/sys/"):
            layers.add(next(each for each in Path(path).parents if each.is_dir()))
        else:
            yield f"mkdir -p .{quote(str(Path(path).parent))}"
            yield f"cp --remove-destination $H/files{place} .{place}"
    for layer in sorted(layers):
        yield f"mount -t overlay -o lowerdir=$H/files{layer}:.{layer} sys .{layer}"
