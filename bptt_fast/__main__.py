"""`python -m bptt_fast` is the command `bptt-fast`."""

import sys

from .cli import main

sys.exit(main())
