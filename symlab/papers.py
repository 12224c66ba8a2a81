"""The papers that the experiments test, and one look for each of their arms.

An arm has the same name, colour and marker in every figure of its paper. The colours
are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from symlab.harness import Arm, Paper, Smallest
from symlab.harness.plot import BLACK, BLUE, GREEN, ORANGE, PINK, SKY

# --- symmetry of losses --------------------------------------------------------------

ZIYIN = Paper(
    "Ziyin 2024",
    "Liu Ziyin",
    "Symmetry Induces Structure and Constraint of Learning",
    2024,
    "2309.16932",
    headlines={
        "constraint": "Every mirror symmetry of the loss, with reflection surface O, "
        "leads to a constraint O^T theta = 0 on the parameters theta.",
        "decay": "The constraint of a mirror symmetry becomes satisfied when the "
        "weight decay is large.",
        "noise": "The constraint of a mirror symmetry becomes satisfied when the "
        "gradient noise is large.",
        "sparsity": "Rescaling symmetry leads to sparsity.",
        "low rank": "Rotation symmetry leads to low rank.",
        "ensembling": "Permutation symmetry leads to homogeneous ensembling: neurons "
        "become copies of each other.",
        "plasticity": "The theory of mirror symmetry explains the loss of plasticity.",
        "collapse": "The theory of mirror symmetry explains various collapse phenomena "
        "in neural networks.",
        "hard constraints": "Symmetries give an algorithm (DCS) that enforces hard "
        "constraints in a differentiable way.",
    },
    smallest={
        "rank": Smallest(
            20.0,
            "of 200 directions",
            "A tenth of the 200 directions is the finest difference that one sees in "
            "figure 3.",
        ),
        "zero weights": Smallest(
            0.05,
            "of the weights",
            "One weight in twenty is the finest difference that one sees in figure 3.",
        ),
        "copied neurons": Smallest(
            0.25,
            "of the neurons",
            "Blocks that one sees in a correlation matrix, as in figure 3, need a good "
            "part of the neurons: a quarter.",
        ),
        "rare copies": Smallest(
            0.05,
            "of the neurons",
            "The paper says that copies are rare without weight decay, which is taken "
            "as fewer than one neuron in twenty.",
        ),
        "distinct neurons": Smallest(
            5.0,
            "of 50 neurons",
            "A few of the 50 neurons are close to each other by chance, so that a "
            "difference counts from a tenth of them on.",
        ),
        "excess loss": Smallest(
            0.1,
            "of the loss of predicting zero",
            "A tenth of what predicting zero costs is the finest difference that one "
            "sees in figure 4.",
        ),
    },
)
KOBAYASHI = Paper(
    "Kobayashi et al. 2024",
    "Seijin Kobayashi, Yassir Akram and Johannes von Oswald",
    "Weight decay induces low-rank attention layers",
    2024,
    "2410.23819",
    headlines={
        "nuclear norm": "Any local minimum of a loss of A B^T with weight decay on A "
        "and B is a minimum of that loss with the nuclear norm of A B^T as penalty.",
        "exponential": "The losses with weight decay and with the nuclear norm become "
        "identical exponentially quickly during training.",
        "low rank": "Weight decay, as it is usual in vision and language modelling, "
        "lowers the ranks of the products W_K^T W_Q and P W_V of attention layers "
        "significantly, even in fully online training.",
        "damage": "Low rank in the attention layers damages language models.",
        "omission": "Language models perform better when the weight decay of their "
        "attention layers is omitted.",
    },
    smallest={
        "rank": Smallest(
            8.0,
            "of 16 directions",
            "The paper calls the reduction significant, which is taken as half of the "
            "16 directions of a head.",
        ),
        "loss": Smallest(
            0.16,
            "nats per character",
            "This is a tenth of the 1.6 nats by which the loss of our models is below "
            "that of the frequencies of single characters.",
        ),
    },
)
QUANTISATION = Paper(
    "Ziyin et al. 2025",
    "Liu Ziyin, Yizhou Xu, Tomaso Poggio and Isaac Chuang",
    "Parameter Symmetry Potentially Unifies Deep Learning Theory",
    2025,
    "2502.05300",
    headlines={
        "unification": "Breaking and restoring parameter symmetries is the mechanism "
        "that unifies the hierarchies of learning dynamics, of model complexity and of "
        "representations.",
        "bounded": "The number of distinct neurons of a network stays bounded as its "
        "width grows (a conjecture).",
    },
    smallest={
        "growth": Smallest(
            2.0,
            "times as many neurons",
            "A number that less than doubles while the width grows 16-fold is far from "
            "proportional to the width.",
        ),
    },
)

# --- optimizers ----------------------------------------------------------------------

VALIDATION_LOSS = Smallest(
    0.01,
    "nats",
    "A hundredth of a nat is one per cent of perplexity; the least gap to AdamW among "
    "the four model families of Lau & Su is 0.009 nats.",
)
EXCESS_LOSS = Smallest(
    1.1,
    "ratio of excess losses",
    "For less than a tenth of the excess loss one would not change an optimizer.",
)
LOAD_CV = Smallest(
    1.25,
    "ratio of load CVs",
    "Load CVs of equal arms differ by some tenth between seeds; a fifth is seen at "
    "once in a figure.",
)
LAU = Paper(
    "Lau & Su 2026",
    "Tim Tsz-Kit Lau and Weijie Su",
    "Symmetry-Compatible Principle for Optimizer Design: Embeddings, LM Heads, SwiGLU "
    "MLPs, and MoE Routers",
    2026,
    "2605.18106",
    headlines={
        "coordinate-wise": "Adam and its variants work coordinate by coordinate and "
        "cannot respect the symmetries of the parameters.",
        "stack": "The rules together make a layerwise stack in which each major class "
        "of weight matrices has an update that is equivariant under its own symmetry "
        "group.",
        "shift": "LM heads and routers have a shared-shift symmetry, which centred "
        "updates respect.",
        "loss": "In pretraining of dense and mixture-of-experts language models, "
        "symmetry-compatible updates consistently end with a lower validation loss "
        "than the corresponding AdamW updates.",
        "stability": "In several cases symmetry-compatible updates also make training "
        "more stable than AdamW does.",
    },
    smallest={
        "validation loss": VALIDATION_LOSS,
        "excess loss": EXCESS_LOSS,
        "load CV": LOAD_CV,
    },
)
FREON = Paper(
    "Shumaylov et al. 2026",
    "Zakhar Shumaylov, Nathaël Da Costa, Peter Zaika, Bálint Mucsányi, Alex Massucco, "
    "Yoav Gelberg, Carola-Bibiane Schönlieb, Yarin Gal and Philipp Hennig",
    "Muon is Not That Special: Random or Inverted Spectra Work Just as Well",
    2026,
    "2605.11181",
    headlines={
        "inverted": "Updates with an inverted spectrum, in which the directions that "
        "are smallest in the gradient are largest, work just as well as Muon's.",
        "random": "Updates with a random spectrum (Kaon) work just as well as Muon's.",
        "quasi-norm": "Among the powers of the spectrum (Freon) the best one lies in "
        "the quasi-norm range, beyond Muon's exponent of 1/2.",
    },
    smallest={"validation loss": VALIDATION_LOSS},
)
ARO = Paper(
    "Gong et al. 2026",
    "Wenbo Gong, Javier Zazo, Qijun Luo, Puqian Wang, James Hensman and Chao Ma",
    "ARO: A New Lens On Matrix Optimization For Large Models",
    2026,
    "2602.09006",
    headlines={
        "adamw": "ARO pretrains language models 1.3 to 1.35 times as fast as AdamW.",
        "orthogonalization": "ARO pretrains language models 1.1 to 1.15 times as fast "
        "as optimizers that orthogonalise the update.",
        "scale": "The gains hold up to 8 billion active parameters and eight times the "
        "usual training budget.",
    },
    smallest={"validation loss": VALIDATION_LOSS},
)
AMSEL = Paper(
    "Amsel et al. 2025",
    "Noah Amsel, David Persson, Christopher Musco and Robert M. Gower",
    "The Polar Express: Optimal Matrix Sign Methods and Their Application to the Muon "
    "Algorithm",
    2025,
    "2505.16932",
    headlines={
        "optimal": "Polar Express minimises the error in the worst case, and so "
        "converges as fast as possible both in early iterations and at last.",
        "bfloat16": "Polar Express is practical in bfloat16.",
        "muon": "In Muon, Polar Express lowers the validation loss of GPT-2 at every "
        "learning rate, compared with other iterations.",
    },
)
MUON = Paper(
    "Jordan et al. 2024",
    "Keller Jordan, Yuchen Jin, Vlado Boza, Jiacheng You, Franz Cesista, Laker "
    "Newhouse and Jeremy Bernstein",
    "Muon: An optimizer for hidden layers in neural networks",
    2024,
    "",
    headlines={"adamw": "Muon trains language models faster than AdamW."},
    smallest={"validation loss": VALIDATION_LOSS},
)
NORMUON = Paper(
    "Li et al. 2025",
    "Zichong Li, Liming Liu, Chen Liang, Weizhu Chen and Tuo Zhao",
    "NorMuon: Making Muon more efficient and scalable",
    2025,
    "2510.05491",
    headlines={
        "adam": "NorMuon consistently outperforms Adam, with 22 % better training "
        "efficiency at 1.1 billion parameters.",
        "muon": "NorMuon consistently outperforms Muon, with 11 % better training "
        "efficiency at 1.1 billion parameters.",
    },
    smallest={"validation loss": VALIDATION_LOSS},
)
POLARGRAD = Paper(
    "Lau et al. 2025",
    "Tim Tsz-Kit Lau, Qi Long and Weijie Su",
    "PolarGrad: A Class of Matrix-Gradient Optimizers from a Unifying Preconditioning "
    "Perspective",
    2025,
    "2505.21799",
    headlines={
        "adam": "PolarGrad outperforms Adam on matrix optimization problems and in "
        "pretraining of language models.",
        "muon": "PolarGrad outperforms Muon on matrix optimization problems and in "
        "pretraining of language models.",
    },
    smallest={"validation loss": VALIDATION_LOSS, "excess loss": EXCESS_LOSS},
)
SCION = Paper(
    "Pethick et al. 2025",
    "Thomas Pethick, Wanyun Xie, Kimon Antonakopoulos, Zhenyu Zhu, Antonio "
    "Silveti-Falls and Volkan Cevher",
    "Training Deep Learning Models with Norm-Constrained LMOs",
    2025,
    "2502.07529",
    headlines={
        "speed": "Scion trains nanoGPT significantly faster, without any reliance on "
        "Adam.",
        "memory": "Scion needs one set of weights and one set of gradients only.",
        "transfer": "Hyperparameters of Scion transfer across model sizes.",
    },
    smallest={"validation loss": VALIDATION_LOSS},
)


def resized(smallest: Smallest, before: str, *earlier: tuple[str, str]) -> dict:
    """Return `written` and `history` of a claim that now asks for `smallest`.

    before: the threshold until then; earlier: older entries of the history.
    """
    what = (
        f"the threshold {before} became {smallest.size:g} ({smallest.unit}), the "
        "smallest effect of interest, in the direction of the claim, as for all "
        "claims about this quantity"
    )
    return {"written": "after", "history": (*earlier, ("2026-11-30", what))}


OPTIMIZERS = {  # presets of symlab.symopt and their variants
    "adamw": Arm("AdamW", ORANGE, "s"),
    "adamw_one_rate": Arm("AdamW, one rate", ORANGE, "D", "--"),
    "muon": Arm("Muon", GREEN, "o"),
    "muon_one_rate": Arm("Muon, one rate", GREEN, "P", "--"),
    "normuon": Arm("NorMuon", BLUE, "^"),
    "polargrad": Arm("PolarGrad", BLUE, "v", "--"),
    "ssd": Arm("SSD", SKY, "X"),
    "kaon": Arm("Kaon", PINK, "X"),
    "aro": Arm("ARO", PINK, "d", "--"),
    "symmetric": Arm("symmetric", BLACK, "p"),
    "scion": Arm("Scion", BLACK, "h", "--"),
    "freon_1_4": Arm("Freon 1/4", SKY, "<", "--"),
    "freon_1_2": Arm("Freon 1/2", SKY, "o"),
    "freon_2_3": Arm("Freon 2/3", PINK, "^"),
    "freon_5_6": Arm("Freon 5/6", PINK, ">", "--"),
}
RULES = {  # update rules of one block: tables, heads, routers
    "adamw": Arm("AdamW", ORANGE, "s"),
    "row_norm": Arm("row-norm", BLUE, "^"),
    "uncentred": Arm("row-norm, uncentred", SKY, "v"),
    "left_polar": Arm("left polar", GREEN, "o"),
    "hybrid": Arm("hybrid", PINK, "D"),
    "frozen": Arm("frozen", BLACK, "*"),
}

# --- balanced mixtures of experts ----------------------------------------------------

SWITCH = Paper(
    "Fedus et al. 2022",
    "William Fedus, Barret Zoph and Noam Shazeer",
    "Switch Transformers: Scaling to Trillion Parameter Models with Simple and "
    "Efficient Sparsity",
    2022,
    "2101.03961",
    headlines={
        "balance": "An auxiliary load-balancing loss spreads tokens evenly over the "
        "experts.",
        "speed": "Sparse models pretrain up to seven times as fast as dense ones with "
        "the same computational resources.",
    },
    smallest={"load CV": LOAD_CV},
)
ST_MOE = Paper(
    "Zoph et al. 2022",
    "Barret Zoph, Irwan Bello, Sameer Kumar, Nan Du, Yanping Huang, Jeff Dean, Noam "
    "Shazeer and William Fedus",
    "ST-MoE: Designing Stable and Transferable Sparse Expert Models",
    2022,
    "2202.08906",
    headlines={
        "z-loss": "The router z-loss makes training stable without a loss of quality.",
    },
    smallest={"load CV": LOAD_CV},
)
PHI = Paper(
    "Chen et al. 2026",
    "Lizhang Chen, Jonathan Li, Qi Wang, Runlong Liao, Shuozhe Li, Chen Liang, Ni Lao "
    "and Qiang Liu",
    "φ-Balancing for Mixture-of-Experts Training",
    2026,
    "2605.15403",
    headlines={
        "balance": "Minimising a strictly convex potential of the expected routing "
        "distribution balances the use of experts.",
        "baselines": "Phi-balancing consistently outperforms Switch-style and "
        "loss-free balancing, with more stable and effective use of experts.",
    },
    smallest={"load CV": LOAD_CV},
)

# --- group-relative advantages -------------------------------------------------------

PASS_AT_K = Smallest(
    0.01,
    "fraction of prompts",
    "One prompt in a hundred is the least gain for which one would change an "
    "estimator; pass@k is published in per cent.",
)
ENTROPY = Smallest(
    1.1,
    "ratio of entropies",
    "The curves of figure 3 of Yu et al. end at 0.42 and 6.6 times GRPO's entropy; a "
    "tenth would hardly be seen there.",
)
BATCH_CORRECT = Smallest(
    0.01,
    "fraction of rollouts",
    "One rollout in a hundred would just be seen in figure 5 of Yu et al.",
)
AGRAE = Paper(
    "Yu et al. 2026",
    "Zhiqi Yu, Zhangquan Chen, Mengting Liu, Heye Zhang and Liangqiong Qu",
    "Unveiling Implicit Advantage Symmetry: Why GRPO Struggles with Exploration and "
    "Difficulty Adaptation",
    2026,
    "2602.05548",
    headlines={
        "unsampled": "The strict symmetry of weights between correct and incorrect "
        "trajectories leaves the logits of unsampled actions unchanged, which hinders "
        "exploration.",
        "medium": "Group-relative advantages implicitly prioritise prompts of medium "
        "difficulty, at every stage of training.",
        "shrinkage": "GRPO raises pass@1 and lowers pass@256 below the base model's.",
        "suppression": "Suppressing the advantages of correct trajectories encourages "
        "exploration.",
        "curriculum": "Learning is most efficient when simple prompts are prioritised "
        "first and complex ones later.",
        "a-grae": "A-GRAE consistently improves GRPO.",
        "variants": "A-GRAE consistently improves GRPO's variants (DAPO, Dr. GRPO), "
        "and does so in multimodal models.",
    },
    smallest={
        "pass@k": PASS_AT_K,
        "entropy": ENTROPY,
        "batch-correct rate": BATCH_CORRECT,
    },
)
ZHU = Paper(
    "Zhu et al. 2025",
    "Xinyu Zhu, Mengzhou Xia, Zhepei Wei, Wei-Lin Chen, Danqi Chen and Yu Meng",
    "The Surprising Effectiveness of Negative Reinforcement in LLM Reasoning",
    2025,
    "2506.01347",
    headlines={
        "negative alone": "Training on incorrect samples alone improves on the base "
        "model at every k of pass@k up to 256.",
        "negative and grpo": "Training on incorrect samples alone often matches or "
        "surpasses PPO and GRPO.",
        "positive alone": "Reinforcing correct samples alone raises pass@1 and lowers "
        "pass@k at larger k, as diversity is lost.",
        "weighted": "W-REINFORCE, which gives incorrect samples more weight, "
        "consistently improves pass@k.",
    },
    smallest={"pass@k": PASS_AT_K, "entropy": ENTROPY},
)
CLIPPING = Paper(
    "Park et al. 2025",
    "Jaesung R. Park, Junsu Kim, Gyeongman Kim, Jinyoung Jo, Sean Choi, Jaewoong Cho "
    "and Ernest K. Ryu",
    "Clip-Low Increases Entropy and Clip-High Decreases Entropy in Reinforcement "
    "Learning of Large Language Models",
    2025,
    "2509.26114",
    headlines={
        "low": "The lower clip raises the entropy of the policy.",
        "high": "The upper clip lowers the entropy of the policy.",
        "random": "With both clips at their usual size the upper one dominates, so "
        "that entropy falls even when rewards are random.",
        "control": "A tighter lower clip raises entropy and prevents its collapse.",
    },
    smallest={"entropy": ENTROPY},
)

ADVANTAGES = {  # estimators of symlab.rlvr, and the policy before training
    "base": Arm("base policy", "0.5", "x", ":"),
    "grpo": Arm("GRPO", BLACK, "o"),
    "dr_grpo": Arm("Dr. GRPO", SKY, "p"),
    "dapo": Arm("DAPO", SKY, "h", "--"),
    "positive_dominant": Arm("Positive-Dominant", ORANGE, "^", "--"),
    "negative_dominant": Arm("Negative-Dominant", BLUE, "v", "-."),
    "hard": Arm("Hard", ORANGE, "D"),
    "easy": Arm("Easy", BLUE, "P"),
    "ddas": Arm("DDAS", GREEN, "X", "--"),
    "ass": Arm("ASS", GREEN, "D"),
    "agrae": Arm("A-GRAE", PINK, "s"),
    "agrae_released": Arm("A-GRAE, released", PINK, "X", "--"),
    "w_reinforce": Arm("W-REINFORCE", SKY, "D", ":"),
    "psr": Arm("PSR", ORANGE, "<", ":"),
    "nsr": Arm("NSR", BLUE, ">", ":"),
}

# --- recurrent networks: motion, and equilibria -----------------------------------

KELLER = Paper(
    "Keller 2025",
    "T. Anderson Keller",
    "Flow Equivariant Recurrent Neural Networks",
    2025,
    "2507.14793",
    headlines={
        "ordinary": "Standard RNNs are generally not flow equivariant: their hidden "
        "states do not transform in a structured manner when the stimulus moves.",
        "lifted": "RNNs can be made equivariant to flows, by hidden states that flow "
        "with every velocity of a set.",
        "training speed": "Flow equivariant models significantly outperform "
        "non-equivariant ones in training speed.",
        "length": "Flow equivariant models significantly outperform non-equivariant "
        "ones in length generalization.",
        "velocity": "Flow equivariant models significantly outperform non-equivariant "
        "ones in velocity generalization.",
        "classification": "Flow equivariant models outperform non-equivariant ones "
        "also in sequence classification.",
    },
    smallest={
        "error": Smallest(
            1.25,
            "ratio of mean square errors",
            "A quarter is the finest difference that one reads off curves of errors "
            "which span a decade.",
        ),
    },
)
LABORIEUX = Paper(
    "Laborieux & Zenke 2024",
    "Axel Laborieux and Friedemann Zenke",
    "Improving equilibrium propagation without weight symmetry through Jacobian "
    "homeostasis",
    2024,
    "2309.02214",
    headlines={
        "finite nudge": "In complex-differentiable networks without weight symmetry a "
        "finite nudge is no problem, since a Cauchy integral gives exact derivatives.",
        "asymmetry": "Weight asymmetry biases equilibrium propagation: its error "
        "vectors align poorly with those of backpropagation.",
        "homeostasis": "A homeostatic loss that penalises functional asymmetries of "
        "the Jacobian at the fixed point mitigates the poor alignment.",
        "complex tasks": "The homeostatic loss dramatically improves the ability of "
        "networks to solve complex tasks such as ImageNet 32x32.",
    },
    smallest={
        "cosine": Smallest(
            0.05,
            "of the cosine",
            "A twentieth is the finest difference that one reads off an axis from 0 to "
            "1.",
        ),
    },
)
