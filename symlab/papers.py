"""The papers that the experiments test, and the look of the arms of each.

An arm is a method or setting that an experiment compares. It has the same name, colour
and marker in every figure of its paper. The colours are those of Okabe and Ito, which
colour-blind readers can distinguish.
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
            "of a rank of 200",
            "A tenth of the full rank of 200 is the finest difference that one sees "
            "in figure 3 of Ziyin (2024).",
        ),
        "zero weights": Smallest(
            0.05,
            "of the weights",
            "One weight in twenty is the finest difference that one sees in figure 3 "
            "of Ziyin (2024).",
        ),
        "copied neurons": Smallest(
            0.25,
            "of the neurons",
            "Blocks that one sees in a correlation matrix, as in figure 3 of Ziyin "
            "(2024), need a large part of the neurons, which is taken as a quarter.",
        ),
        "rare copies": Smallest(
            0.05,
            "of the neurons",
            "Ziyin (2024) says that copies are rare without weight decay, which is "
            "taken as fewer than one neuron in twenty.",
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
            "sees in figure 4 of Ziyin (2024).",
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
            "of a rank of 16",
            "Kobayashi et al. (2024) call the reduction significant, which is taken as "
            "half of the full rank of 16 of a head.",
        ),
        "loss": Smallest(
            0.16,
            "nats per character",
            "The threshold is a tenth of 1.6 nats, by which the loss of our models is "
            "below that of predicting each character by its overall frequency.",
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
    "A hundredth of a nat is one per cent of perplexity; the smallest gap between the "
    "optimizer of Lau & Su and AdamW, among the four families of models in their "
    "paper, is 0.009 nats.",
)
EXCESS_LOSS = Smallest(
    1.1,
    "ratio of excess losses",
    "Nobody would change an optimizer for less than a tenth of the excess loss.",
)
LOAD_CV = Smallest(
    1.25,
    "ratio of load CVs",
    "The load CV under one and the same rule differs by about a tenth between seeds; a "
    "difference of a fifth is seen at once in a figure.",
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
        "scale": "The factor of the nuclear norm is necessary for the convergence of "
        "optimizers by polar factors on strongly convex, smooth problems with "
        "deterministic gradients (the authors' README; at a constant rate, as we "
        "read it).",
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
    """Return the fields `written` and `history` of a claim whose threshold was changed.

    smallest: the smallest effect of interest, which is the new threshold.
    before: the old threshold, as text.
    earlier: older entries of the history, (date, text) each.
    """
    what = (
        f"the threshold {before} became {smallest.size:g} ({smallest.unit}), the "
        "smallest effect of interest, in the direction of the claim, as for all "
        "claims about this quantity"
    )
    return {"written": "after", "history": (*earlier, ("2026-11-30", what))}


OPTIMIZERS = {  # presets of symlab.symopt and their variants
    "adamw": Arm("AdamW", ORANGE, "s"),
    "adamw_one_rate": Arm("AdamW, one rate", ORANGE, "D", ":"),
    "muon": Arm("Muon", GREEN, "o"),
    "muon_one_rate": Arm("Muon, one rate", GREEN, "P", ":"),
    "normuon": Arm("NorMuon", BLUE, "^"),
    "polargrad": Arm("PolarGrad", SKY, "v", "-."),
    "ssd": Arm("SSD", SKY, "X"),
    "kaon": Arm("Kaon", PINK, "X"),
    "aro": Arm("ARO", PINK, "d", ":"),
    "symmetric": Arm("symmetric", BLACK, "p"),
    "scion": Arm("Scion", BLACK, "h", ":"),
    "freon_1_4": Arm("Freon 1/4", SKY, "<", ":"),
    "freon_1_2": Arm("Freon 1/2", SKY, "o"),
    "freon_2_3": Arm("Freon 2/3", BLUE, "p", "-."),
    "freon_5_6": Arm("Freon 5/6", BLUE, ">", ":"),
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
    "The pass@k of a prompt is the chance that at least one of k answers is right. One "
    "prompt in a hundred is the least gain for which one would change the method; "
    "pass@k is published in per cent.",
)
ENTROPY = Smallest(
    1.1,
    "ratio of entropies",
    "A difference of less than a tenth would hardly be seen in figure 3 of arXiv "
    "2602.05548, where Positive-Dominant and Negative-Dominant end at 0.42 and 6.6 "
    "times GRPO's entropy.",
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
    "dapo": Arm("DAPO", SKY, "h", ":"),
    "positive_dominant": Arm("Positive-Dominant", ORANGE, "^", ":"),
    "negative_dominant": Arm("Negative-Dominant", BLUE, "v", "-."),
    "hard": Arm("Hard", ORANGE, "D"),
    "easy": Arm("Easy", BLUE, "P"),
    "ddas": Arm("DDAS", GREEN, "X", "-."),
    "ass": Arm("ASS", SKY, "o"),
    "agrae": Arm("A-GRAE", PINK, "s"),
    "agrae_released": Arm("A-GRAE, released", PINK, "X", ":"),
    "w_reinforce": Arm("W-REINFORCE", SKY, "D", (0, (4, 1, 1, 1, 1, 1))),
    "psr": Arm("PSR", GREEN, "<"),
    "nsr": Arm("NSR", SKY, ">", "--"),
}
IN_WORDS = {  # those of them that statements name, with what they do
    "positive_dominant": "Positive-Dominant (GRPO with the advantages of right "
    "rollouts times 10)",
    "negative_dominant": "Negative-Dominant (GRPO with the advantages of right "
    "rollouts divided by 10)",
    "agrae": "A-GRAE (GRPO that weighs hard prompts and right rollouts more as rewards "
    "rise)",
    "w_reinforce": "W-REINFORCE (advantages of 0.1 for right and -1 for wrong "
    "rollouts)",
}

# --- symmetric data and what networks make of it -------------------------------------

PERMUTATIONS = Paper(
    "Giapitzakis et al. 2025",
    "George Giapitzakis, Artur Back de Luca and Kimon Fountoulakis",
    "Exact Learning of Permutations for Nonzero Binary Inputs with Logarithmic "
    "Training Size and Quadratic Ensemble Complexity",
    2025,
    "2502.16763",
    headlines={
        "exact": "An ensemble of wide two-layer networks, trained on only the k basis "
        "vectors, learns any permutation of length k exactly, with arbitrarily high "
        "probability.",
        "signs": "The output converges to a Gaussian process whose mean captures the "
        "permutation by its signs.",
        "one input": "The number of networks that are averaged grows as k log k for a "
        "single test input.",
        "all inputs": "The number of networks that are averaged grows as k^2 for all "
        "test inputs at once.",
    },
    smallest={
        "networks": Smallest(
            1.1,
            "times the number of networks",
            "The number of networks at which an average first is right varies by about "
            "a fifth from run to run, so that one published run at each of 26 lengths "
            "fixes the mean to a tenth.",
        ),
        "exponent": Smallest(
            0.1,
            "exponent",
            "Laws of growth whose exponents differ by a tenth differ by less than a "
            "factor of two over the lengths 2 to 1024.",
        ),
        "share": Smallest(
            0.05,
            "of the inputs or of the value",
            "One in twenty is the finest difference that one sees in the figure.",
        ),
    },
)
MEMORIES = Paper(
    "Liu & Lu 2026",
    "Linyu Liu and Pinyan Lu",
    "Unveiling Memorization-Generalization Coexistence: A Case Study on Arithmetic "
    "Tasks with Label Noise",
    2026,
    "2605.18022",
    headlines={
        "larger": "Larger models tend to generalise better under appropriate "
        "optimisation and model configurations.",
        "noise first": "Noisy labels are memorised faster than clean data.",
        "suppressed": "Networks form a structure that generalises, whose expression in "
        "the output is suppressed by the need to fit noisy labels.",
        "extraction": "Even with 80 % label noise, extracting this structure with "
        "frequency-based methods gives nearly perfect test accuracy.",
        "partition": "A task-agnostic partition of the network improves "
        "generalisation, but less than extraction by frequency.",
    },
    smallest={
        "accuracy": Smallest(
            0.05,
            "of the pairs",
            "One pair in twenty is the finest difference of accuracies that one sees "
            "in a figure.",
        ),
        "chance": Smallest(
            0.1,
            "of the pairs",
            "Chance is 0.03 for sums modulo 31: a tenth is little above it.",
        ),
    },
)

# --- matching and merging of networks ------------------------------------------------

REBASIN = Paper(
    "Ainsworth et al. 2023",
    "Samuel K. Ainsworth, Jonathan Hayase and Siddhartha Srinivasa",
    "Git Re-Basin: Merging Models modulo Permutation Symmetries",
    2023,
    "2209.04836",
    headlines={
        "basin": "Loss landscapes often contain (nearly) a single basin after all "
        "permutation symmetries of hidden units are accounted for.",
        "width": "Wider networks are easier to connect linearly after matching.",
    },
    smallest={
        "barrier": Smallest(
            0.1,
            "nats",
            "A tenth of a nat is about the whole test loss of one network on the "
            "digits, and a sixth of the barrier that unmatched networks have.",
        ),
    },
)
ITO = Paper(
    "Ito et al. 2025",
    "Akira Ito, Masanori Yamada and Atsutoshi Kumagai",
    "Analysis of Linear Mode Connectivity via Permutation-Based Weight Matching: With "
    "Insights into Other Permutation Search Methods",
    2025,
    "2402.04051",
    headlines={
        "distance": "Permutations found by weight matching do not significantly reduce "
        "the L2 distance of two models, and linear mode connectivity is not merely due "
        "to the reduction of the distance.",
        "values": "Permutations can change the directions of the singular vectors, but "
        "not the singular values, of the weight matrices.",
        "directions": "Permutations found by weight matching primarily align the "
        "directions of singular vectors with large singular values.",
        "activations": "The principle of activation matching is likely the same as "
        "that of weight matching.",
        "three": "Weight matching can be more advantageous than the straight-through "
        "estimator in connecting three or more models.",
    },
    smallest={
        "barrier": REBASIN.smallest["barrier"],
        "distance": Smallest(
            0.25,
            "of the distance",
            "A barrier that grows as the square of the distance falls by less than "
            "half where the distance falls by less than a quarter.",
        ),
        "alignment": Smallest(
            0.1,
            "cosine",
            "Random vectors have an alignment of a few hundredths; a tenth of full "
            "agreement is the least that one could build an explanation on.",
        ),
    },
)
LIM = Paper(
    "Lim et al. 2024",
    "Derek Lim, Theo Putterman, Robin Walters, Haggai Maron and Stefanie Jegelka",
    "The Empirical Impact of Neural Parameter Symmetries, or Lack Thereof",
    2024,
    "2405.20231",
    headlines={
        "connectivity": "Networks without parameter symmetries are linearly mode "
        "connected without any alignment of their weight spaces.",
    },
    smallest={"barrier": REBASIN.smallest["barrier"]},
)
PLEAS = Paper(
    "Nasery et al. 2025",
    "Anshul Nasery, Jonathan Hayase, Pang Wei Koh and Sewoong Oh",
    "PLeaS: Merging Models with Permutations and Least Squares",
    2025,
    "2407.02447",
    headlines={
        "beyond permutation": "Layer-wise least squares after a permutation merge "
        "models better than the permutation alone.",
        "permutation": "Both steps are needed: permutation matches features, and least "
        "squares then preserve them.",
        "different tasks": "Models that were trained on different tasks can be merged "
        "at the size of one of them.",
    },
    smallest={
        "accuracy": Smallest(
            0.02,
            "of the test images",
            "Two images in a hundred are eight of the 397 test digits, or twice the "
            "standard error of an accuracy of 0.96 on them.",
        ),
    },
)

MATCHES = {  # how the units of one network are brought into the order of another's
    "none": Arm("as trained", BLACK, "v"),
    "weights": Arm("weights (WM)", BLUE, "o"),
    "activations": Arm("activations (AM)", GREEN, "^"),
    "ste_a": Arm("STE from A", PINK, "D", "-."),
    "ste_b": Arm("STE from B", ORANGE, "s"),
}

# --- exact and approximate symmetry of functions --------------------------------------

INVARIANCE = Smallest(
    0.1,
    "of the output",
    "A network whose outputs change by a tenth of their size is not invariant in any "
    "practical sense.",
)
PUNY = Paper(
    "Puny et al. 2022",
    "Omri Puny, Matan Atzmon, Heli Ben-Hamu, Ishan Misra, Aditya Grover, Edward J. "
    "Smith and Yaron Lipman",
    "Frame Averaging for Invariant and Equivariant Network Design",
    2022,
    "2110.03336",
    headlines={
        "exact": "Averaging over a frame guarantees exact invariance or equivariance.",
        "cheap": "Averaging over a frame is often much simpler to compute than over "
        "the entire group, as a frame is a small subset of its elements.",
        "expressive": "Averaging over frames preserves the expressive power of the "
        "network that is averaged, which gives universal graph networks.",
        "graphs": "Graph networks averaged over frames separate graphs beyond the "
        "Weisfeiler-Leman test of order 2.",
        "results": "Averaging over frames is state of the art in estimating normals of "
        "point clouds and in predicting the dynamics of bodies.",
    },
    smallest={
        "invariance": INVARIANCE,
        "accuracy": Smallest(
            0.02,
            "of the test clouds",
            "One test cloud in fifty is a difference that decides which method one "
            "uses.",
        ),
    },
)
DYM = Paper(
    "Dym et al. 2024",
    "Nadav Dym, Hannah Lawrence and Jonathan W. Siegel",
    "Equivariant Frames and the Impossibility of Continuous Canonicalization",
    2024,
    "2402.16077",
    headlines={
        "jump": "Unweighted averaging over frames can turn a smooth function without "
        "symmetry into a discontinuous function with symmetry.",
        "impossible": "For commonly used groups no frame that can be computed "
        "efficiently preserves continuity.",
        "weighted": "Weighted frames preserve continuity.",
    },
    smallest={
        "jump": Smallest(
            0.01,
            "of the output",
            "A change of one per cent of the output between inputs that agree to seven "
            "digits is no rounding error.",
        ),
    },
)
PER = Paper(
    "Kim et al. 2023",
    "Hyunsu Kim, Hyungi Lee, Hongseok Yang and Juho Lee",
    "Regularizing Towards Soft Equivariance Under Mixed Symmetries",
    2023,
    "2306.00356",
    headlines={
        "accuracy": "Regularizers, one for each type of symmetry, whose strengths are "
        "tuned during training, achieve better accuracy than prior approaches under "
        "mixed approximate symmetries.",
        "discovery": "The tuned strengths discover the levels of approximation of the "
        "symmetries correctly and without explicit supervision.",
    },
    smallest={
        "error": Smallest(
            1.25,
            "times the error",
            "An error that is lower by a fifth is what a quarter more samples would "
            "give, and would decide which method one uses.",
        ),
        "strength": Smallest(
            2.0,
            "times the strength",
            "Strengths of penalties are tuned in factors of two or more.",
        ),
    },
)

FRAMES = {  # ways to make a network invariant
    "plain": Arm("plain network", BLACK, "v", ":"),
    "augmented": Arm("trained on rotations", ORANGE, "s", "-."),
    "frame": Arm("frame average", BLUE, "o"),
    "group": Arm("mean over group", GREEN, "^", "-."),
    "message": Arm("message passing", PINK, "D"),
}
SOFT = {  # ways to use a symmetry that holds approximately
    "none": Arm("no symmetry", BLACK, "v", ":"),
    "hard": Arm("hard symmetry", ORANGE, "s"),
    "fixed": Arm("equal penalties", PINK, "D", ":"),
    "per": Arm("tuned from 1", BLUE, "o"),
    "ideal": Arm("ideal penalties", GREEN, "^", "-."),
}

# --- rates of descent and charges of symmetries ---------------------------------------

XIONG = Paper(
    "Xiong et al. 2024",
    "Nuoya Xiong, Lijun Ding and Simon S. Du",
    "How Over-Parameterization Slows Down Gradient Descent in Matrix Sensing: The "
    "Curses of Symmetry and Initialization",
    2024,
    "2310.01769",
    headlines={
        "symmetric": "With k > r the error of gradient descent on X X^T falls no "
        "faster than 1/T^2.",
        "exact": "With k = r gradient descent converges exponentially.",
        "asymmetric": "With k > r gradient descent on F G^T converges as exp(-alpha^2 "
        "T), with alpha the scale of the initialisation.",
        "speed-up": "The asymmetric parameterisation speeds up the symmetric problem "
        "from 1/T^2 to linear convergence.",
        "one step": "A change of one step of gradient descent makes the rate "
        "independent of alpha.",
        "recovers": "The changed method recovers the rate of k = r.",
        "unavoidable": "The dependence of the rate on alpha is unavoidable in the "
        "worst case.",
    },
    smallest={
        "rate": Smallest(
            1.1,
            "times",
            "A tenth of a rate costs or saves a tenth of the steps, which decides "
            "nothing about a method.",
        ),
        "exponent": Smallest(
            0.1,
            "of the exponent",
            "Over one decade, 0.1 of an exponent is a factor of 1.26, the finest "
            "difference that one sees in a double logarithmic figure.",
        ),
    },
)

FACTORS = {  # parameterisations of a low-rank matrix in symlab's matrix sensing
    "symmetric": Arm("$XX^\\top$, $k=4$", ORANGE, "s"),
    "wide": Arm("$XX^\\top$, $k=8$", PINK, "D"),
    "exact": Arm("$XX^\\top$, $k=r=2$", GREEN, "^"),
    "asymmetric": Arm("$FG^\\top$, $k=4$", BLUE, "o"),
    "step": Arm("$FG^\\top$, $k=4$, one step", SKY, "v"),
}
TANAKA = Paper(
    "Tanaka & Kunin 2021",
    "Hidenori Tanaka and Daniel Kunin",
    "Noether's Learning Dynamics: Role of Symmetry Breaking in Neural Networks",
    2021,
    "2105.02716",
    headlines={
        "charge": "The Noether charge of a symmetry that the kinetic energy breaks "
        "moves by Noether's learning dynamics, which predicts the norms of normalised "
        "weights.",
        "adaptive": "With normalisation layers SGD has an implicit adaptive "
        "optimisation: |w|^4 is an exponential average of squared gradients, with the "
        "prefactor of equation 17.",
        "rmsprop": "The learning dynamics that normalisation layers induce are those "
        "of RMSProp.",
        "stability": "Kinetic symmetry breaking is behind the efficiency and stability "
        "of networks with normalisation: learning breaks when norms are frozen.",
    },
    smallest={
        "norm": Smallest(
            0.1,
            "of |w|^2",
            "An error of a tenth in |w|^2 is a tenth of the effective learning rate "
            "lr/|w|^2, which decides nothing about training.",
        ),
        "decades": Smallest(
            0.5,
            "decades of learning rate",
            "Learning rates are searched in factors of about three.",
        ),
    },
)
NORM_RULES = {  # what happens to the norms of normalised weights; no weight decay
    "free": Arm("SGD", BLUE, "o"),
    "fixed": Arm("SGD, frozen norms", ORANGE, "s"),
    "sphere": Arm("AdaGrad-norm on the sphere", GREEN, "^"),
}

# --- recurrent networks: motion and equilibria ---------------------------------------

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

# --- public runs ---------------------------------------------------------------------

JORDAN = Paper(
    "Jordan 2026",
    "Keller Jordan and contributors",
    "Modded-NanoGPT Optimization Benchmark (github.com/KellerJordan/modded-nanogpt, "
    "records/track_3_optimization)",
    2026,
    "",
    headlines={
        "rule": "The rule assumes that final losses of one submission have a standard "
        "deviation of 0.0013 nats, and takes a mean loss for lower than 3.28 by error "
        "with a probability of less than 0.001.",
        "exchange": "A run that is shortened by 100 steps ends with a loss that is "
        "0.0045 nats higher.",
        "early": "The validation loss at step 1000 does not strongly correlate with "
        "the final loss.",
        "speedup": "The record is 20.8 % faster, in steps, than a well-tuned Muon.",
    },
    smallest={
        "deviation": Smallest(
            1.25,
            "ratio of standard deviations",
            "A standard deviation a quarter above the assumed one raises the error of "
            "the benchmark's rule from 0.001 to 0.007: of 46 submissions it would "
            "accept 0.3 by chance, if all of their means were at the target.",
        ),
        "slope": Smallest(
            0.001,
            "nats per 100 steps",
            "The median difference between neighbouring records is 30 steps, for which "
            "0.001 nats per 100 steps make 0.0003 nats: the standard error of the mean "
            "of 20 runs.",
        ),
        "speedup": Smallest(
            1.2,
            "ratio of steps",
            "The benchmark states a ratio of 1.208, of which 1.2 is the round number.",
        ),
    },
)

# --- systems without a symmetry, or with one in place of parameters ------------------

RANDOM_FEATURES = Paper(
    "Liu et al. 2022",
    "Fanghui Liu, Johan A. K. Suykens and Volkan Cevher",
    "On the Double Descent of Random Features Models Trained with SGD",
    2022,
    "2110.06910",
    headlines={
        "double descent": "With SGD, random features regression still generalises well "
        "when it interpolates, and its error descends twice.",
        "variance": "The variance is unimodal in the number of features.",
        "bias": "The bias decreases monotonically with the number of features.",
        "no loss": "SGD with constant steps loses no rate of convergence against the "
        "exact minimum-norm interpolator.",
    },
    smallest={
        "error": Smallest(
            1.25,
            "times the error",
            "A factor of 1.25 in the test error is about what a quarter more or fewer "
            "samples make.",
        ),
    },
)
MEI = Paper(
    "Mei & Montanari 2022",
    "Song Mei and Andrea Montanari",
    "The generalization error of random features regression: Precise asymptotics and "
    "double descent curve",
    2022,
    "1908.05355",
)
ALBANESE = Paper(
    "Albanese et al. 2021",
    "Linda Albanese, Francesco Alemanno, Andrea Alessandrelli and Adriano Barra",
    "Replica symmetry breaking in dense neural networks",
    2021,
    "2111.12997",
    headlines={
        "glass": "Breaking of the replica symmetry stabilises the spin-glass phase of "
        "dense networks, other than in networks of pairwise interactions.",
        "storage": "The maximal storage capacity follows from an analysis of the "
        "ground state in the high-storage regime of Baldi and Venkatesh.",
    },
)
KROTOV = Paper(
    "Krotov & Hopfield 2016",
    "Dmitry Krotov and John J. Hopfield",
    "Dense Associative Memory for Pattern Recognition",
    2016,
    "1606.01164",
    headlines={
        "power": "The number of memories that are retrieved reliably grows as the "
        "power P - 1 of the number of neurons, for interactions of P of them.",
        "error": "The probability that a bit is unstable is that of a normal noise of "
        "variance K (2P - 3)!! N^(P-1) above a signal N^(P-1).",
    },
    smallest={
        "exact": Smallest(
            0.05,
            "of the error",
            "The errors of a run are counted on thousands of bits that depend on each "
            "other, and the mean over runs is good to a few per cent.",
        ),
        "law": Smallest(
            0.25,
            "of the error",
            "A difference of 25 % is what a load that is larger by 7 % makes at a load "
            "of 0.15, and corrections for finite size are of that order.",
        ),
        "exponent": Smallest(
            0.1,
            "exponent",
            "An exponent that is off by a tenth changes the number of memories by less "
            "than a quarter over the sizes that are compared.",
        ),
        "bits": Smallest(
            0.05,
            "of the bits",
            "A memory with one wrong bit in twenty is still recognised.",
        ),
    },
)
BERMEITINGER = Paper(
    "Bermeitinger et al. 2024",
    "Bernhard Bermeitinger, Tomas Hrycej, Massimo Pavone, Julianus Kath and Siegfried "
    "Handschuh",
    "Reducing the Transformer Architecture to a Minimum",
    2024,
    "2410.13732",
    headlines={
        "half": "A symmetric definition of the similarity of tokens requires only half "
        "of the parameters.",
        "similar": "Transformers with a symmetric similarity perform similarly to the "
        "original architecture.",
        "no perceptron": "Transformers without the multilayer perceptron perform "
        "similarly to the original architecture.",
        "collapsed": "Transformers with collapsed matrices (query with key, value with "
        "projection) perform similarly to the original architecture.",
    },
    smallest={
        "loss": Smallest(
            0.02,
            "nats per character",
            "Two per cent of the perplexity is what one would give up for a quarter of "
            "the parameters of attention.",
        ),
        "accuracy": Smallest(
            0.02,
            "of the images",
            "One image in fifty is a difference that decides which model one uses.",
        ),
    },
)
SCORES = {  # forms of the matrix that scores tokens in attention
    "full": Arm("full, rank 8", BLACK, "v"),
    "symmetric": Arm("symmetric", BLUE, "o"),
    "positive": Arm("symmetric, positive", SKY, "s"),
    "narrow": Arm("full, rank 4", ORANGE, "D"),
    "uniform": Arm("no scores", PINK, "^"),
}

# --- learning rates across widths ----------------------------------------------------

OCTAVE = Smallest(
    1.0,
    "octaves of learning rate",
    "Rates are tuned in factors of two: a shift by less than one octave (a factor of "
    "two) changes the choice by at most one grid point.",
)
TENSOR_PROGRAMS = Paper(
    "Yang et al. 2022",
    "Greg Yang, Edward J. Hu, Igor Babuschkin, Szymon Sidor, Xiaodong Liu, David "
    "Farhi, Nick Ryder, Jakub Pachocki, Weizhu Chen and Jianfeng Gao",
    "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter "
    "Transfer",
    2022,
    "2203.03466",
    headlines={
        "stable": "In the maximal update parametrisation many optimal hyperparameters "
        "remain stable even as model size changes.",
        "shift": "In the standard parametrisation the optimal learning rate shifts "
        "with the width.",
        "zero-shot": "Hyperparameters tuned on a smaller model transfer zero-shot to "
        "the full-sized model, without tuning the latter at all.",
    },
    smallest={"drift": OCTAVE, "validation loss": VALIDATION_LOSS},
)
SPECTRAL_CONDITION = Paper(
    "Yang et al. 2023",
    "Greg Yang, James B. Simon and Jeremy Bernstein",
    "A Spectral Condition for Feature Learning",
    2023,
    "2310.17813",
    headlines={
        "condition": "Feature learning is achieved by scaling the spectral norms of "
        "weight matrices and of their updates like (fan-out / fan-in)^(1/2).",
    },
    smallest={"drift": OCTAVE},
)
KALRA = Paper(
    "Kalra & Barkeshli 2026",
    "Dayal Singh Kalra and Maissam Barkeshli",
    "Quantifying Hyperparameter Transfer and the Importance of Embedding Layer "
    "Learning Rate",
    2026,
    "2605.21486",
    headlines={
        "embedding": "The overwhelming benefit of muP over the standard "
        "parametrisation under AdamW arises simply from maximising the learning rate "
        "of the embedding.",
        "smooth": "Increasing the embedding's rate by a factor of the width "
        "dramatically smooths out training while improving hyperparameter transfer.",
        "decay": "Weight decay improves the fits of scaling laws, but at a fixed "
        "number of tokens per parameter it hurts the robustness of extrapolation.",
    },
    smallest={"validation loss": VALIDATION_LOSS, "drift": OCTAVE},
)
WIDTH_RULES = {  # how rates and sizes of updates depend on the width
    "adamw": Arm("AdamW", ORANGE, "s"),
    "embedding": Arm("AdamW, embedding", ORANGE, "D", ":", hollow=True),
    "head": Arm("AdamW, head", BLUE, "P", ":", hollow=True),
    "mup": Arm("AdamW, muP", BLUE, "o"),
    "none": Arm("polar, none", GREEN, "^"),
    "muon": Arm("polar, muon", SKY, "v"),
    "scion": Arm("polar, scion", BLACK, "h"),
    "rms": Arm("polar, rms", PINK, "X", ":"),
}

# --- low-rank adapters ---------------------------------------------------------------

LORA_PLUS = Paper(
    "Hayou et al. 2024",
    "Soufiane Hayou, Nikhil Ghosh and Bin Yu",
    "LoRA+: Efficient Low Rank Adaptation of Large Models",
    2024,
    "2402.12354",
    headlines={
        "one rate": "In models of large width, one learning rate for both factors of "
        "an adapter does not allow efficient feature learning.",
        "performance": "In models of large width, learning rates of A and B in a "
        "well-chosen ratio (LoRA+) improve the result of finetuning by 1 to 2 %.",
        "speed": "LoRA+ finetunes up to twice as fast as LoRA.",
    },
    smallest={"validation loss": VALIDATION_LOSS},
)
LORA_RITE = Paper(
    "Yen et al. 2024",
    "Jui-Nan Yen, Si Si, Zhao Meng, Felix Yu, Sai Surya Duvvuri, Inderjit S. Dhillon, "
    "Cho-Jui Hsieh and Sanjiv Kumar",
    "LoRA Done RITE: Robust Invariant Transformation Equilibration for LoRA "
    "Optimization",
    2024,
    "2410.20625",
    headlines={
        "invariance": "Current optimizers of LoRA lack transformation invariance: how "
        "the weights move depends on how the two factors are scaled or rotated.",
        "suboptimal": "Without transformation invariance learning is inefficient and "
        "ends in suboptimal solutions in practice.",
        "consistent": "LoRA-RITE improves consistently on existing optimizers of LoRA.",
    },
    smallest={"validation loss": VALIDATION_LOSS},
)
ADAPTERS = {  # rules for the factors of low-rank adapters
    "low_rank": Arm("low-rank rule", BLACK, "p"),
    "adamw": Arm("AdamW", ORANGE, "s"),
    "lora_plus": Arm("LoRA+", BLUE, "^"),
    "muon": Arm("Muon", GREEN, "o"),
}
