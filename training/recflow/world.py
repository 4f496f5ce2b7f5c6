"""A made-up platform: users with tastes, authors, and videos that come and go.

Tastes and videos live in one latent space. What is published of a video (its author, categories and
upload type) tells a part of where it lies there, its own id the rest.

Legend: U users, V videos on the platform, D latent width.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.recflow.schema import COUNTED

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

WIDTH = 8
LEVELS_ONE, LEVELS_TWO, UPLOAD_TYPES = 140, 784, 40
AGES, GENDERS, PROVINCES = 8, 3, 79
WARM_DAYS = 3
"""Days before the first one that is written; they give the users a history."""
SHELF_DAYS = 5
"""Days a video is recommended for."""
FRESHNESS = 0.6
"""Share of its popularity that a video keeps from one day to the next."""
VIDEOS_A_REQUEST = 4
USERS_A_REQUEST = 1 / 6
FIRST_MIDNIGHT_S = 1705075200
"""2024-01-13 in China."""
DAY_S = 86400


class Size(NamedTuple):
    """How much of everything there is."""

    requests: int
    """Of a day."""
    days: int
    """`WARM_DAYS` included."""
    users: int
    videos: int
    """New ones a day."""

    @classmethod
    def of(cls, requests: int, days: int) -> "Size":
        """Sizes in proportion to the requests of a day."""
        users = min(42472, max(20, int(requests * USERS_A_REQUEST)))
        return cls(requests, days, users, max(800, requests * VIDEOS_A_REQUEST))

    @property
    def counts(self) -> dict[str, int]:
        """Number of ids of each counted field."""
        numbers = (
            self.requests * self.days, self.users, self.users + self.users // 50 + 1, AGES, GENDERS,
            PROVINCES, self._all_videos, self.authors, LEVELS_ONE, LEVELS_TWO, UPLOAD_TYPES,
        )  # fmt: skip
        return dict(zip(COUNTED, numbers, strict=True))

    @property
    def authors(self) -> int:
        """Authors of all days."""
        return self._all_videos * 2 // 5

    @property
    def _all_videos(self) -> int:
        return self.videos * (self.days + SHELF_DAYS - 1)


class Users(NamedTuple):
    """All users."""

    published_UF: Int64
    """user_id, device_id, age, gender, province"""
    tastes_UD: Float32
    activity_U: Float32
    """Cumulated share of the requests."""


class Videos(NamedTuple):
    """Videos, one row each."""

    published_VF: Int64
    """As `VIDEO_COLUMNS`."""
    latents_VD: Float32
    quality_V: Float32
    popularity_V: Float32
    """Logarithm."""


class World:
    """Who there is, and what is uploaded day after day."""

    def __init__(self, size: Size, seed: int) -> None:
        """A world of its own for each seed."""
        self.size = size
        self._seed = seed
        random = np.random.default_rng((seed, 0))
        self.level_one_C = random.integers(0, LEVELS_ONE, LEVELS_TWO)
        self.level_one_C[:LEVELS_ONE] = np.arange(LEVELS_ONE)
        broad_D = _normal(random, LEVELS_ONE, WIDTH)
        self.centres_CD = 0.8 * broad_D[self.level_one_C] + 0.6 * _normal(random, LEVELS_TWO, WIDTH)
        self.hours_HC = 0.4 * _normal(random, 24, LEVELS_ONE)
        """How well a category goes with an hour of the day."""
        self.users = self._people(random)
        authors = size.authors
        self._homes_A = (LEVELS_TWO * random.random(authors) ** 1.7).astype(np.int64)
        self._authors_AD = 0.8 * self.centres_CD[self._homes_A]
        self._authors_AD += 0.5 * _normal(random, authors, WIDTH)
        self._quality_A = _normal(random, authors)
        self._habits_A = random.integers(0, UPLOAD_TYPES, authors)
        self._uploads_A = np.cumsum(random.pareto(1.5, authors) + 0.1)
        self._types_T = _normal(random, UPLOAD_TYPES)

    def _people(self, random: np.random.Generator) -> Users:
        users = self.size.users
        ages = random.choice(AGES, users, p=_zipf(AGES, 0.5))
        genders = random.choice(GENDERS, users, p=(0.48, 0.48, 0.04))
        provinces = random.choice(PROVINCES, users, p=_zipf(PROVINCES, 0.8))
        tastes_UD = (
            0.4 * _normal(random, AGES, WIDTH)[ages]
            + 0.4 * _normal(random, GENDERS, WIDTH)[genders]
            + 0.2 * _normal(random, PROVINCES, WIDTH)[provinces]
            + 0.8 * _normal(random, users, WIDTH)
        ) / np.float32(np.sqrt(WIDTH))
        devices = self.size.counts["device_id"]
        ids = [random.permutation(count)[:users] for count in (users, devices)]
        activity_U = np.cumsum(random.lognormal(0, 0.8, users))
        published = np.stack([*ids, ages, genders, provinces], axis=1)
        return Users(published, tastes_UD, (activity_U / activity_U[-1]).astype(np.float32))

    def drift(self, day: int, before_UD: Float32) -> Float32:
        """How far a day's interests are from the tastes; the day before lives on in them."""
        random = np.random.default_rng((self._seed, 1, day))
        fresh_UD = _normal(random, *before_UD.shape) / np.float32(np.sqrt(WIDTH))
        return 0.7 * before_UD + 0.5 * fresh_UD

    def uploads(self, day: int) -> Videos:
        """Videos uploaded the day before `day`, which is at least `1 - SHELF_DAYS`."""
        random = np.random.default_rng((self._seed, 2, day + SHELF_DAYS))
        count = self.size.videos
        authors = np.searchsorted(self._uploads_A, random.random(count) * self._uploads_A[-1])
        level_two = self._homes_A[authors]
        strays = random.random(count) < 0.15
        level_two[strays] = random.integers(0, LEVELS_TWO, strays.sum())
        types = self._habits_A[authors]
        strays = random.random(count) < 0.3
        types[strays] = random.integers(0, UPLOAD_TYPES, strays.sum())
        latents_VD = 0.7 * self._authors_AD[authors] + 0.3 * self.centres_CD[level_two]
        latents_VD += 0.4 * _normal(random, count, WIDTH)
        quality_V = 0.5 * self._quality_A[authors] + 0.3 * self._types_T[types]
        quality_V += 0.4 * _normal(random, count)
        popularity_V = 0.4 * quality_V + 0.8 * _normal(random, count)
        published_VF = np.stack(
            [
                self._video_ids(day + SHELF_DAYS - 1),
                scattered(authors, self.size.authors),
                self.level_one_C[level_two],
                level_two,
                types,
                midnight_s(day - 1) + random.integers(0, DAY_S, count),
                (1000 * np.exp(3 + 0.1 * self._types_T[types] + 0.7 * _normal(random, count)))
                .astype(np.int64),
            ],
            axis=1,
        )  # fmt: skip
        return Videos(published_VF, latents_VD, quality_V, popularity_V)

    def _video_ids(self, batch: int) -> Int64:
        first = batch * self.size.videos
        numbers = np.arange(first, first + self.size.videos)
        return scattered(numbers, self.size.counts["video_id"])


def midnight_s(day: int) -> int:
    """When a day begins; day `WARM_DAYS` is the first that is written."""
    return FIRST_MIDNIGHT_S + (day - WARM_DAYS) * DAY_S


def shelve(older: Videos, newer: Videos) -> Videos:
    """What is on the platform after a day's uploads, the newest first."""
    kept = slice(len(newer.quality_V) * (SHELF_DAYS - 1))
    faded_V = older.popularity_V[kept] + np.float32(np.log(FRESHNESS))
    return Videos(
        np.concatenate([newer.published_VF, older.published_VF[kept]]),
        np.concatenate([newer.latents_VD, older.latents_VD[kept]]),
        np.concatenate([newer.quality_V, older.quality_V[kept]]),
        np.concatenate([newer.popularity_V, faded_V]),
    )


def scattered(numbers: Int64, count: int) -> Int64:
    """Ids in an order that tells nothing: a permutation of 0 to `count` - 1."""
    factor = 2654435761 % count
    while np.gcd(factor, count) != 1:
        factor += 1
    return (numbers * factor + 12345) % count


def _normal(random: np.random.Generator, *shape: int) -> Float32:
    return random.standard_normal(shape, dtype=np.float32)


def _zipf(count: int, power: float) -> NDArray[np.float64]:
    weights = np.arange(1.0, count + 1) ** -power
    return np.asarray(weights / weights.sum())
