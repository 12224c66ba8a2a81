"""A resumed training is the uninterrupted one: Trainer, accelerate, Lightning's loop.

Each trains a tiny Llama for some steps, saves, and goes on in a new model with a new
optimizer. Losses, parameters and the state of the optimizer then differ by 0.0.
"""

from importlib.util import find_spec

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from symlab.models import vision
from symlab.symopt import SymOpt
from tests.architectures import ARCHITECTURES, VOCABULARY

pytestmark = pytest.mark.skipif(
    find_spec("accelerate") is None or find_spec("transformers") is None,
    reason="they are tested with transformers and accelerate",
)
STEPS, SAVED, BATCH, LENGTH = 6, 3, 4, 8
LR = 0.01


def samples() -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(VOCABULARY, (STEPS * BATCH, LENGTH), generator=draw)
    return [{"input_ids": row, "labels": row} for row in ids]


def batches() -> list[dict[str, torch.Tensor]]:
    return list(torch.utils.data.DataLoader(samples(), BATCH))


def llama(seed: int) -> nn.Module:
    return ARCHITECTURES["Llama"].build(seed).train()


def falling(optimizer) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: 1 - step / STEPS)


def difference(a, b) -> float:
    """The largest difference of two nested states; their shapes must agree."""
    if isinstance(a, torch.Tensor):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        return (a.double() - b.double()).abs().max().item() if a.numel() else 0.0
    if isinstance(a, dict):
        assert list(a) == list(b)
        a, b = list(a.values()), list(b.values())
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        return max(map(difference, a, b), default=0.0)
    assert a == b
    return 0.0


def check(straight: dict, resumed: dict) -> None:
    """straight, resumed: the losses of the steps, and the model and optimizer after."""
    assert len(straight["losses"]) == STEPS
    assert straight["losses"][SAVED:] == resumed["losses"]
    assert len(set(straight["losses"])) == STEPS  # it does train
    for part in ("model", "optimizer"):
        a, b = (run[part].state_dict() for run in (straight, resumed))
        assert difference(a, b) == 0.0


# --- transformers.Trainer ------------------------------------------------------------


def trained_by_trainer(folder, seed: int, checkpoint=None) -> dict:
    vision.torchvision()  # transformers imports it
    from transformers import Trainer, TrainingArguments

    model, losses = llama(seed), []

    class Recording(Trainer):
        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            losses.append(loss.item())
            return loss

    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=BATCH,
        save_strategy="steps",
        save_steps=SAVED,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=7,
    )
    optimizer = SymOpt(model, lr=LR)
    trainer = Recording(
        model, arguments, train_dataset=samples(), optimizers=(optimizer, None)
    )
    rates = [g["lr"] for g in optimizer.param_groups]
    trainer.train(resume_from_checkpoint=checkpoint)
    assert all(g["initial_lr"] in rates for g in optimizer.param_groups)
    assert all(g["lr"] == 0.0 for g in optimizer.param_groups)  # its own schedule
    return {"losses": losses, "model": model, "optimizer": optimizer}


def test_trainer_resumes_to_the_last_bit(tmp_path):
    straight = trained_by_trainer(tmp_path / "straight", seed=1)
    checkpoint = str(tmp_path / "straight" / f"checkpoint-{SAVED}")
    resumed = trained_by_trainer(tmp_path / "resumed", seed=2, checkpoint=checkpoint)
    check(straight, resumed)


# --- accelerate ----------------------------------------------------------------------


def accelerated(seed: int, folder, start: int) -> dict:
    """From `start`, where the state is loaded if that is not 0; saves after SAVED."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = llama(seed)
    optimizer = SymOpt(model, lr=LR)
    loader = torch.utils.data.DataLoader(samples(), BATCH)
    parts = accelerator.prepare(model, optimizer, loader, falling(optimizer))
    model, optimizer, loader, schedule = parts
    if start:
        accelerator.load_state(str(folder))
        loader = accelerator.skip_first_batches(loader, start)
    losses = []
    for step, batch in enumerate(loader, start):
        loss = model(**batch).loss
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step + 1 == SAVED:
            accelerator.save_state(str(folder))
    return {"losses": losses, "model": model, "optimizer": optimizer}


def test_accelerate_resumes_to_the_last_bit(tmp_path):
    straight = accelerated(seed=1, folder=tmp_path, start=0)
    resumed = accelerated(seed=2, folder=tmp_path, start=SAVED)
    check(straight, resumed)


# --- Lightning's loop, by hand -------------------------------------------------------


class Module(nn.Module):
    """What a LightningModule has."""

    def __init__(self, seed: int):
        super().__init__()
        self.model = llama(seed)

    def forward(self, input_ids):
        return self.model(input_ids=input_ids).logits

    def training_step(self, batch):
        return self.model(**batch).loss

    def configure_optimizers(self):
        # its roles are seen in a forward pass of this module, by the model's own input
        ids = batches()[0]["input_ids"]
        optimizer = SymOpt(self, lr=LR, example={"input_ids": ids})
        schedule = {"scheduler": falling(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def looped(seed: int, path, start: int) -> dict:
    module = Module(seed)
    configured = module.configure_optimizers()
    optimizer = configured["optimizer"]
    schedule = configured["lr_scheduler"]["scheduler"]
    parts = {"state_dict": module, "optimizer": optimizer, "lr_scheduler": schedule}
    if start:
        saved = torch.load(path, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    losses = []
    for step, batch in list(enumerate(batches()))[start:]:

        def closure(batch=batch):
            optimizer.zero_grad()
            loss = module.training_step(batch)
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).item())
        schedule.step()
        if step + 1 == SAVED:
            torch.save({n: part.state_dict() for n, part in parts.items()}, path)
    return {"losses": losses, "model": module, "optimizer": optimizer}


def test_a_loop_as_lightnings_resumes_to_the_last_bit(tmp_path):
    straight = looped(seed=1, path=tmp_path / "last.ckpt", start=0)
    resumed = looped(seed=2, path=tmp_path / "last.ckpt", start=SAVED)
    check(straight, resumed)


def test_a_state_that_is_lost_would_be_seen(tmp_path):
    """Without the optimizer's state the first loss is the same, and later ones not."""
    straight = looped(seed=1, path=tmp_path / "last.ckpt", start=0)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    fresh = Module(seed=2).configure_optimizers()["optimizer"]
    saved["optimizer"]["state"] = fresh.state_dict()["state"]
    torch.save(saved, tmp_path / "lost.ckpt")
    resumed = looped(seed=2, path=tmp_path / "lost.ckpt", start=SAVED)
    assert resumed["losses"][0] == straight["losses"][SAVED]
    assert resumed["losses"][1:] != straight["losses"][SAVED + 1 :]
    with pytest.raises(AssertionError):
        check(straight, resumed)
