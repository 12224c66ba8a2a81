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
            "A tenth of the 50 neurons counts, as a few are close to each other by "
            "chance.",
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
            "This is a tenth of the 1.6 nats by which our models are better than the "
            "frequencies of single characters.",
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

LAU = Paper(
    "Lau & Su 2026",
    "Tim Tsz-Kit Lau and Weijie Su",
    "Symmetry-Compatible Principle for Optimizer Design: Embeddings, LM Heads, SwiGLU "
    "MLPs, and MoE Routers",
    2026,
    "2605.18106",
)
FREON = Paper(
    "Shumaylov et al. 2026",
    "Zakhar Shumaylov, Nathaël Da Costa, Peter Zaika, Bálint Mucsányi, Alex Massucco, "
    "Yoav Gelberg, Carola-Bibiane Schönlieb, Yarin Gal and Philipp Hennig",
    "Muon is Not That Special: Random or Inverted Spectra Work Just as Well",
    2026,
    "2605.11181",
)
ARO = Paper(
    "Gong et al. 2026",
    "Wenbo Gong, Javier Zazo, Qijun Luo, Puqian Wang, James Hensman and Chao Ma",
    "ARO: A New Lens On Matrix Optimization For Large Models",
    2026,
    "2602.09006",
)
AMSEL = Paper(
    "Amsel et al. 2025",
    "Noah Amsel, David Persson, Christopher Musco and Robert M. Gower",
    "The Polar Express: Optimal Matrix Sign Methods and Their Application to the Muon "
    "Algorithm",
    2025,
    "2505.16932",
)

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
)
ST_MOE = Paper(
    "Zoph et al. 2022",
    "Barret Zoph, Irwan Bello, Sameer Kumar, Nan Du, Yanping Huang, Jeff Dean, Noam "
    "Shazeer and William Fedus",
    "ST-MoE: Designing Stable and Transferable Sparse Expert Models",
    2022,
    "2202.08906",
)
PHI = Paper(
    "Chen et al. 2026",
    "Lizhang Chen, Jonathan Li, Qi Wang, Runlong Liao, Shuozhe Li, Chen Liang, Ni Lao "
    "and Qiang Liu",
    "φ-Balancing for Mixture-of-Experts Training",
    2026,
    "2605.15403",
)

# --- group-relative advantages -------------------------------------------------------

AGRAE = Paper(
    "Yu et al. 2026",
    "Yu et al.",
    "Unveiling Implicit Advantage Symmetry: Why GRPO Struggles with Exploration and "
    "Difficulty Adaptation",
    2026,
    "2602.05548",
)
ZHU = Paper(
    "Zhu et al. 2025",
    "Zhu et al.",
    "The Surprising Effectiveness of Negative Reinforcement in LLM Reasoning",
    2025,
    "2506.01347",
)
CLIPPING = Paper(
    "Park et al. 2025",
    "Jaesung R. Park, Junsu Kim, Gyeongman Kim, Jinyoung Jo, Sean Choi, Jaewoong Cho "
    "and Ernest K. Ryu",
    "Clip-Low Increases Entropy and Clip-High Decreases Entropy in Reinforcement "
    "Learning of Large Language Models",
    2025,
    "2509.26114",
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
