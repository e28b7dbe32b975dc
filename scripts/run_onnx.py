"""A graph of `ttrd3 export` without PyTorch: python scripts/run_onnx.py GRAPH.onnx LR.png OUT.png [REFERENCE.png]"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

onnxruntime.set_default_logger_severity(3)
graph, lr, out, *reference = sys.argv[1:]
session = onnxruntime.InferenceSession(graph)
height, width, _ = session.get_inputs()[0].shape
resized = lambda image, factor: image.resize((width // factor, height // factor), Image.Resampling.BICUBIC)  # noqa: E731
images = {"up": resized(Image.open(lr).convert("RGB"), 1)}  # the LR image is a quarter of the tile's size
if reference:
    images["reference"] = resized(Image.open(reference[0]).convert("RGB"), 1)
    images["degraded"] = resized(resized(images["reference"], 4), 1)
inputs = {name: np.asarray(image) for name, image in images.items()}
inputs["noise"] = np.random.default_rng(10).standard_normal((height, width, 3), dtype=np.float32)
(sr,) = session.run(["sr"], inputs)
Image.fromarray((sr * 255).round().astype(np.uint8)).save(out)
