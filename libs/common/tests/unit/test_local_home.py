"""The home: its secrets are made once and kept to their owner, its lock admits one launcher."""

import base64
import os
from pathlib import Path

import pytest
from nacl.public import PrivateKey

from postrider.local.child import birth_mark
from postrider.local.errors import HomeInUse
from postrider.local.home import Home, HomeLock, home_from, load_secrets, lock_owner, workspace
from postrider.local.process import log_tail, recorded_pid


def test_secrets_are_kept_and_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    first = load_secrets(home)
    assert load_secrets(home) == first
    assert (home.path / "secrets.json").stat().st_mode & 0o777 == 0o600
    private = PrivateKey(base64.b64decode(first["POSTRIDER_SEALING_PRIVATE_KEY"]))
    assert base64.b64encode(bytes(private.public_key)).decode() == first["POSTRIDER_SEALING_PUBLIC_KEY"]
    assert len(bytes.fromhex(first["POSTRIDER_PHONE_HASH_KEY"])) == 32
    assert len(bytes.fromhex(first["POSTRIDER_DEDUP_KEY"])) == 16


def test_two_homes_have_different_secrets(tmp_path: Path) -> None:
    one, other = load_secrets(Home(tmp_path / "a")), load_secrets(Home(tmp_path / "b"))
    assert all(one[name] != other[name] for name in one)


def test_the_lock_admits_one_and_names_its_owner(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert lock_owner(home) is None
    with HomeLock(home) as lock:
        assert lock.held
        assert lock_owner(home) == os.getpid()
        with pytest.raises(HomeInUse, match=f"pid {os.getpid()}"), HomeLock(home):
            pass
    assert lock_owner(home) is None
    with HomeLock(home):
        pass


def test_where_the_home_is(tmp_path: Path) -> None:
    assert home_from({"POSTRIDER_HOME": str(tmp_path)}) == tmp_path
    assert home_from({}) == workspace() / ".local"


@pytest.mark.parametrize("content", ["", "17", "[]", "{}", '{"pid": "x", "birth": "y"}'])
def test_a_pid_file_that_proves_nothing_names_no_process(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content, "ascii")
    assert recorded_pid(file) is None


def test_a_later_process_with_the_same_pid_is_another(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(f'{{"pid": {os.getpid()}, "birth": "long ago"}}', "ascii")
    assert recorded_pid(file) is None
    file.write_text(f'{{"pid": {os.getpid()}, "birth": "{birth_mark(os.getpid())}"}}', "ascii")
    assert recorded_pid(file) == os.getpid()


def test_log_tail(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert log_tail(log) == ""
    log.write_text("".join(f"line {n}\n" for n in range(5000)), "utf-8")
    assert log_tail(log, 2) == "line 4998\nline 4999"
