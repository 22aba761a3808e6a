"""An empty system with Android's folders: a kernel, a static shell, and no C library at all."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from support.command_transport import CommandTransport
from support.hosts import arm_root
from support.hosts.boot import AARCH64

LIBRARIES = ("libc6", "libgcc-s1", "libstdc++6")
DEBIAN = {"aarch64": "arm64", "x86_64": "amd64"}
VARIABLES = {"PATH": "/system/bin", "HOME": "/"}


def packages(cache: Path, architecture: str) -> tuple[Path, list[Path]]:
    """Debian's package of a static shell, and those of glibc's and GCC's libraries."""
    found = arm_root.fetched_packages(cache, DEBIAN[architecture], ("busybox-static", *LIBRARIES))
    shell = next(each for each in found if each.name.startswith("busybox-static_"))
    return shell, [each for each in found if each.name.split("_")[0] in LIBRARIES]


@contextmanager
def empty_root(
    folder: Path, architecture: str, shell: Path, programs: Mapping[str, str] | None = None
) -> Iterator[CommandTransport]:
    """A way to it. ``programs`` are shell scripts by the name of a program there."""
    subprocess.run(["dpkg-deb", "-x", shell, folder / "shell"], check=True)
    busybox = next((folder / "shell").glob("**/bin/busybox"))
    for name, text in (programs or {}).items():
        (folder / name).write_text(f"#!/system/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    (folder / "cpuinfo").write_text(arm_root.CPUINFO)
    root = quote(str(folder / "root"))
    (folder / "root").mkdir()
    lines = [
        "set -eu; read -r outside _ < /proc/self/stat; echo $outside",
        f"mount -t tmpfs -o mode=755 root {root}; cd {root}",
        "mkdir -p proc sys dev system/bin data/local/tmp",
        "mount -t tmpfs -o mode=771 data data/local/tmp; mount -t proc proc proc",
        "touch dev/null; mount --bind /dev/null dev/null; mount --rbind /sys sys",
        f"cp {quote(str(busybox))} system/bin/busybox",
        *(f"cp {quote(str(folder / name))} system/bin" for name in programs or {}),
        *(
            [
                "mount -t binfmt_misc binfmt_misc proc/sys/fs/binfmt_misc",
                f"printf '%s' {quote(AARCH64)} > proc/sys/fs/binfmt_misc/register",
                f"mount --bind {quote(str(folder / 'cpuinfo'))} proc/cpuinfo",
            ]
            if architecture == "aarch64"
            else []
        ),
        "chroot . /system/bin/busybox --install -s /system/bin",
        f"mount -o remount,ro {root}",
        "echo ready; exec chroot . /system/bin/busybox cat",
    ]
    keeper = subprocess.Popen(
        [
            *("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork"),
            *("--kill-child", "sh", "-c", "\n".join(lines)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        outside, ready = keeper.stdout.readline().strip(), keeper.stdout.readline().strip()
        assert ready == "ready", "the empty root could not be made"
        enter = (
            shutil.which("nsenter") or "nsenter",
            f"--target={outside}",
            "--user",
            "--mount",
            "--pid",
            "--root",
            "--wd",
        )
        yield CommandTransport((*enter, "--preserve-credentials"), VARIABLES)
    finally:
        keeper.stdin.close()
        keeper.kill()
        keeper.wait()
