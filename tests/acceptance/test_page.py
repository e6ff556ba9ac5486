"""The page in a real browser, with the real service behind it."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect, sync_playwright

from tests import images
from tests.gateway_support import gateway, whole_service
from tests.service import Running, Service
from tests.stack import RunningStack

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

RED, BLUE = (255, 0, 0), (0, 0, 255)
SOON_MS = 10_000


@pytest.fixture(scope="module")
def service(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Analyzer and sink."""
    with whole_service(tmp_path_factory.mktemp("page")) as made:
        yield made


@pytest.fixture(scope="module")
def served(service: Service) -> Iterator[tuple[httpx.Client, Running]]:
    """A gateway and a client of it."""
    with gateway(service) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    with sync_playwright() as playwright:
        # Chromium refuses to have its own sandbox where root runs it.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, served: tuple[httpx.Client, Running]) -> Iterator[Page]:
    """The page, opened; a test fails where its scripts say anything on the console."""
    client, _ = served
    opened = browser.new_page(base_url=str(client.base_url))
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto("/")
    expect(opened.locator("#connection")).to_have_attribute("data-state", "live", timeout=SOON_MS)
    yield opened
    opened.close()
    # That an answer was no 2xx is for the page to say, and each test's business.
    assert [text for text in said if not text.startswith("Failed to load resource")] == []


def send(page: Page, name: str, colour: tuple[int, int, int]) -> None:
    file = FilePayload(name=name, mimeType="image/jpeg", buffer=images.jpeg(colour=colour))
    page.set_input_files("#files", files=[file])


def test_an_upload_appears_live_with_its_box_and_can_be_filtered(page: Page) -> None:
    send(page, "red.jpg", RED)
    send(page, "blue.jpg", BLUE)
    for colour in ("red", "blue"):
        shown = page.locator("#grid .card", has=page.locator(f"g.found title:text-matches('^{colour} ')"))
        expect(shown.first).to_be_visible(timeout=SOON_MS)
    page.fill("#filters [name=label]", "red")
    expect(page.locator("#grid .card .words span", has_text="blue")).to_have_count(0)
    expect(page.locator("#grid .card .words span", has_text="red").first).to_be_visible()
    assert "label=red" in page.url
    page.reload()
    expect(page.locator("#filters [name=label]")).to_have_value("red")
    page.fill("#filters [name=label]", "unicorn")
    expect(page.locator("#empty")).to_have_text("Nothing fits these filters.", timeout=SOON_MS)


def test_a_result_in_detail_by_keyboard_alone(page: Page) -> None:
    for _ in range(2):
        send(page, "red.jpg", RED)
    expect(page.locator("#grid .card").nth(1)).to_be_visible(timeout=SOON_MS)
    page.locator("#grid .card").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_visible()
    expect(page.locator("#detections li")).to_have_count(1)
    expect(page.locator("#timings span").first).to_be_visible()
    first = page.locator("#json").text_content()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#json")).not_to_have_text(first or "")
    before = page.locator("#stage svg").get_attribute("viewBox")
    page.keyboard.press("+")
    assert page.locator("#stage svg").get_attribute("viewBox") != before
    page.keyboard.press("0")
    assert page.locator("#stage svg").get_attribute("viewBox") == before
    page.keyboard.press("h")
    expect(page.locator("#stage g.found").first).to_be_hidden()
    page.keyboard.press("h")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()


def test_what_is_no_image_is_said_at_its_line(page: Page) -> None:
    file = FilePayload(name="broken.jpg", mimeType="image/jpeg", buffer=images.jpeg()[:300])
    page.set_input_files("#files", files=[file])
    expect(page.locator("#uploads .failed")).to_contain_text("broken.jpg", timeout=SOON_MS)
    expect(page.locator("#uploads .failed")).to_contain_text("damaged")


def test_nothing_is_wider_than_a_telephone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    send(page, "red.jpg", RED)
    expect(page.locator("#grid .card").first).to_be_visible(timeout=SOON_MS)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("#grid .card").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_names_and_labels_are_text_and_never_markup(page: Page, service: Service) -> None:
    service.publish([service.request(images.jpeg(colour=RED), "<img src=x onerror=alert(1)>")])
    expect(page.locator("#grid .card b", has_text="<img src=x").first).to_be_visible(timeout=SOON_MS)
    assert page.locator("#grid img").count() == 0


def test_it_says_when_the_gateway_is_away_and_comes_back(service: Service, browser: Browser) -> None:
    with gateway(service) as (client, running):
        page = browser.new_page(base_url=str(client.base_url))
        page.goto("/")
        connection = page.locator("#connection")
        expect(connection).to_have_attribute("data-state", "live", timeout=SOON_MS)
        address = f"{client.base_url.host}:{client.base_url.port}"
        assert running.stop(signal.SIGTERM) == 0
        expect(connection).to_have_attribute("data-state", "away", timeout=SOON_MS)
        with service.run("gateway", GATEWAY_ADDRESS=address) as again:
            again.wait_ready()
            expect(connection).to_have_attribute("data-state", "live", timeout=SOON_MS)
            send(page, "red.jpg", RED)
            expect(page.locator("#grid .card.new, #grid .card").first).to_be_visible(timeout=SOON_MS)
        page.close()


def test_the_first_view_is_small(served: tuple[httpx.Client, Running]) -> None:
    client, _ = served
    folder = Path(__file__).parents[2] / "gateway" / "static"
    page = client.get("/", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert sum(len(client.get(f"/static/{file.name}").content) for file in folder.iterdir()) < 100_000
    assert client.get("/static/../app.py").status_code == 404


def test_numbers_and_dead_letters(page: Page, service: Service) -> None:
    send(page, "red.jpg", RED)
    service.publish([b"no request"])
    page.click("nav a[href='#numbers']")
    expect(page.locator("#modules tbody tr", has_text="dummy")).to_be_visible(timeout=SOON_MS)
    expect(page.locator("#label-counts li", has_text="red")).to_be_visible(timeout=SOON_MS)
    page.click("nav a[href='#dead-letters']")
    letter = page.locator("#letters li", has_text="message_not_json")
    expect(letter.first).to_be_visible(timeout=SOON_MS)
    letter.first.get_by_role("button", name="Publish again").click()
    page.locator("#confirm").get_by_role("button", name="Leave it").click()
    expect(letter.first).to_be_visible()
    letter.first.get_by_role("button", name="Publish again").click()
    page.locator("#confirm").get_by_role("button", name="Publish again").click()
    page.select_option("#letter-state", "replayed")
    expect(page.locator("#letters li", has_text="message_not_json").first).to_be_visible(timeout=SOON_MS)
