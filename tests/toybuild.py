"""`astropile build` of the toy survey: python toybuild.py NATIVE TREE [OPTION ...]."""

import sys

if __name__ == "__main__":
    import toy
    from astropile.build import plan
    from astropile.cli.main import main

    # The toy is in no table of surveys.
    plan.get_survey = lambda _: toy.SURVEY
    sys.exit(main(["build", "toy", *sys.argv[1:]]))
