"""RecFlow as published: the files of a day, their columns, and the ids' meaning.

Source: Liu et al., "RecFlow: An Industrial Full Flow Recommendation Dataset", ICLR 2025, and the
data set's own README.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROWS = "all_stage"
"""Folder of feathers: one row for each request and video that a stage logged."""
EXPOSURES = "realshow"
"""Folder of feathers: the rows that were shown."""
HISTORIES = "seq_effective_50_dict"
"""Folder of pickles: request id to int64 [50, 10], as `HISTORY_COLUMNS`."""
LOGGED_LISTS = "request_id_dict"
"""Folder of pickles: request id to list name to int64 [n, 8], as `LIST_COLUMNS`."""
COUNTS = Path("others", "id_cnt.pkl")
"""Field to number of ids; ids are 0 to that number less 1."""
CORPUS = Path("others", "realshow_video_info.feather")
"""Videos that were shown."""

DAY = re.compile(r"\d{4}-\d\d-\d\d")

REQUEST_COLUMNS = (
    "request_id", "request_timestamp", "user_id", "device_id", "age", "gender", "province",
)  # fmt: skip
"""The same in all rows of a request; `request_timestamp` in ms."""
VIDEO_COLUMNS = (
    "video_id", "author_id", "category_level_one", "category_level_two", "upload_type",
    "upload_timestamp", "duration",
)  # fmt: skip
"""`upload_timestamp` in s, `duration` in ms."""
FLAGS = (
    "realshow",
    "rerank_pos",
    "rerank_neg",
    "rank_pos",
    "rank_neg",
    "coarse_neg",
    "prerank_neg",
)
"""0 or 1: whether the row is in the list of that name."""
PLACES = {"rerank_pos": "rerank_index", "rank_pos": "rank_index"}
"""List to the column that says at which place the logging cascade put its rows, from 0."""
FEEDBACK = (
    "playing_time", "effective_view", "long_view", "like", "follow", "forward", "comment",
)  # fmt: skip
ROW_COLUMNS = (
    *REQUEST_COLUMNS, *VIDEO_COLUMNS, *FLAGS, "rank_index", "rerank_index", *FEEDBACK,
)  # fmt: skip

LIST_COLUMNS = (
    "video_id", "author_id", "duration", "category_level_two", "upload_type", "upload_timestamp",
    "category_level_one", "effective_view",
)  # fmt: skip
HISTORY_COLUMNS = (
    "video_id", "author_id", "category_level_two", "category_level_one", "upload_type",
    "upload_timestamp", "duration", "request_timestamp", "playing_time", "request_id",
)  # fmt: skip
"""`request_timestamp` is 0 in the padding, which comes first; the newest behaviour is last."""
PADDING_LEVEL_ONE = 2
"""What padding holds as `category_level_one`; zeros elsewhere."""

ALIASES = {"photo_id": "video_id"}
"""Older names of columns and fields."""
COUNTED = (
    "request_id", "user_id", "device_id", "age", "gender", "province", "video_id", "author_id",
    "category_level_one", "category_level_two", "upload_type",
)  # fmt: skip
"""Fields of `COUNTS`."""
SPACED = {"category_level_two": " category_level_two"}
"""Published with a leading space in `COUNTS`, `EXPOSURES` and `CORPUS`."""

LATEST_S = 2**32
"""Timestamps in seconds are below; one in milliseconds is not."""

Int64 = NDArray[np.int64]


def field_name(published: str) -> str:
    """The name of a published column or field: without spaces, the newer of two."""
    name = published.strip()
    return ALIASES.get(name, name)


def calendar(timestamps_s: Int64) -> Int64:
    """Weekday 1 to 7 (Monday 1), hour 1 to 24 and minute 1 to 60 in China, UTC+8 all year.

    Args:
        timestamps_s: [...] s since 1970-01-01 UTC.

    Returns:
        [..., 3]

    >>> calendar(np.array([1705075200]))  # Saturday 2024-01-13 00:00 in Beijing
    array([[6, 1, 1]])
    """
    minutes = timestamps_s // 60 + 8 * 60
    days = minutes // 1440
    # 1970-01-01 was a Thursday.
    return np.stack([(days + 3) % 7 + 1, minutes // 60 % 24 + 1, minutes % 60 + 1], axis=-1)
