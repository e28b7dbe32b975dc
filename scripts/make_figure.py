"""Stack side-by-side pictures of a validation into one figure for the README, or make a screenshot as small as one.

python scripts/make_figure.py --out figures/ttrd3-s.png runs/ucm/validation/LABEL/pictures/harbor-*.png
python scripts/make_figure.py --out figures/report.png screenshot.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from ttrd3.files import replacing
from ttrd3.reports.panels import contact_sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path, help="pictures that a validation wrote, or a screenshot")
    parser.add_argument("--out", required=True, type=Path, help="the figure, PNG")
    args = parser.parse_args()
    sheet = contact_sheet([np.asarray(Image.open(path).convert("RGB")) for path in args.pictures])
    # A palette of 256 colours takes a third of the space; at the README's size no difference is seen.
    figure = Image.fromarray(sheet).quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
    with replacing(args.out) as temporary:
        figure.save(temporary, format="PNG", optimize=True)


if __name__ == "__main__":
    main()
