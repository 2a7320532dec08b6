"""Train a tagger on shards.  Example: python train.py --config configs/demo.toml"""

import sys

from e6tag.start import script

if __name__ == "__main__":
    sys.exit(script("train"))
