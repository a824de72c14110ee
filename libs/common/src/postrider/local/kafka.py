"""Apache Kafka itself, one KRaft node (broker and controller in one JVM), as a child of the launcher.

Fetches the jars with Maven once, formats the log directory once, starts, waits until the broker answers, stops.
Topics are not its business: none is auto-created, `postrider.kafka.topics` declares them.
"""

import asyncio
import base64
import fcntl
import hashlib
import re
import shutil
import struct
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from postrider.local.errors import PartMissing, StartFailed
from postrider.local.home import Home, workspace
from postrider.local.ports import KAFKA_PORT_VARIABLE, LOOPBACK, free_port, require_free
from postrider.local.process import Child, Command, end_orphan, log_tail, run_to_end, until

MIN_JAVA = 17
READY_SECONDS = 60.0
STOP_SECONDS = 20.0
FETCH_SECONDS = 600.0
JAVA_OPTIONS = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
)
INSTALL_HINT = (
    "install Java 17 or newer and Maven (Debian: apt-get install openjdk-17-jre-headless maven), "
    "or set KAFKA_BOOTSTRAP_SERVERS to a broker"
)


def find_java(env: Mapping[str, str]) -> str:
    """The java binary of JAVA_HOME, else of PATH; raises PartMissing when there is none of at least MIN_JAVA."""
    home = env.get("JAVA_HOME")
    candidates = [str(Path(home) / "bin" / "java")] if home else []
    candidates.append("java")
    seen: list[str] = []
    for candidate in candidates:
        java = shutil.which(candidate, path=env.get("PATH"))
        if java is None:
            continue
        shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
        version = java_version(shown)
        if version is not None and version >= MIN_JAVA:
            return java
        seen.append(f"{java} is version {version}" if version else f"{java} does not run")
    found = "; ".join(seen) if seen else "no java was found"
    raise PartMissing(f"Kafka needs Java {MIN_JAVA} or newer ({found}): {INSTALL_HINT}")


def java_version(shown: str) -> int | None:
    """The feature release in the output of `java -version` (8 for "1.8.0_292"); None when it cannot be read."""
    match = re.search(r'version "(\d+)(?:\.(\d+))?', shown)
    if match is None:
        return None
    first = int(match[1])
    return int(match[2]) if first == 1 and match[2] else first


async def fetch_jars(libs: Path, home: Home, env: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Fills `libs` with the jars that deploy/local/pom.xml names; runs Maven only when they are not there yet."""
    libs.parent.mkdir(parents=True, exist_ok=True)
    with (libs.parent / "libs.lock").open("w") as lock:  # two launchers with different homes may share one set of jars

        async def locked() -> bool:
            return _try_lock(lock)

        await until(locked, FETCH_SECONDS)
        pom = workspace() / "deploy" / "local" / "pom.xml"
        mark = hashlib.sha256(pom.read_bytes()).hexdigest()
        stamp = libs / ".pom"
        if stamp.exists() and stamp.read_text("ascii") == mark:
            return
        maven = shutil.which("mvn", path=env.get("PATH"))
        if maven is None:
            raise PartMissing(f"Kafka's jars are fetched by Maven, and mvn was not found: {INSTALL_HINT}")
        say("kafka: fetching the jars with Maven (once, about 50 MB)")
        partial, log = libs.with_name("libs.partial"), home.logs / "maven.log"
        shutil.rmtree(partial, ignore_errors=True)
        code = await run_to_end(
            Command(
                name="maven",
                argv=[maven, "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={partial}",
                      "-DincludeScope=runtime"],
                env=env, log=log, pid_file=None,
            ),
            patience_seconds=FETCH_SECONDS,
        )  # fmt: skip
        if code != 0:
            raise StartFailed(f"Maven could not fetch Kafka's jars (code {code}; all of it in {log}):\n{log_tail(log)}")
        (partial / ".pom").write_text(mark, "ascii")
        shutil.rmtree(libs, ignore_errors=True)
        partial.rename(libs)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def server_properties(data: Path, port: int, controller_port: int) -> str:
    """The configuration of the single node. Sizes fit a 512 MB heap; the rest is what one replica allows."""
    lines = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "num.partitions": "1",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # A killed consumer's partitions move when its session ends: let clients choose a short one.
        "group.min.session.timeout.ms": "1000",
        # A killed broker that comes back has to outwait the session of its former self.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "message.max.bytes": str(4 * 1024 * 1024),
        "replica.fetch.max.bytes": str(4 * 1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
        "num.recovery.threads.per.data.dir": "2",
        "log.cleaner.threads": "1",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "log.index.size.max.bytes": str(1024 * 1024),
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def new_cluster_id() -> str:
    """A random id as Kafka spells them, 22 characters of URL-safe base 64. One that begins with a dash would be taken
    for an option by Kafka's own tools, so it begins with a letter or digit, as Kafka's random ones do."""
    while True:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode("ascii")
        if not cluster_id.startswith("-"):
            return cluster_id


class EmbeddedKafka:
    """One broker on loopback, its data under a home. `start` and `stop` may be called again and again; data stays."""

    name = "kafka"

    def __init__(
        self,
        home: Home,
        env: Mapping[str, str],
        say: Callable[[str], None],
        *,
        port: int | None = None,
        libs: Path | None = None,
    ) -> None:
        """`port` None: a free one. `libs`: where the jars are or shall be (default: in the home)."""
        self._home = home
        self._env = env
        self._say = say
        self._folder = home.path / "kafka"
        self._libs = libs or self._folder / "libs"
        self._given_port = port
        self._command: Command | None = None
        self.port = port or 0
        self.child: Child | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid_file(self) -> Path:
        return self._home.pids / "kafka.json"

    async def start(self) -> None:
        """Returns when the broker answers; raises PartMissing, PortTaken or StartFailed."""
        orphan = await end_orphan(self.pid_file, Command.stop_signal, STOP_SECONDS)
        if orphan is not None:
            self._say(f"kafka: ended pid {orphan}, left behind by a launcher that died")
        if self._given_port is not None:
            require_free(self._given_port, KAFKA_PORT_VARIABLE)
        java = await asyncio.to_thread(find_java, self._env)
        await fetch_jars(self._libs, self._home, self._env, self._say)
        for attempt in range(3):
            if self._given_port is None:
                self.port = free_port()
            self._command = await self._prepare(java)
            try:
                self.spawn()
                await self._until_ready()
                return
            except StartFailed:
                await self.stop()
                # A free port may be taken between its choice and its use; a fixed one was checked by the caller.
                if self._given_port is not None or attempt == 2 or "Address already in use" not in self._tail():
                    raise

    def spawn(self) -> Child:
        """Start the process as configured by `start`, without waiting: also how it comes back after a death."""
        if self._command is None:
            raise RuntimeError("start() has not been called")
        self.child = Child(self._command)
        return self.child

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop(STOP_SECONDS)
            self.child = None

    async def _prepare(self, java: str) -> Command:
        """Writes the configuration, formats the log directory when it is new, and returns the broker's command."""
        data, config = self._folder / "data", self._folder / "server.properties"
        scratch = self._fresh_scratch()
        config.write_text(server_properties(data, self.port, free_port()), "utf-8")
        log4j = workspace() / "deploy" / "local" / "log4j2.properties"
        base = [
            java, *JAVA_OPTIONS, f"-Djava.io.tmpdir={scratch}", f"-Dlog4j2.configurationFile=file:{log4j}",
            f"-Dpostrider.kafka.log={self._home.logs / 'kafka.log'}", "-cp", f"{self._libs}/*",
        ]  # fmt: skip
        log = self._home.logs / "kafka.out"
        if not (data / "meta.properties").exists():
            # What an interrupted formatting left is not a log directory yet, and the tool refuses a half-made one.
            shutil.rmtree(data, ignore_errors=True)
            cluster_id = new_cluster_id()
            tool = [*base, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(config)]
            code = await run_to_end(Command("format", tool, self._env, log, pid_file=None), READY_SECONDS)
            if code != 0:
                raise StartFailed(f"Kafka's log directory could not be formatted (code {code}):\n{self._tail()}")
        argv = [*base, "kafka.Kafka", str(config)]
        return Command(self.name, argv, self._env, log, pid_file=self.pid_file, cwd=self._folder)

    def _fresh_scratch(self) -> Path:
        """A temporary directory for the JVM, without the native libraries that a killed one unpacked."""
        scratch = self._folder / "tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True, exist_ok=True)
        return scratch

    async def _until_ready(self) -> None:
        assert self.child is not None
        deadline = time.monotonic() + READY_SECONDS
        while not await broker_answers(LOOPBACK, self.port):
            code = self.child.exit_code()
            if code is not None:
                raise StartFailed(f"Kafka ended with code {code} while starting:\n{self._tail()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"Kafka did not answer within {READY_SECONDS:.0f} s:\n{self._tail()}")
            await asyncio.sleep(0.1)

    def _tail(self) -> str:
        return log_tail(self._home.logs / "kafka.out") + "\n" + log_tail(self._home.logs / "kafka.log")


async def broker_answers(host: str, port: int) -> bool:
    """Whether a Metadata request is answered with at least one broker: it then takes requests for topics, too."""
    try:
        async with asyncio.timeout(3):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                # Metadata v4: header (key 3, version 4, correlation 1, client id), no topics, no auto-creation.
                body = struct.pack(">hhih", 3, 4, 1, 5) + b"ready" + struct.pack(">i?", 0, False)
                writer.write(struct.pack(">i", len(body)) + body)
                size = struct.unpack(">i", await reader.readexactly(4))[0]
                reply = await reader.readexactly(size)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    _correlation, _throttle_ms, brokers = struct.unpack_from(">iii", reply)
    return bool(brokers > 0)
