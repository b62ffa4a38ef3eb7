"""The playground in a browser, as a newcomer uses it."""

import pytest
from playwright.async_api import expect

from tests.clients import browser
from tests.clients.browser import Tab
from tests.clients.sound import duration
from tests.harness import Gateway

pytestmark = pytest.mark.anyio
browser.needed()

_PLAYED = """async (audio) => {
  audio.muted = true;
  audio.currentTime = audio.duration - 0.2;
  const ended = new Promise((resolve) => (audio.onended = resolve));
  await audio.play();
  await ended;
  return audio.duration;
}"""
"""Plays the end of a clip, and gives its length."""


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


async def test_a_job_can_be_cancelled(tab: Tab, stage: Gateway) -> None:
    await sign_in(tab, stage, "changeable")
    await submit_sample(tab)
    await tab.see("#job-id:not(:empty)")
    await tab.page.click("#cancel")
    await tab.stage("cancelled")

    assert "done" not in await tab.witnessed()
