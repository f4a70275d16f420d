# SPDX-License-Identifier: LGPL-2.1-or-later
"""Frame sizes: what the processor makes of a frame, and which sizes the training draws from."""
import math

FACTOR = 28                         # patch 14, 2x2 patches merged into one token
SHORTEST, LONGEST = 12544, 100352   # preprocessor_config.json: pixels of a pair of frames
MERGED = 64                         # so no frame becomes more than this many tokens

# merged tokens (rows, columns) a picture, and its share of the training
GRIDS = {(8, 8): 0.30, (6, 10): 0.18, (6, 9): 0.16, (5, 10): 0.05, (7, 8): 0.06, (8, 7): 0.03, (9, 6): 0.06,
         (10, 6): 0.05, (10, 5): 0.02, (5, 12): 0.02, (7, 9): 0.01, (5, 5): 0.03, (6, 6): 0.01, (7, 7): 0.01,
         (4, 6): 0.005, (4, 4): 0.005}


def smart_resize(height, width):
    """Height and width of the model's input for one still frame."""
    if height < FACTOR or width < FACTOR:
        scale = max(FACTOR / height, FACTOR / width)
        height, width = int(height * scale), int(width * scale)
    h, w = round(height / FACTOR) * FACTOR, round(width / FACTOR) * FACTOR
    if 2 * h * w > LONGEST:
        beta = math.sqrt(2 * height * width / LONGEST)
        h = max(FACTOR, math.floor(height / beta / FACTOR) * FACTOR)
        w = max(FACTOR, math.floor(width / beta / FACTOR) * FACTOR)
    elif 2 * h * w < SHORTEST:
        beta = math.sqrt(SHORTEST / (2 * height * width))
        h = math.ceil(height * beta / FACTOR) * FACTOR
        w = math.ceil(width * beta / FACTOR) * FACTOR
    return h, w
