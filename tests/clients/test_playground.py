"""The playground in a browser, as a newcomer uses it."""

import re
from datetime import datetime, timedelta

import pytest
from playwright.async_api import Route, expect

import gateway
from tests.clients import browser
from tests.clients.browser import PATIENCE, Tab
from tests.clients.sound import duration
from tests.harness import Gateway, Running, Simulator

pytestmark = pytest.mark.anyio
browser.needed()

MODEL = "fal-ai/stable-audio-25/audio-to-audio"

_PLAYED = """async (audio) => {
  audio.muted = true;
  audio.currentTime = audio.duration - 0.2;
  const ended = new Promise((resolve) => (audio.onended = resolve));
  await audio.play();
  await ended;
  return audio.duration;
}"""
"""Plays the end of a clip, and gives its length."""


@pytest.fixture(scope="module")
def open_stage(running: Running, slow_sim: Simulator) -> Gateway:
    """The same, open to whatever runs on this machine."""
    env = {"GATEWAY_PLAYGROUND": "true", "GATEWAY_ANONYMOUS": "loopback"}
    return running.gateway(slow_sim, env=env)


async def sign_in(tab: Tab, gateway: Gateway, user: str) -> None:
    await tab.page.goto(f"{gateway.url}/")
    await tab.page.fill("#token", gateway.token(user))
    await tab.page.click("#sign-in")
    await tab.see("#work")


async def submit_sample(tab: Tab, **fields: str) -> None:
    """Send the sample clip, with `fields` by their ids."""
    if await tab.page.get_attribute("#in-duration", "data-seconds") is None:
        await tab.page.click("#sample")
        await tab.see("#in-duration[data-seconds]")
    for name, value in fields.items():
        await tab.page.fill(f"#{name}", value)
    await tab.page.click("#submit")


async def submitted(tab: Tab, endpoint: str, model_input: dict[str, str]) -> str:
    """The id of a job that a program of the same user sent, without metadata."""
    url = f"{tab.page.url.partition('#')[0]}v1/jobs"
    headers = {"origin": url.removesuffix("/v1/jobs")}
    body = {"endpoint": endpoint, "input": model_input}
    answer = await tab.page.request.post(url, data=body, headers=headers)
    assert answer.status == 202
    job_id: str = (await answer.json())["id"]
    return job_id


async def aged(route: Route) -> None:
    """The job, or the list of jobs, as it is but for the times."""
    if "wait=" in route.request.url:
        await route.fulfill(status=503)  # the page waits for a change, and none comes
        return
    answer = await route.fetch()
    body = await answer.json()
    for job in body.get("jobs", [body]):
        for name in ("created_at", "started_at"):
            if job[name]:
                at = datetime.fromisoformat(job[name].replace("Z", "+00:00"))
                job[name] = (at - timedelta(hours=3)).isoformat()
    await route.fulfill(response=answer, json=body)


async def unavailable(route: Route) -> None:
    await route.fulfill(status=503)


async def taken(route: Route) -> None:
    await route.fulfill(status=202, body="{}")


async def test_a_newcomer_transforms_the_sample_clip(tab: Tab, stage: Gateway) -> None:
    await sign_in(tab, stage, "newcomer")
    await submit_sample(tab, prompt="Synthwave, neon", seconds="5", seed="18446744073709551615")
    await tab.stage("done")
    await tab.shot("done")

    seen = await tab.witnessed()
    assert [await tab.number(f"#{name}") for name in ("in-duration", "out-duration")] == [3.0, 5.0]
    assert [each for each in seen if "position" not in each] == [
        "upload", "submit", "queue", "running", "fetch", "done",
    ]  # fmt: skip
    assert "position 2" in seen
    lines = await tab.page.locator("#logs p span").all_inner_texts()
    assert lines == list(dict.fromkeys(lines))
    assert {"Loading model", "Saving result"} <= set(lines)
    assert await tab.page.inner_text("#used-seed") == "18446744073709551615"
    assert await tab.page.locator("#out-audio").evaluate(_PLAYED) == pytest.approx(5.0, abs=0.05)
    async with tab.page.expect_download() as download:
        await tab.page.click("#download")
    path = await (await download.value).path()
    assert duration(path.read_bytes()) == 5.0


async def test_the_token_is_kept_by_a_cookie_that_scripts_cannot_read(
    tab: Tab, stage: Gateway
) -> None:
    """The link that the gateway prints signs in; its token leaves the address at once."""
    await tab.page.goto(f"{stage.url}/#token={stage.token('linked')}")
    await tab.see("#work")

    [cookie] = await tab.page.context.cookies()
    assert cookie.get("name") == "fgw_session"
    assert cookie.get("httpOnly") is True
    assert cookie.get("sameSite") == "Strict"
    assert tab.page.url == f"{stage.url}/"
    kept = await tab.page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]")
    assert kept == ["", 0, 0]

    await tab.page.click("#sign-out")
    await tab.see("#sign-in-card")
    await tab.page.reload()
    await tab.see("#sign-in-card")
    old = cookie.get("value", "")
    await tab.page.context.add_cookies([{"name": "fgw_session", "value": old, "url": stage.url}])
    await tab.page.reload()
    await tab.see("#sign-in-card")  # the cookie is good for nothing any more


async def test_a_bad_token_is_told_at_its_field(tab: Tab, stage: Gateway) -> None:
    await tab.page.goto(f"{stage.url}/")
    await tab.page.fill("#token", "not-a-token")
    await tab.page.click("#sign-in")
    await expect(tab.page.locator("#token-error")).to_contain_text("not valid")

    await tab.page.fill("#token", stage.token("second-try"))
    await tab.page.click("#sign-in")
    await tab.see("#work")


async def test_what_the_model_refuses_is_told_at_the_field_it_is_about(
    tab: Tab, stage: Gateway
) -> None:
    await sign_in(tab, stage, "hasty")
    await submit_sample(tab, seconds="500")
    await tab.stage("failed")
    await expect(tab.page.locator("#seconds-error")).to_contain_text("less than or equal to 190")
    await expect(tab.page.locator("#seconds")).to_have_attribute("aria-invalid", "true")
    await expect(tab.page.locator("#error")).to_contain_text("did not accept the input")
    await expect(tab.page.locator("#error-facts")).to_contain_text("HTTP 422")
    await expect(tab.page.locator("#retry")).to_be_hidden()
    await tab.shot("refused")

    await tab.page.fill("#seconds", "1")
    await expect(tab.page.locator("#seconds-error")).to_be_empty()
    await submit_sample(tab)
    await tab.stage("done")
    assert await tab.number("#out-duration") == 1.0
    await expect(tab.page.locator("#error")).to_be_hidden()


async def test_what_is_missing_is_told_before_anything_is_sent(tab: Tab, stage: Gateway) -> None:
    await sign_in(tab, stage, "empty-handed")
    await tab.page.fill("#prompt", "")
    await tab.page.click("#submit")

    await expect(tab.page.locator("#clip-error")).not_to_be_empty()
    await expect(tab.page.locator("#prompt-error")).not_to_be_empty()
    await expect(tab.page.locator("#run")).to_have_attribute("data-stage", "idle")


async def test_a_reloaded_page_takes_up_its_job(tab: Tab, stage: Gateway) -> None:
    await sign_in(tab, stage, "impatient")
    await submit_sample(tab, seconds="2")
    await tab.see("#job-id:not(:empty)")
    job_id = await tab.page.inner_text("#job-id")
    await tab.page.reload()
    await tab.stage("done")

    assert await tab.page.inner_text("#job-id") == job_id
    assert await tab.number("#out-duration") == 2.0
    assert await tab.number("#before-duration") == 3.0


async def test_a_reloaded_page_has_the_form_of_its_job(tab: Tab, stage: Gateway) -> None:
    await sign_in(tab, stage, "forgetful")
    await tab.page.click("#advanced summary")
    fields = {"prompt": "Lo-fi", "seconds": "2", "seed": "18446744073709551615", "steps": "9"}
    await submit_sample(tab, **fields)
    await tab.see("#job-id:not(:empty)")
    await tab.page.reload()
    await tab.stage("done")

    for name, value in fields.items():
        await expect(tab.page.locator(f"#{name}")).to_have_value(value)
    assert await tab.number("#in-duration") == 3.0


async def test_what_the_model_refuses_of_another_page_is_told_by_name(
    tab: Tab, stage: Gateway
) -> None:
    await sign_in(tab, stage, "elsewhere")
    job_id = await submitted(tab, MODEL, {"prompt": "Lo-fi"})
    await tab.page.goto(f"{stage.url}/#job={job_id}")
    await tab.page.reload()
    await tab.stage("failed")

    await expect(tab.page.locator("#error-detail")).to_have_text("audio_url: Field required")
    await expect(tab.page.locator("#error")).not_to_contain_text("marked")
    await expect(tab.page.locator("#clip-error")).to_be_empty()


async def test_a_result_without_a_sound_is_shown_as_it_is(tab: Tab, stage: Gateway) -> None:
    await sign_in(tab, stage, "silent")
    job_id = await submitted(tab, "sim/fault/fast", {"word": "mute"})
    await tab.page.reload()
    await tab.page.click(f"[data-id='{job_id}']")
    await tab.stage("done")

    await expect(tab.page.locator("#response")).to_be_visible()
    await expect(tab.page.locator("#response")).to_contain_text("mute")


async def test_a_job_that_tells_nothing_does_not_look_alive(tab: Tab, stage: Gateway) -> None:
    """Its times are three hours old; its events do not get through."""
    await sign_in(tab, stage, "patient")
    job_id = await submitted(tab, "sim/fault/hold", {})
    await tab.page.route(re.compile(r"/events$"), unavailable)
    await tab.page.route(re.compile(r"/v1/jobs(\?|/[^/]+$)"), aged)
    await tab.page.goto(f"{stage.url}/#job={job_id}")
    await tab.page.reload()

    await expect(tab.page.locator("#stage")).to_contain_text("Still")
    await expect(tab.page.locator("#elapsed")).to_have_text("sent 3 h ago")
    await tab.shot("old")
    await tab.page.click("#cancel")  # it would keep a place at fal from others
    await tab.page.click("#new-clip")
    await tab.stage("idle")
    assert tab.page.url == f"{stage.url}/"


async def test_a_cancellation_that_fal_does_not_follow_is_explained(
    tab: Tab, stage: Gateway
) -> None:
    await sign_in(tab, stage, "insistent")
    job_id = await submitted(tab, "sim/fault/hold", {})
    await tab.page.route(re.compile(r"/cancel$"), taken)
    await tab.page.goto(f"{stage.url}/#job={job_id}")
    await tab.page.reload()
    await tab.page.click("#cancel")

    await expect(tab.page.locator("#cancel")).to_have_text("Cancelling…")
    await expect(tab.page.locator("#waiting")).to_contain_text("may finish", timeout=PATIENCE)
    await expect(tab.page.locator("#cancel")).to_be_enabled()
    await tab.page.unroute(re.compile(r"/cancel$"))
    await tab.page.click("#cancel")
    await tab.stage("cancelled")
    await expect(tab.page.locator("#waiting")).to_be_hidden()


async def test_the_page_says_that_fal_is_a_simulator(tab: Tab, stage: Gateway) -> None:
    await tab.page.goto(f"{stage.url}/")
    await expect(tab.page.locator(".banner")).to_contain_text("Simulator No fal key is set")
    about = await (await tab.page.request.get(f"{stage.url}/playground/about.json")).json()
    assert about == {"simulated": True, "version": gateway.__version__}


async def test_anyone_on_this_machine_is_told_so_and_cannot_sign_out(
    tab: Tab, open_stage: Gateway
) -> None:
    await tab.page.goto(f"{open_stage.direct}/")
    await tab.see("#anyone")
    await expect(tab.page.locator("#sign-out")).to_be_hidden()

    await tab.page.click("#use-token")
    await tab.page.fill("#token", open_stage.token("named"))
    await tab.page.click("#sign-in")
    await tab.see("#sign-out")
    await expect(tab.page.locator("#anyone")).to_be_hidden()


async def test_who_signs_out_is_out_even_where_anyone_may_come_in(
    tab: Tab, open_stage: Gateway
) -> None:
    await tab.page.goto(f"{open_stage.direct}/#token={open_stage.token('leaving')}")
    await tab.page.click("#sign-out")
    await expect(tab.page.locator("#door-why")).to_contain_text("reload the page")
    await expect(tab.page.locator("#work")).to_be_hidden()

    await tab.page.reload()
    await tab.see("#anyone")


async def test_a_job_can_be_cancelled(tab: Tab, stage: Gateway) -> None:
    await sign_in(tab, stage, "changeable")
    await submit_sample(tab)
    await tab.see("#job-id:not(:empty)")
    await tab.page.click("#cancel")
    await tab.stage("cancelled")

    assert "done" not in await tab.witnessed()
