"""Run: a load test inside Locust, in one process or in many.

The master, or the only process, conducts: it sends orders as messages, gathers the reports, and at
the end judges, writes and sets the exit code. Every other process has one `Source`, a Locust user
that carries out the orders.
"""

import logging
import sys
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.queue import Queue
from locust import FastHttpUser, task
from locust.contrib.fasthttp import FastHttpSession
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner

from loadtest.bar import Bar
from loadtest.conductor import Crew, conduct
from loadtest.delivery import INVALID, deliver
from loadtest.generator import Generator
from loadtest.options import Options, read_options, read_population, read_traffic
from loadtest.order import Order, Report
from loadtest.presets import longest_s, plan_of
from loadtest.step import LoadError
from loadtest.tally import Call
from loadtest.traffic import longest_wait_s

SESSIONS = 16
"""Sets of connections of a process, among which visits are spread."""
CONNECTIONS = 4096
"""Of a set, at most: a visit never waits for another one's connection."""
ORDER, REPORT = "order", "report"
GRACE_S = 5.0


class Source(FastHttpUser):
    """Carries out the orders of one process."""

    abstract = True
    orders: "Queue[Order]"

    @task
    def work(self) -> None:
        """Take the next order."""
        order = self.orders.get()
        report = self.generator.run(order)
        runner = self.environment.runner
        assert runner is not None
        runner.send_message(REPORT, report.to_dict())

    def on_start(self) -> None:
        """Make the connections of this process."""
        options = self.environment.parsed_options
        assert options is not None
        traffic = read_traffic(options)
        sessions = [self._session(traffic.timeout_s) for _ in range(SESSIONS)]
        self.generator = Generator(sessions, read_population(options), traffic, self._tell_locust)

    def _session(self, timeout_s: float) -> FastHttpSession:
        return FastHttpSession(
            self.host,
            self.environment.events.request,
            user=self,
            network_timeout=timeout_s,
            connection_timeout=timeout_s,
            concurrency=CONNECTIONS,
        )

    def _tell_locust(self, call: Call) -> None:
        """A second entry in Locust's statistics, timed from the intended send."""
        self.environment.events.request.fire(
            request_type="OPEN",
            name=f"{call.route.value} from intended send ({call.verdict.outcome.value})",
            response_time=call.latency_ms,
            response_length=0,
            exception=None,
            context={},
        )


@dataclass
class Course:
    """A test as the conducting process sees it, and what Locust's events do to it."""

    environment: Environment
    runner: Runner
    options: Options
    inbox: "Queue[Report]" = field(default_factory=Queue)
    exit_code: int = INVALID
    greenlet: gevent.Greenlet | None = None

    def take_report(self, msg: Any, **_: object) -> None:  # noqa: ANN401
        """A process has done its share of a step."""
        self.inbox.put(Report.from_dict(msg.data))

    def start(self, **_: object) -> None:
        """Every process has its source: begin, unless it is only the crew that changed."""
        if self.greenlet is None or self.greenlet.ready():
            self.greenlet = gevent.spawn(self._run)

    def quitting(self, **_: object) -> None:
        """Leave the exit code to Locust; what was ended early was not run."""
        if self.greenlet is not None:
            self.greenlet.kill()
        self.environment.process_exit_code = self.exit_code

    def _run(self) -> None:
        try:
            self._conduct()
        except (LoadError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            self.exit_code = INVALID
        finally:
            if self.environment.web_ui is None:
                self.runner.quit()
            else:
                self.runner.stop()

    def _conduct(self) -> None:
        options = self.options
        patience_s = longest_wait_s(options.traffic) + GRACE_S
        crew = Crew(self._members, self._send, self.inbox, patience_s)
        plan = plan_of(options.preset, options.scale)
        with Bar(longest_s(options.preset, options.scale)) as bar:
            results = list(conduct(plan, crew, bar.watch, options.seed))
        self.exit_code = deliver(results, options, self.environment.host or "")

    def _members(self) -> list[str]:
        if isinstance(self.runner, MasterRunner):
            return [client.id for client in self.runner.clients.running]
        return ["local"]

    def _send(self, member: str, order: Order) -> None:
        self.runner.send_message(ORDER, order.to_dict(), member)


def install(environment: Environment) -> None:
    """Make an environment run the preset that its options name, or its master's.

    Ends the process where what was chosen cannot be run.
    """
    runner = environment.runner
    assert runner is not None
    # A Ctrl-C can strike in any greenlet. It reaches the main one all the same, unprinted.
    gevent.get_hub().NOT_ERROR += (KeyboardInterrupt,)
    orders: Queue[Order] = Queue()

    def take_order(msg: Any, **_: object) -> None:  # noqa: ANN401
        orders.put(Order.from_dict(msg.data))

    source = type("CascadeSource", (Source,), {"orders": orders, "abstract": False})
    if not isinstance(runner, MasterRunner):
        runner.register_message(ORDER, take_order)
    if isinstance(runner, WorkerRunner):
        environment.user_classes.append(source)
        return
    environment.user_classes[:] = [source]
    found = environment.parsed_options
    assert found is not None
    try:
        options = read_options(found)
        check_server(environment.host)
    except LoadError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(INVALID)
    found.num_users = found.num_users or found.expect_workers
    found.spawn_rate = found.spawn_rate or found.num_users
    if found.headless:
        # Locust's own tables would stand between ours.
        logging.getLogger("locust.stats_logger").setLevel(logging.WARNING)
    _attach(Course(environment, runner, options))


def _attach(course: Course) -> None:
    events = course.environment.events
    course.runner.register_message(REPORT, course.take_report)
    events.spawning_complete.add_listener(course.start)  # type: ignore[no-untyped-call]
    events.quitting.add_listener(course.quitting)  # type: ignore[no-untyped-call]


def check_server(host: str | None) -> None:
    """Raise unless a server at `host` says that it is ready.

    Raises:
        LoadError: no host is given, or nothing is ready there.
    """
    # Imported here, after Locust has patched the ssl module this would import.
    import urllib.request

    if not host:
        raise LoadError("--host is missing; name the server, such as http://127.0.0.1:8000")
    try:
        with urllib.request.urlopen(f"{host.rstrip('/')}/readyz", timeout=10):
            pass
    except (ValueError, OSError) as error:
        raise LoadError(
            f"no server is ready at {host} ({error}); start one with `cascade serve`"
        ) from error
