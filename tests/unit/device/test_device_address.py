"""Addresses of agents."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailorbird.device import Address
from tailorbird.errors import UsageError


@pytest.mark.parametrize("text", ["/run/a", "/run/a/", "unix:/run/a", "unix:/run/a/control.sock", "unix:///run/a"])
def test_a_folder_or_a_socket_in_it_names_the_agent(text: str):
    address = Address.parse(text)
    assert (address.control, address.inference) == (Path("/run/a/control.sock"), Path("/run/a/inference.sock"))


def test_an_address_parses_back_from_its_text():
    address = Address.parse("/run/a")
    assert Address.parse(str(address)) == address


def test_a_relative_path_is_made_absolute():
    assert Address.parse("state").control == Path.cwd() / "state" / "control.sock"


def test_control_over_tcp_is_refused_with_the_way_that_works():
    with pytest.raises(UsageError) as caught:
        Address.parse("board.local:7000")
    assert "ssh" in caught.value.fix


def test_a_path_too_long_for_a_socket_is_refused_before_dialling():
    with pytest.raises(UsageError, match="too long"):
        Address.parse("/tmp/" + "x" * 120)
