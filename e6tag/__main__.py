"""`python -m e6tag VERB ...` is the `e6tag` command."""

import sys

from e6tag.start import main

if __name__ == "__main__":
    sys.exit(main())
