"""What each service gets to see, and on which ports the suite listens."""

import socket
from pathlib import Path

import pytest

from postrider.local.errors import LocalError, PortTaken
from postrider.local.home import Home
from postrider.local.parts import Addresses
from postrider.local.ports import free_port
from postrider.local.services import CAMPAIGN_API, DISPATCHER, SERVICES, Service, choose_ports, service_environment

PORTS = {service.name: service.usual_port for service in SERVICES}
SECRETS = {
    "POSTRIDER_SERVICE_TOKEN": "token",
    "POSTRIDER_SEALING_PRIVATE_KEY": "private",
    "POSTRIDER_SEALING_PUBLIC_KEY": "public",
    "POSTRIDER_POSTGRES_PASSWORD": "password",
}


def environment(service: Service, **env: str) -> dict[str, str]:
    return service_environment(
        service,
        env,
        home=Home(Path("/data")),
        ports=PORTS,
        addresses=Addresses("127.0.0.1:9092", "postgresql://u:p@127.0.0.1:54329/postrider"),
        secrets=SECRETS,
    )


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_secrets_reach_only_their_owner(service: Service) -> None:
    given = environment(service, POSTRIDER_SEALING_PRIVATE_KEY="private of the caller")
    assert ("POSTRIDER_SEALING_PRIVATE_KEY" in given) == (service is DISPATCHER)
    assert ("POSTRIDER_SEALING_PUBLIC_KEY" in given) == (service is CAMPAIGN_API)
    assert ("POSTRIDER_BOOTSTRAP_KEY" in given) == (service is CAMPAIGN_API)
    assert "POSTRIDER_POSTGRES_PASSWORD" not in given
    assert given["POSTRIDER_SERVICE_TOKEN"] == "token"


def test_defaults_of_one_machine() -> None:
    given = environment(CAMPAIGN_API)
    assert {name: given[name] for name in given if name != "PYTHONUNBUFFERED"} == {
        "POSTRIDER_BIND_HOST": "127.0.0.1",
        "POSTRIDER_DEVELOPMENT": "1",
        "POSTRIDER_BOOTSTRAP_KEY": "dev-admin-key",
        "POSTRIDER_HOME": "/data",
        "POSTRIDER_EVENT_STORE_PATH": "/data/event-store",
        "POSTRIDER_API_PORT": "8080",
        "POSTRIDER_DISPATCHER_PORT": "8081",
        "POSTRIDER_SEGMENT_ENGINE_PORT": "8082",
        "POSTRIDER_SCHEDULER_PORT": "8083",
        "POSTRIDER_CAMPAIGN_API_URL": "http://127.0.0.1:8080",
        "POSTRIDER_DISPATCHER_URL": "http://127.0.0.1:8081",
        "POSTRIDER_SEGMENT_ENGINE_URL": "http://127.0.0.1:8082",
        "POSTRIDER_SCHEDULER_URL": "http://127.0.0.1:8083",
        "POSTRIDER_PUBLIC_URL": "http://127.0.0.1:8081",
        "POSTRIDER_SERVICE_TOKEN": "token",
        "POSTRIDER_SEALING_PUBLIC_KEY": "public",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
        "DATABASE_URL": "postgresql://u:p@127.0.0.1:54329/postrider",
    }


def test_the_callers_environment_wins_and_an_empty_variable_is_none() -> None:
    given = environment(
        CAMPAIGN_API, POSTRIDER_PUBLIC_URL="https://sms.example", POSTRIDER_BOOTSTRAP_KEY="", TZ="", POSTRIDER_NEW="1"
    )
    assert given["POSTRIDER_PUBLIC_URL"] == "https://sms.example"
    assert given["POSTRIDER_BOOTSTRAP_KEY"] == "dev-admin-key"
    assert (given["TZ"], given["POSTRIDER_NEW"]) == ("", "1")


def test_free_ports_differ_and_variables_win() -> None:
    wanted = free_port()
    ports = choose_ports(SERVICES, {"POSTRIDER_API_PORT": str(wanted)}, fixed=False)
    assert ports["campaign-api"] == wanted
    assert len(set(ports.values())) == len(SERVICES)


def test_a_taken_port_is_named_with_its_variable() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port} .*POSTRIDER_DISPATCHER_PORT"):
            choose_ports(SERVICES, {"POSTRIDER_DISPATCHER_PORT": str(port)}, fixed=False)


@pytest.mark.parametrize("value", ["http", "0", "65536", "-1"])
def test_what_is_no_port_is_refused(value: str) -> None:
    with pytest.raises(LocalError, match="POSTRIDER_API_PORT"):
        choose_ports(SERVICES, {"POSTRIDER_API_PORT": value}, fixed=False)


def test_two_services_on_one_port_are_refused() -> None:
    port = str(free_port())
    with pytest.raises(LocalError, match="which another service has"):
        choose_ports(SERVICES, {"POSTRIDER_API_PORT": port, "POSTRIDER_SCHEDULER_PORT": port}, fixed=False)
