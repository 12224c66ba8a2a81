"""The command line, `python -m symlab`, which the Makefile calls."""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd

from symlab.harness import (
    claim_tables,
    contract,
    engine,
    findings,
    plan,
    pool,
    portion_runs,
    registration,
    streams,
    summary,
)
from symlab.harness import confirm as confirmation
from symlab.harness import placebo as placebos
from symlab.harness import portions as portioned
from symlab.harness.errors import UserError, nearest
from symlab.harness.project import Committed, Project, find
from symlab.harness.sweep import SCALES


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status.

    The status is 0 if all is as expected, 1 if something failed, 2 for bad input and
    130 if Ctrl-C stopped the command.
    argv: the words of the command line; None takes those of the process.
    """
    streams.open_closed()
    options = _parser().parse_args(argv)
    try:
        project = None if options.command in (audit, new, diff) else find()
        status = options.command(project, options)
        sys.stdout.flush()
        return status
    except UserError as error:
        if os.environ.get("SYMLAB_TRACEBACK"):
            traceback.print_exc()
        print(f"symlab: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is not None:
            raise
        with suppress(OSError):  # it may be the stream that cannot be written
            print(
                f"symlab: the output cannot be written ({error.strerror}): finished "
                "runs are kept",
                file=sys.stderr,
                flush=True,
            )
        streams.silence()
        return 2
    except KeyboardInterrupt:
        print("symlab: stopped", file=sys.stderr)
        return 130


# --- commands ------------------------------------------------------------------------


def run(project: Project, o) -> int:
    """Make the missing runs of experiments; return the exit status.

    o: the parsed options, as in every command of this module.
    """
    names = [o_ for name in o.names for o_ in _experiments(project, name)]
    plans = _plans(project, list(dict.fromkeys(names)), o)
    return _execute(project, plans, o)


def fig(project: Project, o) -> int:
    """Make the runs that figures lack, judge the claims of these figures, draw them."""
    figures = contract.figures(project)
    for name in o.names:
        if name not in figures:
            raise _unknown(project, name, figures, "figure")
    if twice := contract.collisions(project).keys() & set(o.names):
        raise UserError(contract.collisions(project)[min(twice)])
    names = [e for name in o.names for e in figures[name]]
    plans = _plans(project, list(dict.fromkeys(names)), o)
    status = _execute(project, plans, o)
    if o.dry_run or status == 130:
        return status
    by_name = {p.experiment.name: p for p in plans}
    for name in o.names:
        mine = [by_name[e] for e in figures[name] if e in by_name]
        missing = [e for e in figures[name] if e not in by_name]
        status = max(status, _product(project, name, mine, missing, o))
    return status


def claims(project: Project, o) -> int:
    """Judge claims on the rows that exist, and count the verdicts; run nothing.

    Returns 1 if a claim has another verdict than the one it expects, or if rows are
    missing; else 0.
    """
    if o.reference:
        project = Committed(project.root)
    if single := [name for name in o.names if "." in name]:
        return max(_one_claim(project, name, o) for name in single)
    names = [e for name in o.names for e in _experiments(project, name)]
    every = not names
    plans = [
        plan.make(project, n, o.scale, seed0=o.seed0)
        for n in dict.fromkeys(names or contract.names(project))
    ]
    judged = [_judge(p, o) for p in plans]
    found = [v for _, verdicts in judged for v in verdicts]
    if every:
        _summarise_all(project, found, o.scale)
    else:
        print(f"\nclaims of papers\n{_indented(summary.counts(found).reset_index())}")
        _summarise(found)
    _mention_committed(project, plans, o)
    return max(s for s, _ in judged)


def _mention_committed(project: Project, plans: list[plan.Plan], o) -> None:
    """Say where no run is there although rows are committed that can be judged."""
    folder = project.reference / o.scale
    unused = [
        p.experiment.name
        for p in plans
        if not findings.progress(p)[0]
        and (folder / f"{p.experiment.name}.parquet").is_file()
    ]
    if unused and not o.reference and not o.seed0:
        print(f"\nnot run here: {', '.join(unused)}")
        print("REFERENCE=1 (--reference) judges the committed rows")


def _one_claim(project: Project, name: str, o) -> int:
    """Print everything about one claim, named experiment.claim; 1 if unexpected."""
    experiment, _, claim = name.partition(".")
    for e in _experiments(project, experiment):
        p = plan.make(project, e, o.scale, seed0=o.seed0)
        verdicts = findings.verdicts([p], o.partial)
        if found := [v for v in verdicts if v.claim.name == claim]:
            print(found[0].details())
            print(f"on unseen seeds: {confirmation.again(project, found[0], o.scale)}")
            done, wanted = findings.progress(p)
            print(f"rows: {done} of {wanted} runs in {_short(p.store.file)}")
            figures = [f for f, n in contract.figures(project).items() if e in n]
            again = [*(f"make {f}" for f in figures[:1]), f"make confirm NAMES={e}"]
            print(f"to check again (the last on new seeds): {', '.join(again)}")
            _mention_committed(project, [p], o)
            return int(not found[0].as_expected)
    raise UserError(nearest(claim, [v.claim.name for v in verdicts], "claim"))


def new(_project, o) -> int:
    """Write a new experiment file, which runs as it is and is meant to be edited."""
    from symlab.harness import starting

    print(f"wrote {_short(starting.write(o.name))}: run `symlab fig {o.name}`")
    return 0


def lock(project: Project, o) -> int:
    """Register the present claims: write claims.lock, and say what changed in it."""
    before = registration.read(project)
    n = len(contract.names(project))
    _say(f"reading the claims and the sweeps of {n} experiment{'s' * (n != 1)}")
    now = registration.entries(project)
    changed = registration.changes(before, now)
    for change in changed if before else ():
        print(change)
    if not o.check:
        path = registration.write(project, now)
        print(f"wrote {_short(path)}: {len(now)} lines, {len(changed)} changed")
        for sentence in registration.rows_before(project, changed):
            print(sentence)
        sys.stdout.flush()
    _say(f"comparing it with all versions of {_short(registration.path(project))} "
         "in git")  # fmt: skip
    try:
        late = registration.audit(project)
        late += confirmation.lost(project, registration.SCALE)
    except UserError as error:
        late = []
        print(error)
    for sentence in late:
        print(sentence, file=sys.stderr)
    if o.check and changed:
        print(f"claims.lock is not of these claims: run `{project.command('lock')}` "
              "and commit it", file=sys.stderr)  # fmt: skip
    elif o.check:
        print(f"{_short(registration.path(project))} is of the claims as they stand")
    return int(bool(late) or bool(o.check and changed))


def confirm(project: Project, o) -> int:
    """Run the experiments of every claim on fresh seeds, and compare the verdicts.

    The seeds follow from claims.lock. A table says which verdicts agree with the
    earlier ones.
    """
    names = [
        e
        for name in o.names or contract.names(project)
        for e in _experiments(project, name)
    ]
    plans = confirmation.plans(project, dict.fromkeys(names), o.scale)
    for p in () if o.dry_run else plans:
        confirmation.log(project, o.scale, p.experiment.name)
    status = _execute(project, plans, o)
    if o.dry_run or status == 130:
        return status
    print(f"\n{confirmation.RATES}" if any(map(confirmation.races, plans)) else "")
    tables = [_confirmed(project, p, o.scale) for p in plans]
    if done := [t for t in tables if t is not None]:
        found = pd.concat(done)
        path = claim_tables.write(project, confirmation.KIND, o.scale, found)
        counts = [
            f"{(found.agreement == word).sum()} {word}"
            for word in confirmation.AGREEMENTS
        ]
        print(f"\nof {len(found)} verdicts: {', '.join(counts)}; wrote {_short(path)}")
    return max(status, int(len(done) < len(tables)))


def placebo(project: Project, o) -> int:
    """Judge every claim on rows whose arms were shuffled.

    An arm is one of the settings that an experiment compares. A claim that holds for
    shuffled arms as well is no evidence that the arms differ.
    """
    names = [
        e
        for name in o.names or contract.names(project)
        for e in _experiments(project, name)
    ]
    tables = []
    for name in dict.fromkeys(names):
        found = placebos.audit([plan.make(project, name, o.scale)])
        counts = found.finding.str.partition(":")[0].value_counts()
        print(f"{name}: {', '.join(f'{n} {word}' for word, n in counts.items())}")
        tables.append(found)
    path = claim_tables.write(project, "placebo", o.scale, pd.concat(tables))
    print(f"wrote {_short(path)}")
    return 0


def _confirmed(project: Project, p: plan.Plan, scale: str) -> pd.DataFrame | None:
    """Print, log and return the confirmation of one experiment; None if rows lack."""
    name = p.experiment.name
    first = confirmation.seed0(registration.read(project), name, scale)
    done, wanted = findings.progress(p)
    print(f"\n{name}: {done} of {wanted} runs, seeds from {first}")
    if done < wanted:
        print(f"  not judged: {p.lacking()}; the same command runs them")
        return None
    found = confirmation.compared(project, p).assign(seed0=first)
    for row in found.itertuples():
        print("  " + confirmation.line(row).replace("\n", "\n  "))
    confirmation.log(project, scale, name, found)
    if (n := confirmation.draws(project, scale, name)) > 1:
        print(f"  this is draw {n} of seeds for {name}: its claims or its sweep "
              "changed in between")  # fmt: skip
    return found


def status(project: Project, o) -> int:
    """Say for each experiment how many runs are fresh, stale, missing or failed."""
    figures = contract.figures(project)
    left_out = contract.unreadable(project)
    for name in contract.names(project):
        try:
            p = plan.make(project, name, o.scale, seed0=o.seed0)
        except UserError as error:
            if str(error) not in left_out:
                left_out.append(str(error))
            continue
        drawn = ", ".join(f for f, es in figures.items() if name in es)
        eta = f"; to run: about {plan.duration(p.eta)} of one core" if p.eta else ""
        print(f"{p.describe()}{eta}  [{drawn}]")
    for sentence in contract.collisions(project).values():
        if not any(sentence in other for other in left_out):
            left_out.append(sentence)
    for sentence in left_out:
        print(f"symlab: {sentence}", file=sys.stderr)
    from symlab.harness import pages

    if board := pages.committed_scoreboard(project):
        print(f"\nclaims of papers, by the committed rows (docs/claims.md)\n{board}")
    return 2 if left_out else 0


def whence(project: Project, o) -> int:
    """Say from which code, rows and commit a figure file was made."""
    from symlab.harness import plot

    for line in plot.origin_lines(o.file, plot.provenance(o.file)):
        print("".join(c if c.isprintable() else repr(c)[1:-1] for c in line))
    return 0


def report(project: Project, o) -> int:
    """Write one self-contained HTML page with all figures, claims and their origins."""
    from symlab.harness import report as page

    path = page.write(
        project, o.scale, o.jobs or plan.default_jobs(), o.reference, _say
    )
    print(f"wrote {path}")
    return 0


def readme(project: Project, o) -> int:
    """Write the tables of verdicts and results into README.md and docs/.

    They are made from the committed rows. With --check nothing is written; the command
    says which pages are out of date.
    """
    from symlab.harness import pages

    if o.check:
        old = pages.outdated(project, registration.SCALE)
        for path in old:
            print(f"{_short(path)} is not current: run `make readme`", file=sys.stderr)
        return int(bool(old))
    for path in pages.write(project, registration.SCALE):
        print(f"wrote {_short(path)}")
    return 0


def reference(project: Project, o) -> int:
    """Copy the current rows and figures to the committed reference folders."""
    from symlab.harness import reference as committed

    for path in committed.write(project, o.scale):
        print(f"wrote {path}")
    return 0


def diff(_project, o) -> int:
    """Compare the result rows of two folders or archives.

    The exit status is 0 if both hold the same runs and the values agree within the
    tolerance, 1 if they differ, and 2 if they cannot be compared.
    """
    from symlab.harness import compare, trees
    from symlab.harness.differences import Tolerance

    given = {"absolute": dict(o.atol), "relative": dict(o.rtol)}
    usual = Tolerance(**{k: v[""] for k, v in given.items() if "" in v})
    own = {
        c: replace(usual, **{k: v[c] for k, v in given.items() if c in v})
        for c in {*given["absolute"], *given["relative"]} - {""}
    }
    a, b = trees.tree(o.a), trees.tree(o.b)
    found = compare.compare(a, b, replace(usual, columns=own), o.names, o.provenance)
    if o.json:
        print(json.dumps(compare.record(a, b, found), indent=1))
    else:
        print(compare.text(a, b, found))
    return int(not all(c.same for c in found))


def archive(project: Project, o) -> int:
    """Pack rows, figures, claims, source and versions into one file, fit for Zenodo."""
    from symlab.harness import packing

    if o.reference:
        project = Committed(project.root)
    names = [e for name in o.names for e in _experiments(project, name)]
    packed = packing.pack(project, o.file, o.scale, list(dict.fromkeys(names)))
    for sentence in packed.said:
        print(sentence)
    print(
        f"wrote {_short(o.file.resolve())}: {packed.experiments} experiments, "
        f"{packed.rows} rows, {packed.figures} figures, "
        f"{o.file.stat().st_size / 2**20:.1f} MiB"
    )
    return 0


def portions(project: Project, o) -> int:
    """Run the work that portions.toml lists, in order of value, within some minutes.

    The list holds what paper scale still lacks and a GPU should compute. With --list
    the command says what has been done; with --pack it copies the CIFAR-10 images to a
    folder that is small enough to be sent to another machine.
    """
    if o.pack:
        return _pack(o.pack)
    chosen = portioned.read(project, o.scale, tuple(o.names))
    if o.list:
        for portion in chosen:
            print(portioned.describe(project, portion, o.scale))
        return 0
    return portion_runs.run(project, chosen, o.minutes, o.scale, o.device)


def audit(_project, o) -> int:
    """Print the mirror symmetries of a model, and how near its weights are to them.

    A mirror symmetry of the loss is a reflection of the weights, such as the exchange
    of two neurons; weights that it leaves as they are lie in its mirror.
    """
    from symlab.mirror import command

    for path in command.run(o.target, o.out, o.dead, o.near):
        print(f"wrote {path}")
    return 0


# --- steps ---------------------------------------------------------------------------


def _experiments(project: Project, name: str) -> list[str]:
    figures = contract.figures(project)
    known = contract.names(project)
    if name not in figures and name not in known:
        raise _unknown(project, name, [*figures, *known], "figure or experiment")
    return figures.get(name, [name])


def _unknown(project: Project, name: str, known: Iterable[str], what: str) -> UserError:
    sentences = [nearest(name, known, what), *contract.unreadable(project)]
    return UserError("; ".join(sentences))


def _plans(project: Project, names: list[str], o) -> list[plan.Plan]:
    return plan.make_all(
        project, names, o.scale, query=o.only, seed0=o.seed0, fresh=o.fresh,
        strict=o.strict,
    )  # fmt: skip


def _execute(project: Project, plans: list[plan.Plan], o) -> int:
    """Run plans and say what came of it; the exit status."""
    jobs = o.jobs or (1 if o.device == "cuda" else plan.default_jobs())
    print(plan.summary(plans, jobs))
    if o.dry_run:
        return 0
    engine.check_device(o.device, here=not o.scheduler)
    done = engine.run(
        project,
        plans,
        jobs=jobs,
        backend=o.backend or pool.backend_of(o.scheduler),
        device=o.device,
        timeout=o.timeout,
        scheduler=o.scheduler,
    )
    if done.interrupted:
        print(
            f"stopped: {done.ok} runs finished and are kept; the same command goes on "
            "from here",
            file=sys.stderr,
        )
        return 130
    if done.ok or done.failed:
        print(f"ran {done.ok + len(done.failed)} in {plan.duration(done.seconds)}")
    if done.failed:
        print(_failures(done), file=sys.stderr)
        files = {p.experiment.name: _short(p.store.file) for p in plans}
        where = dict.fromkeys(files[name.partition("(")[0]] for name, _ in done.failed)
        print(
            f"the column `error` of {', '.join(where)} holds the whole error of each; "
            "the next call tries just these again",
            file=sys.stderr,
        )
    return 1 if done.failed else 0


CAUSES = 5  # of failed runs, that are printed


def _failures(done: engine.Report) -> str:
    """Which runs failed, by what went wrong, the most frequent first."""
    by_cause: dict[str, list[str]] = {}
    for name, error in done.failed:
        by_cause.setdefault(error.strip().splitlines()[-1], []).append(name)
    n, total = len(done.failed), len(done.failed) + done.ok
    said = f"{n} of {total} run{'s' * (total > 1)} failed"
    if len(by_cause) == 1:
        ((cause, names),) = by_cause.items()
        shared = ", all with" * (n > 1)
        first = "the first is " * (n > 1) + names[0]
        return f"{said}{shared}: {cause}\n    {first}"
    causes = sorted(by_cause.items(), key=lambda pair: -len(pair[1]))
    lines = [
        f"    {len(names)} with: {cause}\n        {names[0]}"
        for cause, names in causes[:CAUSES]
    ]
    more = len(causes) - CAUSES
    lines += [f"    and {more} other errors"] if more > 0 else []
    return "\n".join([f"{said}:", *lines])


def _judge(p: plan.Plan, o) -> tuple[int, list]:
    """Print the verdicts of one experiment; 1 where one is not as expected."""
    done, wanted = findings.progress(p)
    print(f"\n{p.experiment.name}: {done} of {wanted} runs")
    if p.blocked and not o.partial:
        print(f"  not judged: {p.experiment.name} {p.blocked}")
        return 0, findings.verdicts([p])
    if done < wanted and not o.partial:
        hint = " (PARTIAL=1 judges and draws what is there)" * bool(done)
        print(f"  not judged: {p.lacking()}{hint}")
        return 1, findings.verdicts([p])
    verdicts = findings.verdicts([p], o.partial)
    for v in verdicts:
        print("  " + v.line().replace("\n", "\n  "))
    if o.scale == "smoke":
        print("  (smoke scale shows that the code runs: verdicts do not count)")
        wrong = [v for v in verdicts if v.verdict == "error"]
        none = [v.claim for v in wrong if v.interval is None]
        if any(findings.mistaken(p, claim) for claim in none):
            print("  (but an estimate that cannot be made is a mistake in the file)")
            return 1, verdicts
        if none:
            print("  (nor do estimates that lack rows which scale quick has)")
        return int(o.strict and bool(wrong)), verdicts
    return int(any(not v.as_expected for v in verdicts)), verdicts


def _summarise(verdicts: list, every: bool = False) -> None:
    """Print counts of claims that are about no paper, and headlines.

    every: whether all claims of the project are there, so that a headline without a
    claim is not tested at all.
    """
    print(f"\nother claims\n{_indented(summary.others(verdicts).reset_index())}")
    if found := [h for h in summary.headlines(verdicts) if h.verdicts or every]:
        print("\nheadlines")
    for h in found:
        print(f"  {h.paper.short}: {h.sentence}\n      {h.outcome}")


def _summarise_all(project: Project, verdicts: list, scale: str) -> None:
    """Print headlines, Holm's correction and the scoreboard, of all claims."""
    _summarise(verdicts, every=True)
    corrected = summary.corrected(verdicts)
    flipped = [v for v in corrected if v.holm.startswith("flips")]
    print("\nundecided with Holm's correction over all effects of a paper")
    for v in flipped:
        print(f"  {v.experiment}.{v.claim.name}: {v.verdict}, {v.meaning}, p={v.p:.2g}")
    if not flipped:
        any_judged = any(v.judged for v in verdicts)
        print("  none" if any_judged else "  no claim is judged yet")
    confirmed = claim_tables.read(project, confirmation.KIND, scale)
    board = summary.shown(summary.scoreboard(corrected, confirmed))
    print(f"\nclaims of papers\n{_indented(board)}")


def _indented(table: pd.DataFrame) -> str:
    text = table.to_string(index=False) if len(table) else "none"
    return "  " + text.replace("\n", "\n  ")


def _pack(target: Path) -> int:
    from symlab.data import pack

    source = Path(os.environ.get("SYMLAB_DATA") or "data")
    written = pack.cifar10(source, target)
    for path, size in written.items():
        print(f"wrote {_short(path)}: {size / 2**20:.1f} MiB")
    print(f"together {sum(written.values()) / 2**20:.1f} MiB; use them with "
          f"SYMLAB_DATA={_short(target)}")  # fmt: skip
    return 0


def _product(project: Project, name: str, plans, missing: Iterable[str], o) -> int:
    """Verdicts and files of one figure."""
    judged = [_judge(p, o) for p in plans]
    status = max(s for s, _ in judged)
    if (lacking := [p for p in plans if p.blocked]) and not o.partial:
        p = lacking[0]
        print(f"{name} is not drawn: {p.experiment.name} {p.blocked}")
        return max(status, int(len(o.names) == 1))  # among others it is left out
    complete = not missing and all(d == w for d, w in map(findings.progress, plans))
    if not complete and not o.partial:
        print(
            f"{name} is not drawn: the sweep is incomplete (PARTIAL=1 draws it, "
            "stamped preliminary)"
        )
        return 1
    if not any(len(p.rows()) for p in plans):
        print(f"{name} is not drawn: there is no row yet")
        return 1
    verdicts = [v for _, vs in judged for v in vs]
    record = findings.origin(project, name, plans, verdicts, o.seed0, o.column)
    stem = findings.stem(project, name, o.scale, o.seed0, o.column)
    if complete and findings.up_to_date(stem, record) and not o.fresh:
        print(f"\n{stem}.pdf, .png, .json are up to date")
        return status
    from symlab.harness import plot

    absent = sum(
        len(contract.load(project, e).configs(o.scale, o.seed0)) for e in missing
    )
    drawn = findings.draw(name, plans, absent, o.column)
    paths = plot.save(drawn, stem, record)
    print(f"\ndrew {', '.join(_short(p) for p in paths)}")
    return status


def _say(text: str) -> None:
    """Print what a command is about to do, where that may take a minute."""
    print(text, file=sys.stderr, flush=True)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


# --- arguments -----------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        "symlab",
        description="Run experiments, judge their claims, draw their figures.",
        epilog="Example: symlab fig fig3 --dry-run. Outputs go to results/ and "
        "figures/, or to SYMLAB_RESULTS and SYMLAB_FIGURES.",
    )
    commands = p.add_subparsers(required=True, metavar="COMMAND")

    def add(function, **arguments):
        c = commands.add_parser(
            function.__name__,
            help=function.__doc__.split("\n")[0],
            description=function.__doc__,
        )
        c.set_defaults(command=function)
        for flags, options in arguments.items():
            c.add_argument(flags, **options)
        return c

    names = {"nargs": "+", "metavar": "NAME"}
    for function, what in ((run, "an experiment or a figure"), (fig, "a figure")):
        c = add(function, names=names | {"help": f"{what}, as in `symlab status`"})
        _scale(c)
        _workers(c)
        a = c.add_argument
        a("--only", metavar="QUERY", help='runs to do, as in "lr<0.1 and seed<3"')
        a("--partial", action="store_true", help="judge and draw an incomplete sweep")
        a("--fresh", action="store_true", help="run again what is there already")
        a(
            "--strict",
            action="store_true",
            help="rows made with other versions of the packages are stale",
        )
    c.add_argument(
        "--column",
        action="store_true",
        help="panels one below the other, 3.25 inches wide, in a file NAME.column",
    )
    some = {
        "nargs": "*",
        "metavar": "NAME",
        "help": "figures or experiments (default: all)",
    }
    named = "figures, experiments, or a claim as experiment.claim (default: all)"
    c = add(claims, names=some | {"help": named})
    _scale(c)
    c.add_argument("--partial", action="store_true", help="judge an incomplete sweep")
    c.add_argument(
        "--strict",
        action="store_true",
        help="any estimate that is an error fails the call at smoke scale, too",
    )
    c.add_argument(
        "--reference", action="store_true", help="judge the committed rows instead"
    )
    c = add(readme)
    c.add_argument(
        "--check", action="store_true", help="write nothing; 1 where it is not current"
    )
    c = add(lock)
    c.add_argument(
        "--check", action="store_true", help="write nothing; 1 where it is not current"
    )
    c = add(confirm, names=some)
    _scale(c, seeds=False)
    _workers(c)
    _scale(add(placebo, names=some), seeds=False)
    _scale(add(status))
    add(whence, file={"type": Path, "help": "a drawn .pdf, .png or .json"})
    add(new, name={"metavar": "NAME", "help": "of the experiment and its figure"})
    c = add(
        audit,
        target={
            "metavar": "FILE.py:factory",
            "help": "a function without arguments that returns (model, loss, batch)",
        },
    )
    a = c.add_argument
    a(
        "--out",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder for FILE_factory_audit.csv and .png (default: the current one)",
    )
    a(
        "--dead",
        type=_threshold,
        default=0.01,
        help="units below this share of a typical one are dead (default: 0.01)",
    )
    a(
        "--near",
        type=_threshold,
        help="units nearer than this are copies (default: 0.1, or below chance)",
    )
    c = add(report)
    _scale(c, seeds=False)
    c.add_argument("--jobs", type=_positive, help="processes that judge claims")
    c.add_argument(
        "--reference", action="store_true", help="show the committed rows instead"
    )
    _scale(add(reference), seeds=False)
    trees = "a folder such as results or results/reference, or an archive"
    c = add(diff, a={"type": Path, "metavar": "A", "help": trees},
            b={"type": Path, "metavar": "B", "help": "the same"},
            names={"nargs": "*", "metavar": "NAME",
                   "help": "experiments (default: all)"})  # fmt: skip
    a = c.add_argument
    for flag, what in (("--rtol", "relative"), ("--atol", "absolute")):
        a(
            flag,
            type=_tolerance,
            action="append",
            default=[],
            metavar="[COLUMN=]X",
            help=f"{what} tolerance, of all columns or of one "
            f"(default: {1e-6 if flag == '--rtol' else 1e-12:g})",
        )
    a("--provenance", action="store_true",
      help="compare wall time, machine, versions and commit, too")  # fmt: skip
    a("--json", action="store_true", help="print everything as JSON")
    file = {"type": Path, "metavar": "FILE.zip", "help": "a file that is not there yet"}
    c = add(archive, file=file, names=some)
    _scale(c, seeds=False)
    c.add_argument(
        "--reference", action="store_true", help="pack the committed rows instead"
    )
    named = "portions of portions.toml (default: all)"
    c = add(portions, names=some | {"help": named})
    _scale(c, seeds=False, default="paper")
    a = c.add_argument
    a("--minutes", type=_minutes, default=8.0, help="time of this call (default: 8)")
    a("--device", default="cuda", help="cuda (default), or cpu to see that they work")
    a("--list", action="store_true", help="say what is there and what is missing")
    a("--pack", type=Path, metavar="DIR", help="copy CIFAR-10, compressed, to a folder")
    return p


def _workers(c) -> None:
    a = c.add_argument
    a("--jobs", type=_positive, help="worker processes (default: the cores)")
    a("--backend", help="whose workers: joblib (default: of this machine), dask or ray")
    a(
        "--scheduler",
        default="",
        metavar="ADDRESS",
        help="a running cluster, as tcp://host:8786 (dask) or ray://host:10001",
    )
    a(
        "--timeout",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="a call of run that takes longer is stopped; a single run then has failed",
    )
    a("--device", default="cpu", help="cpu or cuda")
    a("--dry-run", action="store_true", help="print the plan with its ETA and stop")


def _scale(c, seeds: bool = True, default: str = "quick") -> None:
    c.add_argument(
        "--scale",
        default=default,
        type=_known_scale,
        help="smoke (seconds), quick (minutes), paper (hours, GPU); default: "
        f"{default}",
    )
    if not seeds:
        return
    c.add_argument(
        "--seed0",
        type=int,
        default=0,
        metavar="S",
        help="add S to every seed: the same design on unseen seeds",
    )


def _known_scale(name: str) -> str:
    if name not in SCALES:
        raise argparse.ArgumentTypeError(nearest(name, SCALES, "scale"))
    return name


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of workers: use 1 or more"
        )
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds: use one above 0"
        )
    return value


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of minutes: use 8, or 0.5 for half a minute"
        )
    return value


def _tolerance(text: str) -> tuple[str, float]:
    """(column, tolerance); the column is '' where it is of all."""
    column, _, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a tolerance: use a number of at least 0, as 1e-6 or "
            "loss=1e-6"
        )
    return column, value


def _threshold(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
