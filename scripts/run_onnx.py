"""A graph of `ttrd3 export` without PyTorch: python scripts/run_onnx.py GRAPH.onnx LR.png OUT.png [REFERENCE.png]

LR is a quarter of the graph's tile; the graph takes a reference unless it was exported with --strength 0.
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

if len(sys.argv) not in (4, 5):
    sys.exit(__doc__)
onnxruntime.set_default_logger_severity(3)
graph, lr, out, *reference = sys.argv[1:]
session = onnxruntime.InferenceSession(graph)
height, width, _ = session.get_inputs()[0].shape
wanted = "reference" in {given.name for given in session.get_inputs()}
if wanted != bool(reference):
    sys.exit(f"{graph}: takes {'a' if wanted else 'no'} reference. Give LR.png OUT.png{' REFERENCE.png' * wanted}.")
image = Image.open(lr).convert("RGB")
if image.size != (width // 4, height // 4):
    sys.exit(
        f"{lr}: {image.width} x {image.height} pixels, expected {width // 4} x {height // 4}, as {graph} was made."
    )
resized = lambda image, factor: image.resize((width // factor, height // factor), Image.Resampling.BICUBIC)  # noqa: E731
images = {"up": resized(image, 1)}
if reference:
    images["reference"] = resized(Image.open(reference[0]).convert("RGB"), 1)
    images["degraded"] = resized(resized(images["reference"], 4), 1)
inputs = {name: np.asarray(image) for name, image in images.items()}
inputs["noise"] = np.random.default_rng(10).standard_normal((height, width, 3), dtype=np.float32)
(sr,) = session.run(["sr"], inputs)
Image.fromarray((sr * 255).round().astype(np.uint8)).save(out)
