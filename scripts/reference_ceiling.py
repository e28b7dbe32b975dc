"""What references could bring to given weights at most: the HR image itself as its reference, beside none and the like.

A model that uses references must gain much from a reference that holds the answer. Where even that changes next to
nothing, the textures are ignored, and no choice of references can help. Prints a Markdown table: PSNR, and the mean
change of SR against no reference in grey levels of 255.

  python scripts/reference_ceiling.py options/ucmerced.yml [weights=FILE] [data.val.limit=12] [section.key=value ...]
"""

import sys

import torch
from torch import Tensor


@torch.inference_mode()
def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    from ttrd3.data.streams import ValidationView
    from ttrd3.engine import build, checkpoint
    from ttrd3.engine.options import load_options
    from ttrd3.engine.run_folder import RunFolder
    from ttrd3.engine.validation import make_restorer
    from ttrd3.paths import input_path

    options = load_options(sys.argv[1:])
    path = input_path(options.weights) if options.weights else RunFolder(options).weights
    model = build.build_model(options.model, options.diffusion).eval()
    checkpoint.load_weights(model, path, options)
    restore = make_restorer(options, model, build.build_process(options.diffusion))
    samples = ValidationView(build.build_dataset(options.data.val, options.seed), seed=options.seed)
    usual = options.data.val.reference
    rows: dict[str, list[tuple[float, float]]] = {"none": [], usual: [], "HR itself": []}
    for index in range(len(samples)):
        sample = samples[index]
        hr, up, reference, degraded = (
            sample[key][None].float() / 255 for key in ("hr", "up", "reference", "degraded_reference")
        )
        given = {
            "none": (None, None, None),
            usual: (reference, degraded, torch.tensor([sample["has_reference"]])),
            "HR itself": (hr, up, torch.tensor([True])),
        }
        restored = {name: restore(up, *references, [sample["name"]]) for name, references in given.items()}
        for name, sr in restored.items():
            rows[name].append((psnr(sr, hr), float((sr - restored["none"]).abs().mean()) * 255))
    print(f"| reference ({len(samples)} images) | PSNR (dB) | mean change (of 255) |\n|---|---|---|")
    for name, values in rows.items():
        quality, change = (sum(column) / len(values) for column in zip(*values, strict=True))
        print(f"| {name} | {quality:.3f} | {change:.3f} |")


def psnr(sr: Tensor, hr: Tensor) -> float:
    """PSNR of images in [0, 1], without rounding to 8 bits, so that the smallest change shows."""
    return float(-10 * (sr - hr).square().mean().log10())


if __name__ == "__main__":
    main()
