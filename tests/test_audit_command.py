"""`symlab audit FILE.py:factory`: table, CSV, figure, and errors of one sentence."""

import pandas as pd
import pytest
import torch
from torch import nn

from symlab.__main__ import main
from symlab.harness.errors import UserError
from symlab.mirror import audit, command

NET = """
import torch
from torch import nn
from beside import WIDTH

def loss(model, batch):
    return model(batch).square().mean()

def make():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 6),
                          nn.Linear(6, 3))
    with torch.no_grad():
        for t in (model[0].weight, model[0].bias, model[2].weight.T):
            t[4] = t[1]
            t[7] = 0.0
    return model, loss, torch.randn(16, 5)

def unit():
    model = nn.Linear(1, 1)
    return model, loss, torch.randn(4, 1)

def pair(): return nn.Linear(5, 3), loss
def tensor(): return torch.ones(3), loss, None
def number(): return nn.Linear(5, 3), 2.0, None
def vector(): return nn.Linear(5, 3), lambda m, b: m(b), torch.randn(4, 5)
def broken(): return nn.Linear(5, 3), lambda m, b: int("x"), None
not_callable = 3
"""


@pytest.fixture
def net(tmp_path, monkeypatch):
    (tmp_path / "audited_net.py").write_text(NET)
    (tmp_path / "beside.py").write_text("WIDTH = 8\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # and taken away again, with what was added
    return tmp_path


def test_a_shell_gives_the_table_a_csv_and_a_figure(sandbox):
    (sandbox.root / "nets").mkdir()
    sandbox.write("nets/audited_net.py", NET)
    sandbox.write("nets/beside.py", "WIDTH = 8\n")
    done = sandbox("audit", "nets/audited_net.py:make", "--out", "found/here")
    assert (done.returncode, done.stderr) == (0, "")
    assert "wrote found/here/audited_net_make_audit.csv" in done.stdout
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    relu, linear = (" ".join(line.split()) for line in lines[1:3])
    assert relu.startswith("0 0.weight:0 permutation, rescaling 8 1 2 6 6 ")
    assert linear == "1 2.weight:0 rotation 6 3"
    png = sandbox.root / "found/here/audited_net_make_audit.png"
    assert png.read_bytes().startswith(b"\x89PNG")


def test_the_csv_is_the_table_of_audit(net, capsys):
    assert main(["audit", "audited_net.py:make"]) == 0
    written = pd.read_csv(net / "audited_net_make_audit.csv")
    table = audit(*command.made(*command.split("audited_net.py:make")))
    assert written.columns.tolist() == table.columns.tolist()
    assert written.parameters.tolist() == table.parameters.tolist()
    assert written.dead[0] == table.dead[0] == 1
    assert written.copy_groups[0] == "[[1, 4]]"
    assert "units do the work" in capsys.readouterr().out


def test_thresholds_reach_the_audit(net, capsys):
    assert main(["audit", "audited_net.py:make", "--near", "0.99"]) == 0
    loose = pd.read_csv(net / "audited_net_make_audit.csv")
    assert main(["audit", "audited_net.py:make", "--dead", "0.9"]) == 0
    strict = pd.read_csv(net / "audited_net_make_audit.csv")
    table = audit(*command.made(*command.split("audited_net.py:make")))
    assert loose.copies[0] >= table.copies[0] == 2
    assert strict["rank"][1] < table["rank"][1]
    with pytest.raises(SystemExit, match="2"):
        main(["audit", "audited_net.py:make", "--dead", "2"])
    assert "'2' is not a number between 0 and 1" in capsys.readouterr().err


def test_a_model_without_symmetry_has_a_table_and_no_figure(net, capsys):
    (net / "plain.py").write_text(
        "import torch\ndef make():\n    return (torch.nn.Linear(2, 3), "
        "lambda m, b: (m(b) * torch.arange(3)).sum() ** 2, torch.randn(8, 2))\n"
    )
    assert main(["audit", "plain.py:make"]) == 0
    assert (net / "plain_make_audit.csv").is_file()
    assert not (net / "plain_make_audit.png").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("audited_net.py", "is not FILE.py:factory, as in net.py:make"),
        ("nothing.py:make", "there is no file nothing.py"),
        ("notes.txt:make", "its name must end in .py"),
        ("audited_net.py:mak", "did you mean make?"),
        ("audited_net.py:not_callable", "unknown factory in audited_net.py"),
        ("audited_net.py:pair", "must return (model, loss, batch)"),
        ("audited_net.py:pair", "it returned tuple of 2"),
        ("audited_net.py:tensor", "it returned Tensor as the model"),
        ("audited_net.py:number", "it returned float as the loss"),
        ("audited_net.py:vector", "cannot be audited: the loss must return one number"),
        ("audited_net.py:make --out notes.txt/x", "choose another folder with --out"),
    ],
)
def test_what_the_user_can_cure_is_one_sentence(net, capsys, target, message):
    (net / "notes.txt").write_text("")
    assert main(["audit", *target.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_an_error_in_the_file_keeps_its_traceback(net):
    with pytest.raises(ValueError, match="invalid literal"):
        main(["audit", "audited_net.py:broken"])


def test_no_project_is_needed(net, monkeypatch):
    def nowhere():
        raise UserError("no experiments folder")

    monkeypatch.setattr("symlab.__main__.find", nowhere)
    assert main(["audit", "audited_net.py:make"]) == 0


def test_shares_add_up_to_the_units():
    rows = pd.DataFrame(
        {"units": [10, 8, 5], "rank": [5, 6, pd.NA], "dead": [2, pd.NA, 1]}
    ).astype("Int64")
    works, copies, dead = command.shares(rows)
    assert works.tolist() == [0.5, 0.75, 0.8]
    assert copies.tolist() == pytest.approx([0.3, 0.0, 0.0])
    assert dead.tolist() == [0.2, 0.25, 0.2]


def test_long_names_stay_readable():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder_of_many_layers = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
            self.a_head_with_a_very_long_name = nn.Linear(6, 2)

        def forward(self, x):
            return self.a_head_with_a_very_long_name(self.encoder_of_many_layers(x))

    table = audit(Deep(), lambda m, b: m(b).square().mean(), torch.randn(8, 4))
    printed = command.text(table)
    assert "encoder_of_m….0.weight:0" in printed
    assert max(map(len, printed.splitlines())) <= 100
    fig = command.figure(table)
    fig.draw_without_rendering()
    (ax,) = fig.axes
    for label in ax.get_yticklabels():
        assert label.get_window_extent().x0 >= 0
