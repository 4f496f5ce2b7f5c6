"""One request as serving encodes it."""

from collections.abc import Mapping

from training.features import (
    FeatureSchema,
    HistoryIndex,
    Int64,
    RawRequest,
    RequestTensors,
    UInt64,
    encode_requests,
)


def encode_request(
    schema: FeatureSchema,
    items: HistoryIndex,
    *,
    user: Mapping[str, str | None],
    context: Mapping[str, str | None],
    history_keys: UInt64,
    history_ts_us: Int64,
    ts_us: int,
) -> RequestTensors:
    """Tensors of one request (B = 1)."""
    raw = RawRequest(user, context, history_keys, history_ts_us, ts_us)
    return encode_requests(schema, items, [raw])
