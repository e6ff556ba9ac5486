"""The gateway as programs use it, with a real analyzer and sink behind it."""

import io
import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests import images
from tests.gateway_support import free_port, gateway, whole_service
from tests.service import PROJECT, Service, eventually
from tests.stack import RunningStack

RED = (255, 0, 0)


@pytest.fixture(scope="module")
def service(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A whole service: analyzer and sink."""
    with whole_service(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    """A client of a gateway with the settings it has by itself."""
    with gateway(service) as (made, _):
        yield made


def post(client: httpx.Client, *files: tuple[str, bytes], **more: Any) -> httpx.Response:
    return client.post("/api/v1/images", files=[("file", file) for file in files], **more)


def problem(answer: httpx.Response, status: int, code: str) -> str:
    """Checks that an answer is the problem it should be, and returns its words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert (found["status"], found["code"], found["type"]) == (status, code, f"urn:analysis:error:{code}")
    return str(found["detail"])


def stored(client: httpx.Client, request_id: str) -> dict[str, Any]:
    """The one answer to a request, as soon as the sink has stored it."""
    parameters = {"request_id": request_id}
    (result,) = eventually(lambda: client.get("/api/v1/results", params=parameters).json()["results"])
    return dict(result)


def test_a_file_is_analyzed_while_its_sender_waits(client: httpx.Client) -> None:
    answer = post(client, ("a.jpg", images.jpeg(colour=RED)), params={"wait": 20})
    assert answer.status_code == 200, answer.text
    (image,) = answer.json()["images"]
    assert image["name"] == "a.jpg"
    assert image["image"]["key"].startswith("sha256/")
    (result,) = image["results"]
    assert result["status"] == "ok"
    assert [label["label"] for label in result["detections"][0]["labels"]] == ["red"]
    assert stored(client, image["request_id"]) == result


def test_several_files_at_once_and_nobody_waits(client: httpx.Client) -> None:
    files = [(f"{number}.jpg", images.jpeg(colour=(0, 0, 200 + number))) for number in range(3)]
    answer = post(client, *files, data={"attributes": '{"camera": "7"}', "module": ["dummy"]})
    assert answer.status_code == 202, answer.text
    found = answer.json()["images"]
    assert [image["name"] for image in found] == ["0.jpg", "1.jpg", "2.jpg"]
    location = answer.headers["location"]
    listed = eventually(lambda: len(results := client.get(location).json()["results"]) == 3 and results)
    assert {result["request_id"] for result in listed} == {image["request_id"] for image in found}
    assert {result["attributes"]["file"] for result in listed} == {"0.jpg", "1.jpg", "2.jpg"}
    assert {result["attributes"]["camera"] for result in listed} == {"7"}


def test_images_that_are_stored_already(client: httpx.Client, service: Service) -> None:
    key = json.loads(service.request(images.jpeg(), "stored"))["image"]["key"]
    body = {"images": [f"s3://uploads/{key}", {"bucket": "uploads", "key": key}], "attributes": {"a": "b"}}
    answer = client.post("/api/v1/images", json=body, headers={"Prefer": "respond-async, wait=20"})
    assert answer.status_code == 200, answer.text
    assert [image["results"][0]["status"] for image in answer.json()["images"]] == ["ok", "ok"]


def test_the_same_key_again_asks_for_the_same(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "order 17"}
    first, second = (
        post(client, ("a.jpg", images.jpeg()), headers=headers, params={"wait": 20}).json() for _ in range(2)
    )
    assert first["images"][0]["request_id"] == second["images"][0]["request_id"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "object_empty"),
        (b"no image", 415, "image_not_recognized"),
        (b"%PDF-1.7", 415, "image_format_unsupported"),
        (images.jpeg()[:400], 422, "image_corrupt"),
    ],
)
def test_what_is_no_image_is_refused_by_name(
    client: httpx.Client, content: bytes, status: int, code: str
) -> None:
    said = problem(post(client, ("good.jpg", images.jpeg()), ("bad.jpg", content)), status, code)
    assert said.startswith("bad.jpg: ")


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        (b"{", 400, "message_not_json", "truncated"),
        (b"{}", 422, "message_invalid", "images"),
        (b'{"images": []}', 400, "usage", "no image"),
        (b'{"images": ["/etc/passwd"]}', 422, "message_invalid", "s3://bucket/key"),
        (b'{"images": ["s3://secrets/key"]}', 403, "bucket_not_allowed", "secrets"),
        (b'{"images": ["s3://uploads/a/../b"]}', 422, "key_invalid", ".."),
        (b'{"images": ["s3://uploads/a"], "colour": 1}', 422, "message_invalid", "colour"),
    ],
)
def test_a_body_that_breaks_a_rule(
    client: httpx.Client, body: bytes, status: int, code: str, said: str
) -> None:
    headers = {"Content-Type": "application/json"}
    assert said in problem(client.post("/api/v1/images", content=body, headers=headers), status, code)


def test_lists_filters_and_pages(client: httpx.Client, service: Service) -> None:
    attribute = {"attributes": '{"test": "lists"}'}
    colours = [RED, (0, 160, 0), (0, 0, 255)]
    files = [(f"{number}.jpg", images.jpeg(colour=colour)) for number, colour in enumerate(colours)]
    sent = post(client, *files, data=attribute, params={"wait": 20}).json()["images"]
    service.publish(
        [
            json.dumps(
                {
                    "version": 1,
                    "request_id": "lost",
                    "image": {"bucket": "uploads", "key": "lost"},
                    "attributes": {"test": "lists"},
                }
            ).encode()
        ]
    )
    eventually(lambda: client.get("/api/v1/results/lost").status_code == 200)

    def listed(**filters: Any) -> set[str]:
        answer = client.get("/api/v1/results", params={"attribute": "test=lists", **filters})
        assert answer.status_code == 200, answer.text
        return {result["request_id"] for result in answer.json()["results"]}

    ids = [image["request_id"] for image in sent]
    eventually(lambda: listed() == {*ids, "lost"})
    assert listed(label="red") == {ids[0]}
    assert listed(label="red", min_score=1) <= {ids[0]}
    assert listed(status="failed") == listed(error_code="object_not_found") == {"lost"}
    assert listed(key_prefix="sha256/") == set(ids)
    assert listed(module="faces") == listed(until="2020-01-01T00:00:00Z") == set()
    assert listed(module="dummy", since="2020-01-01T00:00:00Z") == {*ids, "lost"}

    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        after = {"cursor": cursor} if cursor else {}
        page = client.get("/api/v1/results", params={"attribute": "test=lists", "limit": 1, **after}).json()
        seen += [result["request_id"] for result in page["results"]]
        cursor = page["next"]
        # What comes in between does not move the pages.
        post(client, ("new.jpg", images.jpeg()), data=attribute, params={"wait": 20})
    assert sorted(seen) == sorted([*ids, "lost"])

    lines = client.get(
        "/api/v1/results", params={"request_id": ids}, headers={"Accept": "application/x-ndjson"}
    ).text.splitlines()
    assert {json.loads(line)["request_id"] for line in lines} == set(ids)
    table = client.get("/api/v1/results", params={"label": "red"}, headers={"Accept": "text/csv"}).text
    assert table.startswith("request_id,status,module,")
    assert f"{ids[0]},ok,dummy," in table


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"cursor": "nonsense"}, "cursor"),
        ({"attribute": "nonsense"}, "name=value"),
        ({"since": "2026-01-01T00:00:00"}, "no time zone"),
        ({"min_score": 2}, "min_score"),
        ({"limit": 0}, "limit"),
    ],
)
def test_a_filter_that_breaks_a_rule(client: httpx.Client, parameters: dict[str, Any], said: str) -> None:
    assert said in problem(client.get("/api/v1/results", params=parameters), 400, "usage")


def test_images_come_back_whole_in_part_and_with_boxes(client: httpx.Client) -> None:
    original = images.jpeg(size=(640, 480), colour=RED)
    (image,) = post(client, ("a.jpg", original), params={"wait": 20}).json()["images"]
    stored(client, image["request_id"])
    url = f"/api/v1/images/{image['request_id']}"
    whole = client.get(url)
    assert (whole.status_code, whole.content) == (200, original)
    assert whole.headers["content-type"] == "image/jpeg"
    part = client.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, original[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(original)}"
    problem(client.get(url, headers={"Range": "bytes=9999999-"}), 400, "usage")

    with Image.open(io.BytesIO(client.get(f"{url}/annotated", params={"format": "png"}).content)) as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (640, 480))
        assert drawn.tobytes() != Image.open(io.BytesIO(original)).convert("RGB").tobytes()
    problem(client.get(f"{url}/annotated", params={"module": "faces"}), 404, "request_not_found")
    problem(client.get("/api/v1/images/nobody"), 404, "request_not_found")


def events(client: httpx.Client, count: int, last_event_id: str | None = None) -> list[tuple[str, str]]:
    """The ids and requests of the next results of the stream; the first is where it begins."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    found: list[tuple[str, str]] = []
    name = ""
    with client.stream("GET", "/api/v1/stream", headers=headers) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("id: "):
                name = line.removeprefix("id: ")
                if not found:
                    found.append((name, ""))
            if line.startswith("data: "):
                found.append((name, json.loads(line.removeprefix("data: "))["request_id"]))
            if len(found) > count:
                break
    return found


def test_results_stream_and_a_listener_that_comes_back_misses_none(client: httpx.Client) -> None:
    ((start, _),) = events(client, 0)

    def send() -> str:
        (image,) = post(client, ("a.jpg", images.jpeg()), params={"wait": 20}).json()["images"]
        return str(image["request_id"])

    sent = [send() for _ in range(4)]
    _, *first = events(client, 2, start)
    with ThreadPoolExecutor(1) as other:
        later = other.submit(events, client, 4, first[-1][0])
        sent += [send(), send()]
        _, *second = later.result(30)
    # In the order of each partition, and not of all of them together.
    assert sorted(request_id for _, request_id in [*first, *second]) == sorted(sent)
    problem(client.get("/api/v1/stream", headers={"Last-Event-ID": "nonsense"}), 400, "usage")


def test_an_old_client_goes_on_working(client: httpx.Client) -> None:
    for path in ("/", "/analyzer/"):
        answer = client.post(path, files={"image": ("old.jpg", images.jpeg(colour=RED))})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        assert list(made) == ["image", "token", "uploaded_date", "updated_date", "result"]
        (found,) = made["result"]
        assert list(found) == ["position", "label"]
        assert list(found["position"]) == ["x", "y", "w", "h"]
        assert found["label"][0]["description"] == "red"
    stored(client, made["token"])
    assert client.get(f"/analyzer/{made['token']}/").json() == made
    assert client.get("/analyzer/", params={"token": made["token"]}).json() == {
        "count": 1,
        "next": None,
        "previous": None,
        "results": [made],
    }
    assert client.get(made["image"]).content == images.jpeg(colour=RED)
    newest = client.get("/analyzer/").json()["results"]
    assert [one["token"] for one in newest] == sorted((one["token"] for one in newest), reverse=True)
    assert client.post("/", data={"other": "field"}).status_code == 400
    assert client.get("/analyzer/nobody/").json() == {"detail": "Not found."}
    assert client.get("/analyzer/", params={"page": 1000}).status_code == 404


def test_too_much_is_refused_before_it_is_read(service: Service) -> None:
    limits = {
        "GATEWAY_MAX_UPLOAD_BYTES": "20000",
        "GATEWAY_MAX_REQUEST_BYTES": "1000000",
        "GATEWAY_MAX_UPLOAD_FILES": "2",
    }
    with gateway(service, **limits) as (client, _):
        small = ("a.jpg", images.jpeg())
        assert post(client, small, small).status_code == 202
        problem(post(client, small, small, small), 400, "usage")
        for size, said in ((30_000, "b.jpg: "), (1_200_000, "the body is larger than 1000000 bytes")):
            answer = post(client, ("b.jpg", images.jpeg() + bytes(size)))
            assert said in problem(answer, 413, "upload_too_large")
        answer = client.post("/api/v1/images", content=b" " * 2_000_000)
        problem(answer, 413, "upload_too_large")

        def endless() -> Iterator[bytes]:
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="c.jpg"\r\n\r\n'
            for _ in range(100):
                yield bytes(100_000)

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = client.post("/api/v1/images", content=endless(), headers=headers)
        problem(answer, 413, "upload_too_large")


def test_it_does_not_listen_beyond_this_machine_without_keys(service: Service) -> None:
    with service.run("gateway", GATEWAY_ADDRESS=":0") as running:
        assert running.process.wait(30) == 2
        assert "GATEWAY_API_KEYS" in running.log_text()


def test_with_keys_strangers_stay_outside(service: Service) -> None:
    with gateway(service, GATEWAY_API_KEYS="first-key,second-key") as (client, running):
        said = problem(client.get("/api/v1/results"), 401, "unauthenticated")
        assert "Bearer" in said
        for wrong in ("Bearer third-key", "Basic first-key", "Bearer", "first-key"):
            problem(client.get("/api/v1/results", headers={"Authorization": wrong}), 401, "unauthenticated")
        for key in ("first-key", "second-key"):
            answer = client.get("/api/v1/results", headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 200
        assert client.get("/livez").status_code == 200
        assert "-key" not in running.log_text()


def test_another_sites_page_cannot_write(client: httpx.Client) -> None:
    strange = {"Origin": "https://elsewhere.example"}
    problem(post(client, ("a.jpg", images.jpeg()), headers=strange), 403, "origin_refused")
    own = {"Origin": str(client.base_url).rstrip("/")}
    assert post(client, ("a.jpg", images.jpeg()), headers=own).status_code == 202


def test_too_many_images_a_minute(service: Service) -> None:
    with gateway(service, GATEWAY_UPLOADS_PER_MINUTE="3") as (client, _):
        file = ("a.jpg", images.jpeg())
        assert post(client, file, file, file).status_code == 202
        answer = post(client, file)
        problem(answer, 429, "rate_limited")
        assert int(answer.headers["retry-after"]) > 0


def test_browsers_are_told_to_be_careful(client: httpx.Client) -> None:
    for path in ("/api/v1/results", "/api/v1/results/nobody", "/nowhere"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers


def test_without_the_object_store_nothing_is_accepted(service: Service) -> None:
    with gateway(service, S3_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}") as (client, _):
        problem(post(client, ("a.jpg", images.jpeg())), 503, "s3_unavailable")


def test_without_servers_it_says_which_is_away(service: Service) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    away = {
        "KAFKA_BOOTSTRAP_SERVERS": nowhere,
        "S3_ENDPOINT_URL": f"http://{nowhere}",
        "DATABASE_URL": f"postgresql://app@{nowhere}/analysis",
    }
    with service.run("gateway", GATEWAY_ADDRESS=(address := f"127.0.0.1:{free_port()}"), **away) as running:
        running.wait_ready()
        with httpx.Client(base_url=f"http://{address}", timeout=40) as client:
            assert client.get("/livez").status_code == 200
            assert client.get("/readyz").status_code == 503
            for answer, code in (
                (client.get("/api/v1/results"), "database_unavailable"),
                (post(client, ("a.jpg", images.jpeg())), "kafka_unavailable"),
                (client.post("/api/v1/images", json={"images": ["s3://uploads/a"]}), "kafka_unavailable"),
            ):
                problem(answer, 503, code)
                assert answer.headers["retry-after"] == "5"


def test_the_commands_of_its_document_work(client: httpx.Client, service: Service, tmp_path: Path) -> None:
    document = (PROJECT / "docs" / "gateway.md").read_text(encoding="utf-8")
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", document, re.DOTALL))
    assert commands.count("curl") == 5
    (tmp_path / "photo.jpg").write_bytes(images.jpeg(colour=RED))
    done = subprocess.run(
        [
            "bash",
            "-euo",
            "pipefail",
            "-c",
            commands.replace("curl ", "curl -sS --fail-with-body ").replace(
                "http://127.0.0.1:8000", str(client.base_url).rstrip("/")
            ),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"label":"red"' in done.stdout


def test_dead_letters_are_shown_and_published_again(client: httpx.Client, service: Service) -> None:
    service.publish([b"no request"])

    def listed(state: str) -> list[dict[str, Any]]:
        answer = client.get("/api/v1/dead-letters", params={"code": "message_not_json", "state": state})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["dead_letters"])

    (letter,) = eventually(lambda: listed("waiting"))
    assert letter["topic"] == service.kafka.images_topic
    assert "not JSON" in letter["message"]
    answer = client.post(f"/api/v1/dead-letters/{letter['id']}/replay")
    assert answer.json() == {"published": 1}
    assert [one["id"] for one in listed("replayed")] == [letter["id"]]
    # It is no request this time either.
    assert eventually(lambda: listed("waiting"))[0]["replays"] == 1
    said = problem(client.post(f"/api/v1/dead-letters/{letter['id']}/replay"), 400, "usage")
    assert "already" in said
    problem(client.post("/api/v1/dead-letters/0-99999/replay"), 404, "request_not_found")
    problem(client.post("/api/v1/dead-letters/x/replay"), 400, "usage")


def test_the_service_in_numbers(client: httpx.Client) -> None:
    (image,) = post(client, ("a.jpg", images.jpeg(colour=RED)), params={"wait": 20}).json()["images"]
    stored(client, image["request_id"])
    found = client.get("/api/v1/stats").json()
    (module,) = [one for one in found["modules"] if one["module"] == "dummy"]
    assert module["ok"] > 0
    assert module["per_second"] > 0
    assert 0 < module["total_ms"]["p50"] <= module["total_ms"]["p99"]
    assert found["labels"]["red"] > 0
    # The end of a replay's transaction is a record too, which nobody reads.
    assert eventually(lambda: client.get("/api/v1/stats").json()["modules"][0]["lag"] in (0, 1))


def test_the_openapi_document_names_everything(client: httpx.Client) -> None:
    document = client.get("/api/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert {"/api/v1/images", "/api/v1/results", "/api/v1/stream", "/api/v1/stats"} <= document[
        "paths"
    ].keys()
    text = json.dumps(document)
    for name in re.findall(r"#/components/schemas/(\w+)", text):
        assert name in document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], f"{method} {path}"


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/results/%00",
        "/api/v1/results?module=%00",
        "/api/v1/results?attribute=a%3D%00",
        "/analyzer/?page=99999999999999999999",
        f"/api/v1/dead-letters/0-{'9' * 5000}/replay",
    ],
)
def test_odd_values_are_the_callers_fault(client: httpx.Client, path: str) -> None:
    method = "POST" if path.endswith("/replay") else "GET"
    problem(client.request(method, path), 400, "usage")


def test_an_id_beyond_any_offset_is_refused(client: httpx.Client) -> None:
    strange = {"Last-Event-ID": "0.99999999999999999999-1.0"}
    problem(client.get("/api/v1/stream", headers=strange), 400, "usage")


def test_the_name_of_another_site_leads_nowhere(client: httpx.Client) -> None:
    for host in ("elsewhere.example:8000", "[", ""):
        problem(client.get("/api/v1/results", headers={"Host": host}), 403, "origin_refused")
    assert client.get("/api/v1/results", headers={"Host": "localhost:8000"}).status_code == 200
