"""Print the tags of pictures.  Example: python test.py picture.png"""

import sys

from e6tag.start import script

if __name__ == "__main__":
    sys.exit(script("tag"))
