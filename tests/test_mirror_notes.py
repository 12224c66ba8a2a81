"""What the audit's notes say of `compress`, and what `compress` refuses."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from symlab import mirror


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def batch(samples=40):
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(samples, 6, generator=draws)
    return x, torch.randint(3, (samples,), generator=draws)


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def twin(model):
    model[0].weight[5], model[0].bias[5] = model[0].weight[2], model[0].bias[2]


def constant(model):
    model[0].weight[1], model[0].bias[1] = 0.0, 1.0


def untouched(model):
    pass


@pytest.mark.parametrize(
    ("change", "said"),
    [(twin, "2 have values that follow"), (constant, "1 have one value")],
)
def test_the_note_names_what_compress_removes(change, said):
    model = net()
    with torch.no_grad():
        change(model)
    row = mirror.audit(model, loss, batch()).iloc[0]
    assert (row.dead, row.copies) == (0, 0)
    assert said in row.note
    assert "nothing to do" not in row.note
    before, after = mirror.compress(model, loss, batch())[1].parameters
    assert after == before - 10


def test_there_is_nothing_to_do_where_compress_removes_nothing():
    row = mirror.audit(net(), loss, batch()).iloc[0]
    assert row.note == "no unit is near a mirror: nothing to do"
    before, after = mirror.compress(net(), loss, batch())[1].parameters
    assert after == before


def test_a_batch_too_small_for_twins_is_said_to_be():
    model = net()
    with torch.no_grad():
        twin(model)
    row = mirror.audit(model, loss, batch(2)).iloc[0]
    assert "nothing to do" not in row.note
    assert "is not known here: symlab.mirror.compress tries it" in row.note


def test_compress_refuses_a_transform_in_one_sentence():
    def mapped(model, batch):
        one = lambda x: torch.func.functional_call(  # noqa: E731
            model, dict(model.named_parameters()), (x[None],)
        )[0]
        return cross_entropy(torch.vmap(one)(batch[0]), batch[1])

    assert mirror.audit(net(), mapped, batch()).iloc[0].symmetry != "unknown"
    with pytest.raises(ValueError, match="cannot be read inside of torch.vmap"):
        mirror.compress(net(), mapped, batch())


def test_other_errors_of_the_loss_are_its_own():
    def failing(model, batch):
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        mirror.compress(net(), failing, batch())
