"""`python -m houses`: the same as the command `houses`."""

import sys

from houses.cli.main import main

sys.exit(main())
