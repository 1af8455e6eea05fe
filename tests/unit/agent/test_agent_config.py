from __future__ import annotations

from pathlib import Path

import pytest

from tailorbird_agent.config import load_config
from tailorbird_agent.errors import ConfigError


def test_each_layer_overrides_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('name = "file"\nquota_bytes = 1\ndrain_timeout_s = 2\nstate = "/srv/file"\n')
    environment = {"TAILORBIRD_AGENT_NAME": "environment", "TAILORBIRD_AGENT_QUOTA_BYTES": "7", "HOME": "/nowhere"}
    config = load_config({"name": "flag", "tcp": None}, environment=environment, file=file)
    assert (config.name, config.quota_bytes, config.drain_timeout_s, config.tcp) == ("flag", 7, 2.0, "")
    assert config.state == Path("/srv/file")


def test_sockets_lie_in_the_state_folder_unless_told_otherwise(tmp_path: Path) -> None:
    config = load_config({"state": tmp_path}, environment={})
    assert config.control_socket == tmp_path / "control.sock"
    other = load_config({"state": tmp_path, "socket_dir": tmp_path / "run"}, environment={})
    assert other.inference_socket == tmp_path / "run" / "inference.sock"


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("quota_bytes = 5\n")
    assert load_config(environment={"TAILORBIRD_AGENT_CONFIG": str(file)}).quota_bytes == 5


@pytest.mark.parametrize("origin", ["file", "environment"])
def test_an_unknown_setting_is_refused_with_the_nearest_known_one(tmp_path: Path, origin: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("quota_byte = 5\n" if origin == "file" else "")
    environment = {"TAILORBIRD_AGENT_QUOTA_BYTE": "5"} if origin == "environment" else {}
    with pytest.raises(ConfigError, match="unknown setting") as caught:
        load_config(environment=environment, file=file)
    assert caught.value.fix == 'did you mean "quota_bytes"?'


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('quota_bytes = "much"', "is not a int"),
        ("quota_bytes = true", "is not a int"),
        ("name = 5", "is not a str"),
        ("drain_timeout_s = -1", "out of range"),
        ("drain_timeout_s = nan", "out of range"),
        ("name = ", "is not TOML"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=what):
        load_config(environment={}, file=file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(environment={}, file=tmp_path / "none.toml")


def test_a_hardware_root_has_a_proc_and_a_sys(tmp_path: Path) -> None:
    assert load_config(environment={}).hardware_root == Path("/")
    with pytest.raises(ConfigError, match="no proc or no sys"):
        load_config({"hardware_root": tmp_path}, environment={})
    for name in ("proc", "sys"):
        (tmp_path / name).mkdir()
    found = load_config(environment={"TAILORBIRD_AGENT_HARDWARE_ROOT": str(tmp_path)})
    assert found.hardware_root == tmp_path
