"""For people who know Locust: `locust -f loadtest/locustfile.py --host http://127.0.0.1:8000`.

Without `--preset` this is a plain closed loop: each of `--users` visits, thinks, visits again. With
`--preset` it is the load test that `cascade loadtest` runs, and `--master`, `--worker`,
`--processes` spread it over processes and machines. All of it lands in the server's event log, so
point it at a data directory of its own.
"""

import random
import time
from itertools import count

from locust import FastHttpUser, events, task
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtest.options import add_options, read_population, read_traffic
from loadtest.population import Population
from loadtest.run import install
from loadtest.traffic import Traffic
from loadtest.visit import Visitor


def _install(environment: Environment, **_: object) -> None:
    options = environment.parsed_options
    # A worker learns from its master, and only later, what is to be run.
    if isinstance(environment.runner, WorkerRunner) or (options and options.preset):
        install(environment)


def _invite(environment: Environment, **_: object) -> None:
    options = environment.parsed_options
    assert options is not None
    Guest.population = read_population(options)
    Guest.traffic = read_traffic(options)
    Guest.seed = options.load_seed


events.init_command_line_parser.add_listener(add_options)  # type: ignore[no-untyped-call]
events.init.add_listener(_install)  # type: ignore[no-untyped-call]
events.test_start.add_listener(_invite)  # type: ignore[no-untyped-call]


class Guest(FastHttpUser):
    """Visits, and sometimes buys."""

    network_timeout = 5.0
    connection_timeout = 5.0
    numbers = count()
    population: Population
    traffic: Traffic
    seed: int

    def on_start(self) -> None:
        """Give every guest a random sequence of its own."""
        self.random = random.Random(f"{self.seed}/{next(self.numbers)}")
        self.visitor = Visitor(self.client, self.traffic, self.random, lambda _: None)

    def wait_time(self) -> float:
        """As long as before a purchase."""
        return self.visitor.think_s()

    @task
    def visit(self) -> None:
        """One visit: recommendations, and perhaps a purchase."""
        self.visitor.visit(self.population.draw(self.random), time.perf_counter())
