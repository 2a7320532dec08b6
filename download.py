"""Fetch a tag-balanced sample of a booru.  Example: python download.py --contact yourname"""

import sys

from e6tag.start import script

if __name__ == "__main__":
    sys.exit(script("download"))
