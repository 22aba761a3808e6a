"""Real devices behind real cables: sshd servers in namespaces of this machine.

A test asks for a device by its fixture (``board``, ``slow``, ``bare``, ``arm``, ``gone``, ``gate``,
``inner``, ``phone``; see ``fixtures.py``) or makes one of its own::

    def test_a_cut_cable_is_noticed(board):
        board.ssh("true", check=True)
        board.cut()

    def test_a_board_that_is_hot(ssh_bed):
        zone = "/sys/class/thermal/thermal_zone0"
        files = {f"{zone}/type": "cpu-thermal\\n", f"{zone}/temp": "81000\\n"}
        with ssh_bed.started(name="hot", files=files) as hot: ...

    def test_a_phone_that_is_hot(ssh_bed, adbd_files, adb_port):
        files = {"/system/bin/getprop": "#!/bin/sh\\n...", f"{zone}/temp": "81000\\n"}
        with ssh_bed.started(name="hot", adbd=adbd_files, files=files) as hot: ...

Each has a kernel's view of its own: network, processes, host name, mounts, IPC, and clocks since
boot that start near zero. It sees /usr and /etc of this machine, and nothing else of it: not the
checkout, not its environment, not the internet. Everything belongs to processes that end with the
test process, however that ends; folders that a killed run left behind are deleted by the next one.
"""

from support.hosts.bed import Bed, why_unavailable
from support.hosts.host import Host
from support.hosts.processes import Process, until
from support.hosts.spec import HostSpec

__all__ = ["Bed", "Host", "HostSpec", "Process", "until", "why_unavailable"]
