"""Simulated power cuts: none loses or doubles anything, and each deliberate fault in the order of the steps is caught by them."""

from pathlib import Path
from random import Random

import pytest
from support import power_cuts
from support.mutants import MOST_SEEDS, MUTANTS, Mutant, catching_seed
from support.power_cuts import cut_and_recover, cuts_of
from support.simulated_disk import SimulatedDisk
from support.simulation import ROOT

_BLOCKS, _CUTS = 10, 2_500


def test_the_power_goes_here_and_there() -> None:
    """The first few seeds of the blocks below."""
    assert cuts_of(10**9, 200)[0] >= 200


@pytest.mark.slow
@pytest.mark.parametrize("block", range(_BLOCKS))
def test_no_power_cut_loses_or_doubles_anything(block: int) -> None:
    """25,000 of them in all."""
    cuts, seeds = cuts_of(block * 10_000, _CUTS)
    assert cuts >= _CUTS and seeds < 10_000


@pytest.mark.parametrize("seed", [6174, 29010, 35048, 102156, 131184])
def test_a_hole_in_the_last_batch_is_cut_off_though_the_record_is_gone_too(seed: int) -> None:
    """Zeros where a page was not written yet, in front of others that were."""
    assert cut_and_recover(seed) > 0


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_fault_in_the_order_of_the_steps_is_caught(mutant: Mutant) -> None:
    """By some seed among the first; without the fault that seed is fine."""
    seed = catching_seed(mutant)
    assert seed is not None, f"{MOST_SEEDS} seeds have not caught: {mutant.name}"
    cut_and_recover(seed)


def test_the_readme_tells_of_each_fault() -> None:
    """A row each, in this order."""
    rows = [line.split(" | ")[0] for line in (Path(__file__).parents[1] / "README.md").read_text().splitlines()]
    names = [f"| {mutant.name}" for mutant in MUTANTS]
    assert [row for row in rows if row in names] == names


def test_a_failing_seed_says_how_to_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command, with the seed and not with the block."""
    fails = {7: AssertionError("a line is gone")}

    def cut(seed: int) -> int:
        if error := fails.get(seed):
            raise error
        return 2

    monkeypatch.setattr(power_cuts, "cut_and_recover", cut)
    assert cuts_of(0, 14) == (14, 7)
    with pytest.raises(AssertionError, match="python3 lab.py crashtest --power-cut 7$"):
        cuts_of(0, 15)


def test_what_was_synced_stays_and_of_the_rest_any_part_does() -> None:
    """Names and bytes: with many cuts each combination comes, and nothing that was synced is missing in any."""
    found = set()
    for seed in range(200):
        disk = SimulatedDisk()
        synced, other = disk.open(ROOT / "synced"), disk.open(ROOT / "other")
        disk.write_at(synced, 0, b"kept")
        disk.sync(synced)
        disk.sync_dir(ROOT)
        disk.write_at(synced, 4, b"lost?")
        disk.write_at(other, 0, b"x")
        disk.rename(ROOT / "other", ROOT / "renamed")
        disk.cut_power(Random(seed))
        content = disk.content(ROOT / "synced") or b""
        assert content.startswith(b"kept")
        found.add((len(content), disk.content(ROOT / "other"), disk.content(ROOT / "renamed")))
    assert {length for length, _, _ in found} == {4, 5, 6, 7, 8, 9}
    assert {(other is None, renamed is None) for _, other, renamed in found} == {(False, True), (True, False)}
