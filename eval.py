"""Say how good a run is.  Example: python eval.py"""

import sys

from e6tag.start import script

if __name__ == "__main__":
    sys.exit(script("eval"))
