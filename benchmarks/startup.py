"""``latbench --help`` compared with the ``--help`` of an equal bare click program.

    python benchmarks/startup.py [--rounds N] [--smoke]

Both programs are started in random order; wall times of whole processes. Goal: a ratio of 1.3.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from latbench.cli import COMMANDS

BARE = """#!{python}
import sys
import click

@click.group(context_settings={{"help_option_names": ["-h", "--help"]}})
@click.version_option("0", prog_name="bare")
def cli():
    "Time models on devices, keep the evidence, check the claims."

{commands}
if __name__ == "__main__":
    sys.exit(cli())
"""
COMMAND = '@cli.command("{name}", help="{help}")\ndef _{i}(): ...\n'


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    rounds = 1 if args.smoke else args.rounds
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare"
        commands = "\n".join(
            COMMAND.format(name=name, help=help, i=i)
            for i, (name, help) in enumerate(COMMANDS.items())
        )
        bare.write_text(BARE.format(python=sys.executable, commands=commands))
        bare.chmod(0o755)
        programs = {"latbench": Path(sys.executable).parent / "latbench", "bare click": bare}
        walls: dict[str, list[float]] = {name: [] for name in programs}
        draw = random.Random(0)
        for turn in range(rounds + 2):
            for name in draw.sample(list(programs), 2):
                start = perf_counter()
                subprocess.run([programs[name], "--help"], check=True, capture_output=True)
                if turn >= 2:
                    walls[name].append(perf_counter() - start)
    ratio = median(a / b for a, b in zip(walls["latbench"], walls["bare click"], strict=True))
    print("| program | median wall of `--help` |")
    print("|---|---|")
    for name, times in walls.items():
        print(f"| {name} | {median(times) * 1000:.1f} ms |")
    print(f"\nratio: {ratio:.2f}")


if __name__ == "__main__":
    main()
