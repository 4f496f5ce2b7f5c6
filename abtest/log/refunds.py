"""Refunds: how much of a purchase may still be taken back.

A refund names a conversion. It is refused where the store knows of no such conversion, and where it
would take back more than is left of it: the second refund of a purchase that was taken back whole,
too. A purchase that only the journal of another process has is not known yet. What a refund takes
back is reserved under its own id, so sending it again changes nothing.
"""

from collections.abc import Mapping
from typing import Final

from abtest.log.attribution import Report
from abtest.log.record import event_key
from abtest.log.stream import REPORTS, Commands

_OK: Final = b"ok"
_UNKNOWN: Final = b"unknown"

# A purchase whose answer is not known yet waits beside the stream; what it sold for is not looked
# up. One without a revenue was written by a release that did not keep it.
_RESERVE = """
local sold = redis.call('GET', KEYS[1])
if not sold then
  return redis.call('HEXISTS', KEYS[3], ARGV[2]) == 1 and 'ok' or 'unknown'
end
if sold == '' or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 'ok' end
local back = tonumber(ARGV[3])
for _, micros in ipairs(redis.call('HVALS', KEYS[2])) do back = back + tonumber(micros) end
if back > tonumber(sold) then return sold end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 'ok'
"""


async def refused_refunds(
    client: Commands, claims: Mapping[int, Report], retention_s: int
) -> dict[int, str]:
    """Which refunds are refused, and why; the others are reserved.

    Args:
        client: of the store.
        claims: refunds, by any number.
        retention_s: how long what was taken back of a purchase is known.

    Raises:
        redis.RedisError: the store is away; refunds may have been reserved, which does no harm.
    """
    refused: dict[int, str] = {}
    for number, claim in claims.items():
        assert claim.refund_of is not None
        assert claim.revenue_micros is not None
        keys = (event_key(claim.refund_of), f"refunds:{claim.refund_of}", REPORTS)
        words = (claim.event_id, claim.refund_of, -claim.revenue_micros, retention_s)
        found = await client.execute_command("EVAL", _RESERVE, len(keys), *keys, *words)
        if found == _UNKNOWN:
            refused[number] = (
                f"refund_of {claim.refund_of!r} is no conversion of the last days, or not known "
                "yet; send the event_id of the conversion that is taken back, or try again"
            )
        elif found != _OK:
            refused[number] = (
                f"revenue_micros {claim.revenue_micros} takes back more than is left of "
                f"{claim.refund_of!r}, which sold for {int(found)}; "
                "send what is left, or nothing where that refund was sent before"
            )
    return refused
