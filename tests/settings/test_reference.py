"""The settings, shown."""

from pathlib import Path

import pytest
import yaml

from gateway.settings import load, reference

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"
SECRET = "canary" * 6
ENVIRON = {
    "FAL_KEY": "canary:canary",
    "GATEWAY_SECRET_KEYS": f"{SECRET}1,{SECRET}2",
    "GATEWAY_API_KEYS": "fgw_abcd1234_" + "canary" * 4,
    "GATEWAY_ADMIN_KEY": "canary" * 3,
    "GATEWAY_REDIS_URL": "redis://user:canary@redis.example.com",
}


def test_check_shows_what_is_in_effect_and_where_it_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("port: 9000\nplans:\n  default:\n    endpoints: [a/b]\n  pro: {}\n")

    shown = reference.check(load(ENVIRON | {"GATEWAY_ENDPOINTS": "fal-ai/**"}, file))

    data = yaml.safe_load(shown)
    assert data["port"] == 9000
    assert data["host"] == "127.0.0.1"
    assert data["anonymous"] == "off"
    assert data["plans"]["default"]["endpoints"] == ["fal-ai/**"]
    assert set(data["plans"]) == {"default", "pro"}
    lines = {line.split(":")[0].strip(): line for line in shown.splitlines()}
    assert lines["port"] == f"port: 9000  # {file}:1"
    assert lines["secret_keys"] == "secret_keys: ['***', '***']  # GATEWAY_SECRET_KEYS"
    assert lines["workers"] == "workers: 1"


def test_check_shows_all_of_a_plan() -> None:
    example = DOCUMENT.parents[1] / "deploy" / "gateway.example.yaml"

    pro = yaml.safe_load(reference.check(load(ENVIRON, example)))["plans"]["pro"]

    assert {"endpoint": "**", "path": "prompt", "max_length": 2000} in pro["rules"]
    assert pro["limits"][0] == {"rate": "10/s", "burst": 20, "name": "principal-rate"}
    assert pro["budgets"][0] == {"usd": "5", "per": "day", "name": "principal-usd-day"}
    assert pro["max_body"] == 8 * 2**20
    assert pro["realtime_tokens"] is False


def test_check_masks_every_secret() -> None:
    shown = reference.check(load(ENVIRON))

    assert "canary" not in shown
    data = yaml.safe_load(shown)
    assert (data["fal"]["key"], data["redis"]["url"], data["admin_key"]) == ("***",) * 3
    assert (data["secret_keys"], data["api_keys"]) == (["***"] * 2, ["***"])
    bare = yaml.safe_load(reference.check(load({"FAL_KEY": "a:b"})))
    assert (bare["admin_key"], bare["api_keys"]) == (None, [])


def test_schema_describes_the_file() -> None:
    schema = reference.schema()

    assert schema["additionalProperties"] is False
    assert {"plans", "keys", "port", "fal"} <= set(schema["properties"])
    assert "required" not in schema
    assert "required" not in schema["$defs"]["Fal"]
    assert set(schema["$defs"]["KeyEntry"]["required"]) == {"name", "hash"}
    described = [schema, *schema["$defs"].values()]
    bare = [
        name
        for model in described
        for name, entry in model.get("properties", {}).items()
        if "description" not in entry and "$ref" not in entry
    ]
    assert bare == []


@pytest.mark.parametrize(
    "line",
    [
        "| `redis.url` | `GATEWAY_REDIS_URL` (*) |",
        "| `fal.key` | `FAL_KEY` (*) |  |",
        "| `accounts.<name>.weight` |  | `1` |",
        "| `plans.<name>.max_body` |  | 32 MiB |",
        "| `keys[].hash` |  | required |",
        "| `bodies.in_flight` | 256 MiB |",
        "| `fal.submit_timeout` | 60 s |",
    ],
)
def test_reference_has_settings_and_bounds(line: str) -> None:
    assert f"\n{line}" in reference.reference()


def test_documentation_is_up_to_date() -> None:
    """If not, write it anew from `reference.reference()`."""
    assert DOCUMENT.read_text() == reference.reference()
