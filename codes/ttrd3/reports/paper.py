"""Table II of the paper (TTRD3, arXiv:2504.13026) and what keeps a run's numbers from being compared with it."""

import re

from ttrd3.reports.results import BASELINE
from ttrd3.reports.runs import Run

COLUMNS = {"PSNR": 4, "SSIM": 4, "LPIPS": 4, "FID": 4}  # decimals
BICUBIC, OURS = "Bicubic", "TTRD3"

# Dataset -> method -> PSNR (dB), SSIM, LPIPS, FID at x4.
TABLE = {
    "AID": {
        "Bicubic": (27.9757, 0.7298, 0.3442, 90.7452),
        "EDSR": (29.9272, 0.8117, 0.2983, 84.9425),
        "RCAN": (30.1317, 0.8156, 0.2980, 84.8817),
        "SwinIR": (30.1144, 0.8156, 0.2984, 85.6497),
        "TTST": (30.1627, 0.8172, 0.2952, 83.0137),
        "ESRGAN": (27.4881, 0.7377, 0.2711, 40.4819),
        "LDL": (27.7927, 0.7533, 0.2724, 39.9917),
        "SR3": (26.4684, 0.6921, 0.3435, 77.2483),
        "EDiffSR": (25.2836, 0.5946, 0.3683, 59.0955),
        "ResShift": (28.1733, 0.7498, 0.2757, 59.8146),
        "TTSR": (28.7728, 0.7805, 0.2576, 57.9357),
        "MASA": (28.1082, 0.7374, 0.3088, 58.6754),
        "RRSGAN": (28.4206, 0.7517, 0.2555, 38.8088),
        "RGTGAN": (28.5345, 0.7593, 0.2526, 40.7482),
        "TTRD3": (28.8432, 0.7808, 0.2467, 32.7252),
    },
    "RSD46-WHU": {
        "Bicubic": (27.8750, 0.7267, 0.3392, 115.8997),
        "EDSR": (29.6134, 0.8031, 0.3004, 113.3129),
        "RCAN": (29.7836, 0.8069, 0.2998, 111.7993),
        "SwinIR": (29.7942, 0.8082, 0.2999, 113.6315),
        "TTST": (29.7858, 0.8082, 0.2991, 111.4668),
        "ESRGAN": (26.9006, 0.7105, 0.2758, 60.4716),
        "LDL": (28.4559, 0.7615, 0.2526, 55.9034),
        "SR3": (26.2499, 0.6801, 0.3557, 107.7770),
        "EDiffSR": (24.8892, 0.5783, 0.3888, 87.5350),
        "ResShift": (28.1425, 0.7561, 0.2825, 95.2061),
        "TTSR": (28.6293, 0.7686, 0.2519, 75.7809),
        "MASA": (27.6096, 0.7244, 0.2597, 60.1659),
        "RRSGAN": (28.6126, 0.7556, 0.2480, 55.3338),
        "RGTGAN": (28.7570, 0.7593, 0.2518, 57.7431),
        "TTRD3": (28.8605, 0.7643, 0.2418, 49.9658),
    },
    "NWPU-RESISC45": {
        "Bicubic": (26.4655, 0.6917, 0.3630, 128.2654),
        "EDSR": (28.1164, 0.7770, 0.3234, 134.2399),
        "RCAN": (28.2316, 0.7801, 0.3237, 133.8027),
        "SwinIR": (28.2378, 0.7805, 0.3234, 132.8400),
        "TTST": (28.2388, 0.7798, 0.3235, 131.8874),
        "ESRGAN": (25.4766, 0.6769, 0.2859, 61.4072),
        "LDL": (27.0315, 0.7344, 0.2617, 62.1782),
        "SR3": (25.0475, 0.6428, 0.3753, 115.5776),
        "EDiffSR": (23.9600, 0.5607, 0.3836, 84.3360),
        "ResShift": (26.9844, 0.7333, 0.2980, 113.0756),
        "TTSR": (27.0107, 0.7477, 0.2748, 90.7084),
        "MASA": (25.8506, 0.6840, 0.2744, 66.7040),
        "RRSGAN": (27.0975, 0.7283, 0.2613, 60.8706),
        "RGTGAN": (27.2657, 0.7328, 0.2663, 61.5629),
        "TTRD3": (27.3974, 0.7486, 0.2589, 51.3766),
    },
    "UC Merced": {
        "Bicubic": (25.2852, 0.6816, 0.3921, 119.3554),
        "EDSR": (27.2596, 0.7712, 0.3321, 115.0489),
        "RCAN": (27.4854, 0.7759, 0.3297, 114.4566),
        "SwinIR": (27.5080, 0.7771, 0.3288, 114.6551),
        "TTST": (27.5623, 0.7779, 0.3282, 111.6235),
        "ESRGAN": (24.7853, 0.6798, 0.3010, 66.6626),
        "LDL": (26.2436, 0.7302, 0.2701, 56.5443),
        "SR3": (24.5118, 0.6530, 0.3736, 110.9436),
        "EDiffSR": (23.3858, 0.5766, 0.3708, 88.4251),
        "ResShift": (26.1908, 0.7329, 0.3033, 89.9129),
        "TTSR": (26.6160, 0.7512, 0.2788, 67.7632),
        "MASA": (25.2230, 0.6842, 0.2811, 57.1048),
        "RRSGAN": (26.4262, 0.7255, 0.2707, 54.5856),
        "RGTGAN": (26.5564, 0.7292, 0.2745, 56.2610),
        "TTRD3": (26.7812, 0.7580, 0.2662, 47.2872),
    },
}

SAME_DB = 0.005  # bicubic nearer to the paper's than this is on the same images


def dataset_of(run: Run) -> str | None:
    """The paper's data set that the name of the run's data folder speaks of; None for any other."""
    words = re.sub(r"[^a-z0-9/]", "", str(run.protocol.get("data", "")).lower()).split("/")
    for dataset, pattern in (
        ("UC Merced", r"uc_?merced"),
        ("NWPU-RESISC45", r"nwpu|resisc"),
        ("RSD46-WHU", r"rsd46"),
        ("AID", r"^aid"),
    ):
        if any(re.search(pattern, word) for word in words):
            return dataset
    return None


def measured(run: Run, method: str) -> dict[str, float | None]:
    """The run's means under the paper's columns; None where it has not measured by the paper's protocol."""
    means, fid = run.means.get(method, {}), run.sets.get(method, {}).get("fid")
    return {
        "PSNR": means.get("psnr"),  # these two names are given to the paper's protocol alone: RGB, no border, 7 x 7
        "SSIM": means.get("ssim"),
        "LPIPS": next((value for name, value in means.items() if name.startswith("lpips")), None),
        "FID": None if fid is None else fid.value,
    }


def differences(run: Run, dataset: str | None) -> list[str]:
    """What keeps the run's numbers from being compared with the paper's; empty if nothing is known to."""
    protocol, found = run.protocol, measured(run, BASELINE)
    images = len(run.entries)
    reasons = []
    if dataset is None:
        reasons.append(
            f"The data, {protocol.get('data', 'unknown')}, is none of the paper's four sets by its folder's name."
        )
    else:
        ours, paper = found["PSNR"], TABLE[dataset][BICUBIC][0]
        same = ours is not None and abs(ours - paper) < SAME_DB
        if not same:
            bicubic = "" if ours is None else f" Bicubic, which depends on the images alone: {ours:.4f} dB here"
            reasons.append(
                f"The images are not the paper's test split of {dataset} but {images} of split "
                f"{protocol.get('split', 'unknown')!r}.{bicubic}{', ' if bicubic else ' Bicubic: '}{paper} dB there."
            )
    if "crop" in protocol:
        reasons.append(f"Windows of {protocol['crop']} pixels were restored, not whole tiles.")
    for column, names in (("PSNR", "psnr"), ("SSIM", "ssim")):
        others = [name for name in run.measures if name.startswith(f"{names}_")]
        if found[column] is None:
            has = f"only {', '.join(others)}" if others else "nothing of the kind"
            reasons.append(f"{column} in RGB without border (SSIM: 7 x 7 window) was not measured, {has}.")
    for column, unknown in (("LPIPS", "trunk"), ("FID", "implementation and number of images")):
        if found[column] is None:
            reasons.append(f"{column} was not measured.")
        else:
            reasons.append(f"{column}: the paper's {unknown} is not known.")
    return reasons
