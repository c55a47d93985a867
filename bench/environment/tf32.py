"""Whether a GPU rounds the factors of products and convolutions in fp32 to TF32."""

import torch


def set_tf32(*, enabled: bool) -> None:
    """Let torch round the factors of fp32 products and convolutions to TF32, or not.

    By default torch rounds cuDNN's convolutions, and cuBLAS's products where TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 was set
    when it was imported, as NVIDIA's images do. These older switches also set the newer `fp32_precision`, which
    Inductor reads. Source: torch 2.13, `aten/src/ATen/Context.h` and `Context.cpp`.
    """
    torch.set_float32_matmul_precision("high" if enabled else "highest")
    torch.backends.cudnn.allow_tf32 = enabled


def describe_tf32() -> str:
    """Return what torch rounds to TF32 ("products and convolutions"), or "off"."""
    switches = {
        "products": torch.backends.cuda.matmul.allow_tf32,
        "convolutions": torch.backends.cudnn.allow_tf32,
    }
    return " and ".join(name for name, is_on in switches.items() if is_on) or "off"
