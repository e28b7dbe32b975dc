"""Train designs for the same time each and compare them, as a Markdown table.

A design is a name and what it changes in an options file. Its speed is measured first by a short run; the run that
counts then has as many steps as fit into the minutes, so that the learning rate falls to its end in each, and is
validated. Runs are output/designs-NAME; what is finished is not done again.

  python scripts/compare_designs.py --minutes 3 --base options/TTRD3-S-base.yml --out runs/designs.md \\
      --common sampling.fidelity=1 'losses=[{type: l1, of: residual}]' \\
      --design shipped --design 'width64 model.unet.widths=[64,96,128] model.unet.encoder_blocks=[1,1,2]'
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ttrd3.engine.options import Options, load_options
from ttrd3.engine.run_folder import RunFolder
from ttrd3.files import write_text

TRIAL_STEPS = 60
SPEED = re.compile(r"([\d.]+) images/s")
SIZE = re.compile(r"with ([\d.]+) M parameters")


@dataclass(frozen=True)
class Result:
    """What a design reached."""

    name: str
    changes: list[str]
    parameters: str
    speed: float
    steps: int
    ours: dict[str, float]
    bicubic: dict[str, float]

    def row(self) -> str:
        """The line of the table."""
        psnr, ssim = (self.ours[name] - self.bicubic[name] for name in ("psnr", "ssim"))
        changes = f"`{' '.join(self.changes)}`" if self.changes else "nothing"
        figures = [self.name, changes, f"{self.parameters} M", f"{self.speed:.1f}", f"{self.steps}"]
        return f"| {' | '.join(figures)} | {psnr:+.3f} dB | {ssim:+.4f} |"


def train(base: Path, overrides: list[str]) -> tuple[Options, RunFolder]:
    """Train, or go on, in a process of its own; returns the options and what the run left."""
    subprocess.run([sys.executable, "-P", "-m", "ttrd3", "train", str(base), *overrides], check=True)
    options = load_options([str(base), *overrides])
    return options, RunFolder(options)


def compare(base: Path, common: list[str], design: str, minutes: float) -> Result:
    """Measure the design's speed, then train it for `minutes`."""
    name, *changes = shlex.split(design)
    given = [*common, *changes]
    trial = [*given, f"name=designs-{name}-speed", f"train.steps={TRIAL_STEPS}"]
    trial += ["train.log_every=20", "data.val.limit=1"]
    options, folder = train(base, trial)
    speeds = sorted(float(speed) for speed in SPEED.findall(folder.log.read_text()))
    images = options.train.batch_size * options.train.accumulation
    steps = max(1, round(minutes * 60 * speeds[len(speeds) // 2] / images))
    _, folder = train(base, [*given, f"name=designs-{name}", f"train.steps={steps}"])
    results, log = json.loads(folder.validations()[steps].read_text()), folder.log.read_text()
    speeds = [float(speed) for speed in SPEED.findall(log)]
    parameters = SIZE.search(log)
    return Result(
        name=name,
        changes=changes,
        parameters=parameters[1] if parameters else "?",
        speed=len(speeds) / sum(1 / speed for speed in speeds),
        steps=steps,
        ours=results["ttrd3"],
        bicubic=results["bicubic"],
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="options file that the designs change")
    parser.add_argument("--common", nargs="*", default=[], metavar="OPTION=VALUE", help="changes for all of them")
    parser.add_argument("--design", action="append", required=True, metavar="'NAME OPTION=VALUE ...'")
    parser.add_argument("--minutes", type=float, required=True, help="of training for each")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file of the table")
    args = parser.parse_args()
    results = [compare(args.base, args.common, design, args.minutes) for design in args.design]
    results.sort(key=lambda result: -result.ours["psnr"])
    lines = [
        "| design | changes | parameters | images/s | steps | PSNR over bicubic | SSIM |",
        "|---|---|---|---|---|---|---|",
        *(result.row() for result in results),
    ]
    write_text(args.out, "\n".join(lines) + "\n")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
