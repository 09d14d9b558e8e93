"""The crash campaign: SIGKILLs under load on a real Kafka, or one of the simulations of it.

Exit code 0: every promise was kept; 1: one was broken, or something was missing.
"""

import argparse
import secrets
import sys

from support.crash_points import every_point
from support.kafka_lab import own_kafka
from support.mutants import MUTANTS, catching_point, catching_seed
from support.power_cuts import cut_and_recover, cuts_of

from campaigns import script
from campaigns.campaign import campaign
from houses.config.types import hide_password
from houses.errors import HousesError


def main() -> int:
    """Run what is asked for; the exit code, 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="lab.py crashtest", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--kills", type=_count, default=20, metavar="N", help="kill the consumer N times (the usual: 20)")
    what.add_argument("--power-cuts", type=_count, metavar="N", help="simulate N power cuts (100 a second)")
    what.add_argument("--power-cut", type=int, metavar="SEED", help="simulate the power cuts of one seed again")
    what.add_argument("--points", action="store_true", help="kill before and after each call on files (20 s)")
    what.add_argument("--mutants", action="store_true", help="show which test catches which deliberate fault (2 min)")
    parser.add_argument("--seed", type=int, help="of --kills: moments, faults and stornos; the first of --power-cuts")
    parser.add_argument("--store", default="file", help="consumer.offset_store of --kills (the usual: file)")
    arguments = parser.parse_args()
    if arguments.power_cut is not None:
        cut_and_recover(arguments.power_cut)
        print(f"power cuts of seed {arguments.power_cut}: lost 0, twice 0")
    elif arguments.power_cuts is not None:
        first = arguments.seed or 0
        cuts, seeds = cuts_of(first, arguments.power_cuts)
        print(f"power cuts {cuts:,} (seeds {first:,} to {first + seeds - 1:,}), lost 0, twice 0")
    elif arguments.points:
        points = sum(1 for _ in every_point())
        print(f"crash points {points:,}, lost 0, twice 0")
    elif arguments.mutants:
        return _mutants()
    else:
        return _campaign(arguments.kills, arguments.seed, arguments.store)
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, 1 or more")
    return int(text)


def _mutants() -> int:
    """A table: the first seed of power cuts and the first crash point that catch each fault, or neither."""
    print("| deliberate fault | power cuts | crash points |\n|---|---|---|")
    survivors = 0
    for mutant in MUTANTS:
        seed, point = catching_seed(mutant), catching_point(mutant)
        cuts = "not caught" if seed is None else f"caught by seed {seed}"
        points = "not caught" if point is None else f"caught at point {point + 1}"
        print(f"| {mutant.name} | {cuts} | {points} |", flush=True)
        survivors += seed is None and point is None
    print(f"\n{len(MUTANTS) - survivors} of {len(MUTANTS)} caught")
    return 1 if survivors else 0


def _campaign(kills: int, seed: int | None, store: str) -> int:
    seed = secrets.randbits(32) if seed is None else seed
    again = f"python3 lab.py crashtest --kills {kills} --seed {seed} --store {hide_password(store)}"
    print(f"seed {seed}; again with: {again}")
    try:
        with own_kafka() as (folder, kafka):
            outcome = campaign(folder, kafka, kills, seed, {"consumer.offset_store": store})
    except HousesError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except AssertionError as error:  # of what was seen while it ran
        print(f"BROKEN: {error}", file=sys.stderr)
        return 1
    if not outcome.certificate.ok:
        print(outcome.certificate)
    print(outcome)
    return 0 if outcome.ok else 1


if __name__ == "__main__":
    sys.exit(script.run(main))
