"""What the hardware does fast."""

import torch


def bfloat16_pays(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones; others emulate them, slowly.

    Of CPUs, those with AVX-512 for bfloat16; every one with matrix units (AMX) has that too.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
