import pytest

from gateway.core.sse import EVENT_MAX, Parser, comment, event


def test_event() -> None:
    assert event("{}") == b"data: {}\n\n"
    assert event("") == b"data: \n\n"
    assert event("{}", id="7-0", event="job.log", retry=3000) == (
        b"event: job.log\nid: 7-0\nretry: 3000\ndata: {}\n\n"
    )
    assert event("é", retry=0) == "retry: 0\ndata: é\n\n".encode()


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ("a\n\nevent: done\ndata: b", ["a", "", "event: done", "data: b"]),
        ("a\rid: 9\r\rb", ["a", "id: 9", "", "b"]),
        ("a\r\nb\n\rc", ["a", "b", "", "c"]),
        ("a\0\r\0\nb", ["a", "b"]),
        ("a\u2028b\u2029c\x85d\x0be", ["a\u2028b\u2029c\x85d\x0be"]),
        (" a", [" a"]),
        (":a", [":a"]),
        ("\ud800", ["?"]),
        ("\ufeffa", ["\ufeffa"]),
    ],
)
def test_data_stays_in_its_event(data: str, lines: list[str]) -> None:
    """Seen through a reader: one event, with nothing but these lines in it."""
    written = event(data)

    assert written.count(b"\n\n") == 1
    assert Parser().feed(written + event("next")) == ["\n".join(lines), "next"]


@pytest.mark.parametrize("name", ["", "a\nb", "a\rb", "a\0b", "a b", "a:b", "é", "a" * 65, "a\n"])
def test_ids_and_names_are_of_a_fixed_alphabet(name: str) -> None:
    with pytest.raises(ValueError, match="name or id"):
        event("{}", id=name)
    with pytest.raises(ValueError, match="name or id"):
        event("{}", event=name)


@pytest.mark.parametrize("text", ["", "alive", "a\ndata: b", "a\r\n\r\ndata: b", "\ndata: b", "\0"])
def test_comments_say_nothing(text: str) -> None:
    written = comment(text)

    assert written.startswith(b":")
    assert Parser().feed(written + event("next")) == ["next"]


STREAM = (
    b"\xef\xbb\xbfdata: one\n\n"
    b": alive\n\n"
    b"event: x\r\nid: 5\r\ndata:two\r\ndata: lines\r\n\r\n"
    b"data\rdata:\r\r"
    b"retry: 10\nunknown: x\n\n"
    b"data:  spaced\n\n"
    b"data: \xe2\x82\xac \xff\n\n"
    b"data: unfinished\n"
)
EVENTS = ["one", "two\nlines", "\n", " spaced", "\u20ac \ufffd"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_parser_takes_bytes_cut_anywhere(size: int) -> None:
    parser = Parser()
    chunks = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]

    assert [text for chunk in chunks for text in (*parser.feed(chunk), *parser.feed(b""))] == EVENTS
    assert parser.feed(b"\n") == ["unfinished"]


def test_a_line_without_end_is_refused() -> None:
    parser = Parser()
    parser.feed(b"data: " + b"x" * (EVENT_MAX - 6))

    with pytest.raises(ValueError, match="too long"):
        parser.feed(b"x")


def test_an_event_without_end_is_refused() -> None:
    parser = Parser(max_bytes=100)
    assert parser.feed(b"data: " + b"x" * 90 + b"\n\n") == ["x" * 90]
    assert parser.feed(b"data:\n" * 100) == []

    with pytest.raises(ValueError, match="too large"):
        parser.feed(b"data:\n")


def test_long_streams_of_short_events_pass() -> None:
    parser = Parser(max_bytes=100)

    assert sum(len(parser.feed(b": alive\n\ndata: x\n\n")) for _ in range(1000)) == 1000
