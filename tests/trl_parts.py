"""A GPT-2 of two layers, a tokenizer of digits, prompts and rewards, for TRL's trainer.

Also a script: two processes train with GRPOTrainer and with AdvantageTrainer.

    torchrun --nproc-per-node 2 -m tests.trl_parts FOLDER
"""

import sys
from pathlib import Path

import torch

from symlab.models import vision

EOS, PAD = 11, 10


def tokenizer():
    vision.torchvision()  # transformers imports it
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {str(i): i for i in range(10)} | {"<pad>": PAD, "<eos>": EOS}
    digits = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    digits.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=digits,
        pad_token="<pad>",
        eos_token="<eos>",
        padding_side="left",
    )


def model():
    vision.torchvision()
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    shape |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=12, eos_token_id=EOS, bos_token_id=EOS, **shape)
    )


def settings(folder, **own):
    """GRPOConfig for one step of 16 rollouts in 4 groups."""
    vision.torchvision()
    from trl import GRPOConfig

    fields = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 16,
        "num_generations": 4,
        "max_completion_length": 6,
        "max_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
        "loss_type": "dr_grpo",
        "gradient_checkpointing": False,
        "learning_rate": 0.1,
        "save_strategy": "no",
    }
    return GRPOConfig(**(fields | own))


def prompts(n: int = 8):
    from datasets import Dataset

    return Dataset.from_dict({"prompt": [f"{i} {i + 1}" for i in range(n)]})


def accuracy(completion_ids, **_):
    """1.0 where most of the digits are small."""
    return [float(sum(i < 5 for i in ids) > 0.5 * len(ids)) for ids in completion_ids]


def graded(completion_ids, **_):
    """The share of small digits, with no reward for a completion of nothing but 9."""
    return [
        None if set(ids) <= {9, EOS} else sum(i < 5 for i in ids) / max(1, len(ids))
        for ids in completion_ids
    ]


def weights(trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def trained(kind, folder, *, rewards=accuracy, peft=None, resume=None, **own):
    """A trainer of this class after its steps; `estimator` goes to the trainer."""
    extra = {k: own.pop(k) for k in ("estimator", "estimator_options") if k in own}
    trainer = kind(
        model=model(),
        reward_funcs=rewards,
        args=settings(folder, **own),
        train_dataset=prompts(),
        processing_class=tokenizer(),
        peft_config=peft,
        **extra,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def main(folder: str) -> None:
    """Weights of each process after two steps, to compare."""
    import warnings

    warnings.filterwarnings("ignore")
    vision.torchvision()
    from trl import GRPOTrainer

    from symlab.rlvr.trl import AdvantageTrainer

    own = {"max_steps": 2, "per_device_train_batch_size": 8, "num_iterations": 2}
    ours = {"estimator": "grpo", "estimator_options": {"std": "trl"}}
    agrae = {"estimator": "agrae"}
    for name, kind, extra in (
        ("trl", GRPOTrainer, {}),
        ("ours", AdvantageTrainer, ours),
        ("agrae", AdvantageTrainer, agrae),
    ):
        trainer = trained(kind, Path(folder) / name, **own, **extra)
        found = {"weights": weights(trainer), "log": trainer.state.log_history}
        torch.save(found, f"{folder}/{name}-{trainer.accelerator.process_index}.pt")


if __name__ == "__main__":
    main(sys.argv[1])
