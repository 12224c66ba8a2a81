"""What a decoder is trained to minimise."""

from torch import Tensor, nn

from symlab.models.routing_load import load_balancing_loss, z_loss
from symlab.models.transformer import Decoder, Router, loss
from symlab.pretraining.recipe import Recipe
from symlab.symopt import PhiBalancing


class Objective(nn.Module):
    """What is minimised: the next-token loss, and the auxiliary losses of routers."""

    def __init__(self, model: Decoder, recipe: Recipe):
        super().__init__()
        self.model, self.recipe = model, recipe
        layers = model.config.layers if recipe.phi else 0
        self.phi = nn.ModuleList(
            PhiBalancing(model.config.experts, weight=recipe.phi) for _ in range(layers)
        )

    def forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) twice: the sum to minimise, and the next-token part of it."""
        r = self.recipe
        if not (r.balance or r.z or r.phi):
            nll = loss(self.model(inputs), targets)
            return nll, nll.detach()
        logits, routers = self.model(inputs, routers=True)
        nll = loss(logits, targets)
        return nll + self._auxiliary(routers), nll.detach()

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
