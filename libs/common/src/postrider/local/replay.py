"""`make replay-history`, `make export-events`: the segment-engine's command with Kafka and Postgres and no service.

The arguments go to `python -m segment_engine.replay`. Ends what it started.
"""

import asyncio
import os
import sys
from collections.abc import Sequence

from postrider.local.errors import LocalError
from postrider.local.home import home_from, load_secrets
from postrider.local.prepare import prepare
from postrider.local.services import SEGMENT_ENGINE, SERVICES, service_environment
from postrider.local.suite import Suite

MODULE = "segment_engine.replay"


async def run(arguments: Sequence[str]) -> int:
    """The exit code of the command. Raises LocalError: also while `make run` runs, which owns the home."""
    suite = Suite(home_from(os.environ), os.environ, fixed_ports=True, services=())
    try:
        await suite.start()
        assert suite.addresses is not None
        environment = service_environment(
            SEGMENT_ENGINE,
            os.environ,
            home=suite.home,
            ports={service.name: service.usual_port for service in SERVICES},
            addresses=suite.addresses,
            secrets=load_secrets(suite.home),
        )
        await prepare(suite.home, {SEGMENT_ENGINE: environment})
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", MODULE, *arguments, env=environment)
        return await process.wait()
    finally:
        await suite.stop()


def main() -> None:
    try:
        sys.exit(asyncio.run(run(sys.argv[1:])))
    except (LocalError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
