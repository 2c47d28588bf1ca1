"""The options that every comparison has."""

import argparse

import cells


def parser(description, dtypes):
    """A parser of them, on `dtypes` unless others are named; a comparison adds its own."""
    made = argparse.ArgumentParser(description=description.splitlines()[0])
    made.add_argument("--ops", default=",".join(cells.OPS))
    made.add_argument("--dtypes", default=",".join(dtypes))
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--list", action="store_true", help="print the cells and do nothing")
    made.set_defaults(known_dtypes=dtypes)
    return made


def parsed(made, arguments):
    """The command line, with the names as lists; one that is not known is refused."""
    chosen = made.parse_args(arguments)
    chosen.ops, chosen.dtypes = chosen.ops.split(","), chosen.dtypes.split(",")
    for name in set(chosen.ops) - set(cells.OPS):
        made.error(f"no op is called {name}")
    for name in set(chosen.dtypes) - set(chosen.known_dtypes):
        made.error(f"no dtype of this comparison is called {name}")
    return chosen
