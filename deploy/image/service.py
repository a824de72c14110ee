"""What a container of a service runs; POSTRIDER_SERVICE, fixed in the image, says which service it is.

    (nothing)        the service itself
    migrate          its schema, brought up to date under the lock that all migrations share
    topics           Kafka's topics, created where they are missing
    import <file> …  events of the past, from a file into user-events (docs/imports.md)
    replay …         the segment-engine's alone: fills its event store again, or writes it to a file
    answers <path>   exit code 0 when the service's own HTTP port answers <path> with 200: the health check
    new-env          secrets for a new installation, as lines of an .env file for compose.yaml

Imports nothing but the standard library until it knows what to do: the health check runs every few seconds.
"""

import http.client
import os
import runpy
import sys

SERVICES = {
    "campaign-api": ("campaign_api", "POSTRIDER_API_PORT", 8080),
    "dispatcher": ("dispatcher", "POSTRIDER_DISPATCHER_PORT", 8081),
    "segment-engine": ("segment_engine", "POSTRIDER_SEGMENT_ENGINE_PORT", 8082),
    "scheduler": ("scheduler", "POSTRIDER_SCHEDULER_PORT", 8083),
}
"""Package, the variable of its port, its usual port."""
ANSWER_SECONDS = 4.0


def main(arguments: list[str]) -> int:
    package, port_variable, usual_port = SERVICES[os.environ["POSTRIDER_SERVICE"]]
    match arguments:
        case [] | ["migrate"]:
            _run(package, arguments)
        case ["topics"]:
            _run("postrider.kafka.topics", [])
        case ["import", *rest]:
            _run("postrider.imports", rest)
        case ["replay", *rest] if package == "segment_engine":
            _run("segment_engine.replay", rest)
        case ["answers", path]:
            port = int(os.environ.get(port_variable) or usual_port)
            return 0 if answers(os.environ.get("POSTRIDER_BIND_HOST", ""), port, path) else 1
        case ["new-env"]:
            sys.stdout.write("".join(f"{name}={value}\n" for name, value in new_env().items()))
        case _:
            sys.exit(__doc__)
    return 0


def _run(module: str, arguments: list[str]) -> None:
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def answers(bind_host: str, port: int, path: str) -> bool:
    """Whether the service answers 200; what it answers else is written out, for `docker inspect` to show."""
    host = "127.0.0.1" if bind_host in ("", "0.0.0.0", "::") else bind_host
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            sys.stdout.write(f"{path}: {answer.status} {answer.read(2000).decode(errors='replace')}\n")
        return answer.status == 200
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"{path}: {type(error).__name__} {error}\n")
        return False
    finally:
        connection.close()


def new_env() -> dict[str, str]:
    """Every secret that compose.yaml asks for, by the name of its variable."""
    import base64
    import secrets

    from nacl.public import PrivateKey

    sealing = PrivateKey.generate()
    return {
        "POSTRIDER_BOOTSTRAP_KEY": secrets.token_hex(24),
        "POSTRIDER_POSTGRES_PASSWORD": secrets.token_hex(16),
        "POSTRIDER_SERVICE_TOKEN": secrets.token_hex(24),
        "POSTRIDER_SEALING_PRIVATE_KEY": base64.b64encode(bytes(sealing)).decode("ascii"),
        "POSTRIDER_SEALING_PUBLIC_KEY": base64.b64encode(bytes(sealing.public_key)).decode("ascii"),
        "POSTRIDER_PHONE_HASH_KEY": secrets.token_hex(32),
        "POSTRIDER_DEDUP_KEY": secrets.token_hex(16),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
