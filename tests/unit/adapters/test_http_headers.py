import pytest
from adapter_requests import asked
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import RequestUnusable
from adapters.kinds.http.headers import answer_headers, request_headers


def names(headers: list[tuple[str, str]]) -> list[str]:
    return [name.lower() for name, _ in headers]


@pytest.mark.parametrize(
    "name",
    [
        "Host", "User-Agent", "Content-Length", "Server", "Expect", "Cookie", "Forwarded", "X-Forwarded-For",
        "X-Forwarded-Host", "X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-URL", "Transfer-Encoding", "TE",
        "Upgrade", "Keep-Alive", "Proxy-Authorization", "Connection", "Trailer", "X_Forwarded_For", "x-real-ip",
    ],
)  # fmt: skip
def test_headers_of_the_hop_and_of_the_front_are_dropped(name: str) -> None:
    sent = names(request_headers(asked(headers=((name, "x"), ("X-Own", "kept")))))
    assert name.lower() not in sent
    assert "x-own" in sent


@pytest.mark.parametrize(
    "name", ["X-Road-Client", "X_Road_Client", "x-road-userid", "X-LienThong-Purpose", "X-Road-New"]
)
def test_a_forged_identity_header_never_reaches_the_backend(name: str) -> None:
    sent = request_headers(asked(headers=((name, "VN/GOV/EVIL/x"),)))
    assert "VN/GOV/EVIL/x" not in [value for _, value in sent]
    assert dict(sent)["X-Road-Client"] == "VN/GOV/H37/onedoor"


def test_identity_is_made_from_the_request_and_empty_parts_are_left_out() -> None:
    sent = dict(request_headers(asked(issue="H37-260318-0001")))
    assert sent["X-Road-Request-Id"] == sent["X-Road-Id"] == "0198c0de-0000-7000-8000-000000000001"
    assert sent["X-Road-Service"] == "VN/GOV/G01/population/citizens"
    assert sent["X-Road-UserId"] == "official-1"
    assert sent["X-Road-Issue"] == "H37-260318-0001"
    assert sent["X-LienThong-Purpose"] == "residence"
    assert sent["X-LienThong-Legal-Basis"] == "ND-107"
    assert "X-Road-Represented-Party" not in sent


def test_headers_named_in_connection_are_dropped_wherever_they_stand() -> None:
    given_headers = (("X-Hop", "1"), ("Connection", "close, x-hop"), ("X-Stays", "1"))
    assert "x-hop" not in names(request_headers(asked(headers=given_headers)))
    assert answer_headers(given_headers) == (("X-Stays", "1"),)


def test_the_backend_is_asked_for_identity_whatever_the_client_takes() -> None:
    sent = request_headers(asked(headers=(("Accept-Encoding", "gzip, br"),)))
    assert [value for name, value in sent if name.lower() == "accept-encoding"] == ["identity"]


def test_authorization_conditional_and_accept_headers_pass() -> None:
    passing = (("Authorization", "Bearer x"), ("If-None-Match", '"1"'), ("Accept", "application/json"))
    assert set(passing) <= set(request_headers(asked(headers=passing)))


@pytest.mark.parametrize("value", ["a\r\nX-Road-Client: evil", "a\nb", "a\x00b", "a\x7f"])
def test_a_value_that_would_end_the_header_is_refused(value: str) -> None:
    for request in (asked(headers=(("X-Own", value),)), asked(official=value), asked(content_type=value)):
        with pytest.raises(RequestUnusable) as refusal:
            request_headers(request)
        assert refusal.value.acted == "no"
        assert value not in str(refusal.value)


@pytest.mark.parametrize("name", ["X-Own\r\nEvil", "Transfer-Encoding ", "", "X:Y", "Tên"])
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(RequestUnusable):
        request_headers(asked(headers=((name, "x"),)))


def test_answer_headers_lose_the_backends_own_and_the_bus_own() -> None:
    answered = answer_headers(
        (
            ("Server", "x"), ("Set-Cookie", "a=b"), ("Transfer-Encoding", "chunked"), ("X-Road-Error", "Server.X"),
            ("Content-Length", "3"), ("ETag", '"1"'), ("Cache-Control", "no-store"), ("X-Bad", "\udcff"),
        )
    )  # fmt: skip
    assert answered == (("ETag", '"1"'), ("Cache-Control", "no-store"))


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=8))
def test_whatever_a_client_sends_only_clean_headers_leave_and_identity_stays_ours(
    headers: list[tuple[str, str]],
) -> None:
    try:
        sent = request_headers(asked(headers=tuple(headers)))
    except RequestUnusable:
        return
    assert all(not set(name + value) & set("\r\n\0") for name, value in sent)
    assert [value for name, value in sent if name.lower().replace("_", "-") == "x-road-client"] == [
        "VN/GOV/H37/onedoor"
    ]
