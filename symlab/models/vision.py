"""`torchvision`, also if its wheel was built for CUDA and torch was not.

A CPU-only torch then fails to import it: "operator torchvision::nms does not exist".
The compiled operators are absent, and the rules for their shapes have no operator to be
registered for. Declaring the two missing operators first makes the import succeed; no
model here calls them.
"""

import sys


def torchvision():
    """Return the torchvision module, also if its compiled operators are absent.

    The two missing operators are declared only after the import has failed for that
    reason.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declare_missing_operators()
        import torchvision
    return torchvision


def _declare_missing_operators() -> None:
    import torch

    signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", signature)
