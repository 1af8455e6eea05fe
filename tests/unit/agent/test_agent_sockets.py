from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tailorbird_agent.config import Config, load_config
from tailorbird_agent.errors import ConfigError
from tailorbird_agent.sockets import check_tcp, lock_state, prepare_folder, prepare_socket


def config(tmp_path: Path, **flags: object) -> Config:
    return load_config({"state": tmp_path, **flags}, environment={})


def test_a_socket_nobody_listens_on_makes_way(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    prepare_socket(path)
    assert not path.exists()
    prepare_socket(path)


def test_a_live_socket_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        with pytest.raises(ConfigError, match="another agent listens"):
            prepare_socket(path)
    assert path.exists()


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="not a socket"):
        prepare_socket(path)
    assert path.read_text() == "precious"


def test_a_path_longer_than_the_system_allows_is_refused_with_its_length() -> None:
    path = Path("/tmp/" + "x" * 98 + ".sock")
    assert len(os.fsencode(path)) == 108
    with pytest.raises(ConfigError, match="108 bytes, the system allows 107"):
        prepare_socket(path)


def test_a_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="can be changed by others"):
        prepare_folder(folder)


def test_a_new_folder_is_for_us_alone(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_state_folder_has_one_agent(tmp_path: Path) -> None:
    lock = lock_state(tmp_path)
    with pytest.raises(ConfigError, match="another agent uses"):
        lock_state(tmp_path)
    os.close(lock)
    os.close(lock_state(tmp_path))


@pytest.mark.parametrize("address", ["127.0.0.1:8001", "[::1]:0", "127.9.9.9:1"])
def test_loopback_is_accepted_for_inference(tmp_path: Path, address: str) -> None:
    check_tcp(config(tmp_path, tcp=address))


@pytest.mark.parametrize("address", ["0.0.0.0:8001", "[::]:8001", "192.168.1.5:8001", "localhost:8001", "board:1"])
def test_anything_but_a_loopback_address_is_refused_without_tls(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="refused without TLS") as caught:
        check_tcp(config(tmp_path, tcp=address))
    assert "--tls-cert" in caught.value.fix


def test_control_over_tcp_is_refused_without_tls_even_on_loopback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="control over TCP") as caught:
        check_tcp(config(tmp_path, tcp_control="127.0.0.1:8002"))
    assert "--tls-cert" in caught.value.fix


@pytest.mark.parametrize("address", ["8001", ":8001", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        check_tcp(config(tmp_path, tcp=address))


def test_half_of_the_tls_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cert").touch()
    with pytest.raises(ConfigError, match="--tls-key, --tls-client-ca"):
        check_tcp(config(tmp_path, tcp="127.0.0.1:1", tls_cert=tmp_path / "cert"))
    paths = dict.fromkeys(("tls_cert", "tls_key"), tmp_path / "cert")
    with pytest.raises(ConfigError, match="is not a file"):
        check_tcp(config(tmp_path, tcp="0.0.0.0:1", **paths, tls_client_ca=tmp_path / "none"))
