"""The training loss of a decoder."""

from functools import partial

from torch import Tensor, nn

from symlab.models.chunked_loss import chunked_loss
from symlab.models.routing_load import PhiBalancing, load_balancing_loss, z_loss
from symlab.models.transformer import Decoder, Router, document_numbers, loss
from symlab.pretraining.recipe import Recipe


class Objective(nn.Module):
    """The training loss of a decoder: next-token cross-entropy plus auxiliary losses.

    recipe: gives the weights of the auxiliary losses of logits and of routers.
    """

    def __init__(self, model: Decoder, recipe: Recipe):
        super().__init__()
        self.model, self.recipe = model, recipe
        layers = model.config.layers if recipe.phi else 0
        self.phi = nn.ModuleList(
            PhiBalancing(model.config.experts, weight=recipe.phi) for _ in range(layers)
        )

    def forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return two losses per token, (B, T) each, for B sequences of T tokens.

        The first is the loss to be minimised; the second is its next-token part in
        nats, detached. inputs, targets: tokens (B, T).
        """
        r = self.recipe
        asked = {"recompute": True} if r.recompute else {}
        asked |= attention(self.model, r, inputs)
        if r.chunk:
            asked["read"] = partial(
                chunked_loss, targets=targets, chunk=r.chunk, z=r.z_logits
            )
        found, routers = self.model(inputs, routers=True, **asked)
        total, nll = found if r.chunk else self._of_logits(found, targets)
        if r.balance or r.z or r.phi:
            total = total + self._auxiliary(routers)
        return total, nll.detach()

    def _of_logits(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        nll, z = loss(logits, targets), self.recipe.z_logits
        if not z:
            return nll, nll
        return nll + z * z_loss(logits.to(nll.dtype)), nll

    def _auxiliary(self, routers: list[Router]) -> Tensor:
        r, terms = self.recipe, []
        for layer, (logits, chosen) in enumerate(routers):
            if r.balance:
                terms.append(r.balance * load_balancing_loss(logits, chosen))
            if r.z:
                terms.append(r.z * z_loss(logits))
            if r.phi:
                terms.append(self.phi[layer](logits.softmax(-1)))
        return sum(terms) / len(routers)


def attention(model: Decoder, recipe: Recipe, inputs: Tensor) -> dict[str, Tensor]:
    """Return the model's keyword arguments that keep attention within documents.

    inputs: tokens (B, T). The last token of the vocabulary ends a document and belongs
        to it, so that it still attends to that document when it predicts the first
        token of the next one.

    The result is {} unless `recipe.documents` is set.
    """
    if not recipe.documents:
        return {}
    return {"documents": document_numbers(inputs, model.config.vocabulary - 1)}
