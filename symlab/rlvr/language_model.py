"""Arithmetic questions for a pretrained language model, and exact success rates.

    model, tokenizer = pretrained.loaded()
    asked = questions("add two", seed, 24)
    p = success_probability(model, prompts, accepted, ends)     (B,), exact

The prompt is the question, "What is 27 + 45? Answer with the number only.", in the
model's chat template, followed by the beginning of the answer, "27 + 45 = ", which the
model itself prefers to the bare number. A completion is right if the text of its first
line is the number, or the number and a full stop, and nothing else; a line ends with
the end-of-turn token or with the token of a single newline. Each of the two texts
counts in its canonical tokens, those that the tokenizer makes of it. The model may emit
the same text in other tokens; this probability is left out, and `sampled_successes`,
which compares texts, gives an estimate that includes it.

The success rate of a prompt is a sum of four products of conditional probabilities, so
one forward pass on the accepted texts (teacher forcing) gives it exactly, at
temperature 1. pass@k of the prompt is then 1 - (1 - p)^k (`passk.pass_at_k_exact`).
"""

from dataclasses import dataclass

import numpy as np

from symlab.harness import rng

TASKS = {  # name -> (operation, digits of each number)
    "add one": ("+", (1, 1)),
    "add two": ("+", (2, 2)),
    "subtract": ("-", (2, 2)),
    "add three": ("+", (2, 2, 2)),
    "1 x 2 digits": ("*", (1, 2)),
    "2 x 2 digits": ("*", (2, 2)),
}


@dataclass(frozen=True)
class Question:
    """An arithmetic question.

    expression: such as '27 + 45'. answer: its value.
    """

    expression: str
    answer: int

    @property
    def text(self) -> str:
        """The question as text: 'What is 27 + 45? Answer with the number only.'"""
        return f"What is {self.expression}? Answer with the number only."

    @property
    def begun(self) -> str:
        """The beginning of the answer, '27 + 45 = ', which is part of the prompt."""
        return f"{self.expression} = "

    @property
    def accepted(self) -> tuple[str, ...]:
        """The two texts that count as a right first line: the number, with or without a
        full stop.
        """
        return str(self.answer), f"{self.answer}."


def questions(
    task: str, seed: int, n: int, purpose: str = "test", *, again: bool = False
) -> list[Question]:
    """Return n different arithmetic questions of a task, in an order given by the seed.

    task: one of TASKS, such as 'add two' (the sum of two two-digit numbers). Numbers of
        d digits are from 10^(d-1) to 10^d - 1; a difference is never negative.
    purpose: 'train' or 'test', which share no question: the questions whose digits have
        an odd sum are for training.
    again: whether the questions are repeated if the task has fewer than n.

    Raises ValueError for an unknown task, and, without `again`, if n is too large.
    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}: use {', '.join(TASKS)}")
    sign, digits = TASKS[task]
    ranges = [np.arange(10 ** (d - 1), 10**d) for d in digits]
    every = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, len(digits))
    if sign == "-":
        every = every[every[:, 0] >= every[:, 1]]
    odd = (every // 10 + every % 10).sum(1) % 2 == 1
    every = every[odd == (purpose == "train")]
    if n > len(every) and not again:
        raise ValueError(
            f"{task} has {len(every)} questions to {purpose} and {n} are asked for: "
            "ask for fewer"
        )
    order = rng.stream(seed, f"{task} {purpose} questions").permutation(len(every))
    return [_question(sign, every[i]) for i in np.resize(order, n)]


def _question(sign: str, numbers) -> Question:
    first, *others = (int(x) for x in numbers)
    answer = first
    for x in others:
        answer = {"+": answer + x, "-": answer - x, "*": answer * x}[sign]
    return Question(f" {sign} ".join(map(str, (first, *others))), answer)


def prompt_of(tokenizer, question: Question) -> list[int]:
    """Return the tokens of the prompt for a question.

    The prompt is the question in the model's chat template, followed by the beginning
    of the answer ('27 + 45 = ').
    """
    said = [{"role": "user", "content": question.text}]
    text = tokenizer.apply_chat_template(
        said, add_generation_prompt=True, tokenize=False
    )
    return tokenizer.encode(text + question.begun, add_special_tokens=False)


def accepted_of(tokenizer, question: Question) -> list[list[int]]:
    """Return the tokens of each right answer to a question, without the end of the
    line.

    The tokens are those that the tokenizer makes of `question.accepted`.
    """
    return [tokenizer.encode(t, add_special_tokens=False) for t in question.accepted]


def ends_of(tokenizer) -> tuple[int, ...]:
    """Return the tokens that end a line: the end of turn, and a single newline."""
    (newline,) = tokenizer.encode("\n", add_special_tokens=False)
    return tokenizer.eos_token_id, newline


# --- probabilities -------------------------------------------------------------------


def success_probability(model, prompts, accepted, ends) -> np.ndarray:
    """Return the exact probability (B,) that a model completes each prompt rightly.

    model: a causal language model, sampled at temperature 1.
    prompts: B lists of tokens.
    accepted: for each prompt a list of right completions, each a list of tokens.
    ends: the tokens of which one has to follow a right completion.

    The right completions of a prompt exclude each other, because an end follows each,
    so that their probabilities add up. A completion that is the beginning of another
    one is evaluated in the same forward pass. Raises ValueError for a right completion
    that contains an end or appears twice.
    """
    rows, reads = [], []  # reads: (prompt, row, completion)
    for b, (prompt, texts) in enumerate(zip(prompts, accepted, strict=True)):
        closed = any(end in text for text in texts for end in ends)
        if closed or len({*map(tuple, texts)}) < len(texts):
            raise ValueError(
                "right completions must differ, and an end follows them: leave it out "
                "of the lists"
            )
        own: list[list[int]] = []
        for text in sorted(texts, key=len, reverse=True):
            at = [i for i, long in enumerate(own) if long[: len(text)] == text]
            if not at:
                own.append(text)
            reads.append((b, len(rows) + (at[0] if at else len(own) - 1), text))
        rows += [(prompt, text) for text in own]
    found = log_probabilities(model, rows)
    p = np.zeros(len(prompts))
    for b, row, text in reads:
        steps = zip(found[row], text, strict=False)  # the row may go on
        said = sum(float(logp[token]) for logp, token in steps)
        last = found[row][len(text)]
        p[b] += sum(np.exp(said + float(last[end])) for end in ends)
    return np.minimum(p, 1.0)  # 1 + rounding is 1


def log_probabilities(model, rows, size: int = 64) -> list:
    """Return a language model's log-probabilities of the next token along completions.

    rows: pairs (prompt, completion) of token lists. size: rows of a batch.

    For a completion of t tokens the result has a float64 tensor (t + 1, V): for the
    token after the prompt, and after each token of the completion. Tokens with which
    all rows begin, such as those of the chat template, are computed once.
    """
    import torch
    from transformers import DynamicCache

    whole = [[*prompt, *text] for prompt, text in rows]
    shortest = min(len(prompt) for prompt, _ in rows) - 1  # a token must be left
    same = [len({*column}) == 1 for column in zip(*whole, strict=False)][:shortest]
    start = same.index(False) if False in same else shortest
    device, found = next(model.parameters()).device, []
    with torch.inference_mode():
        for i in range(0, len(rows), size):
            part = whole[i : i + size]
            cache = DynamicCache(config=model.config)
            if start:
                first = torch.tensor([part[0][:start]], device=device)
                model.model(first, past_key_values=cache, use_cache=True)
                cache.batch_repeat_interleave(len(part))
            longest = max(map(len, part))
            # what is filled in stands behind all that is read, and is not seen
            x = [row[start:] + [0] * (longest - len(row)) for row in part]
            x = torch.tensor(x, device=device)
            hidden = model.model(
                x, past_key_values=cache, use_cache=True
            ).last_hidden_state
            for h, (prompt, text) in zip(hidden, rows[i : i + size], strict=True):
                begin = len(prompt) - start - 1
                logits = model.lm_head(h[begin : begin + len(text) + 1])
                found.append(torch.log_softmax(logits.double(), -1).cpu())
    return found


def sampled_successes(model, decode, prompts, texts, ends, n: int, draws):
    """Return how many (B,) of n sampled completions of each prompt are right.

    model: a causal language model, sampled at temperature 1.
    decode: a function from a list of tokens to its text. prompts: B lists of tokens.
    texts: for each prompt a tuple of right texts. ends: tokens that end a completion.
    draws: a numpy Generator.

    Samples of a prompt that agree so far share a forward pass: their next tokens are
    one multinomial draw, which has the distribution of single draws. A sample is
    abandoned as wrong as soon as no right text begins with its text.
    """
    right = np.zeros(len(prompts), dtype=np.int64)
    alive = {(b, ()): n for b in range(len(prompts))}
    while alive:
        rows = [(prompts[b], list(said)) for b, said in alive]
        found = log_probabilities(model, rows)
        after: dict[tuple, int] = {}
        for ((b, said), count), logp in zip(alive.items(), found, strict=True):
            p = logp[-1].exp().numpy()
            drawn = draws.multinomial(count, p / p.sum())
            for token in np.flatnonzero(drawn):
                if token in ends:
                    right[b] += int(drawn[token]) * (decode(list(said)) in texts[b])
                    continue
                longer = (*said, int(token))
                if any(t.startswith(decode(list(longer))) for t in texts[b]):
                    after[b, longer] = int(drawn[token])
        alive = after
    return right
