"""Turn pictures into vectors and a search index.  Example: python embed.py"""

import sys

from e6tag.start import script

if __name__ == "__main__":
    sys.exit(script("embed"))
