from __future__ import annotations

import pytest

from snakemake_executor_plugin_ckpt.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15min", 900),
        ("15m", 900),
        ("48h", 172800),
        ("2d", 172800),
        ("1w", 604800),
        ("2d12h", 216000),
        ("1h 30min", 5400),
        (" 1.5 H ", 5400),
        ("0.5s", 0.5),
        ("48:00:00", 172800),
        ("2-00:00:00", 172800),
        ("1:30:00", 5400),
        ("0s", 0),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "10",
        "1.5",
        "-5s",
        "5",
        "s",
        "5x",
        "5s later",
        "1h,30m",
        "1e3s",
        "inf",
        "nan",
        "1.5.5s",
        "\u0661\u0660s",
        "1:2:3",
        "1::00",
        "10:",
        "-1:00:00",
        "None",
        "2 d 3",
        "5 minutes",
    ],
)
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="90s, 15min"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (8.34, "8.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.6, "1 h 00 min"),
        (12000, "3 h 20 min"),
        (86399.7, "1 d 00 h"),
        (187200, "2 d 04 h"),
    ],
)
def test_durations_are_shown_in_two_units_at_most(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("100000", 100000),
        ("512M", 512 << 20),
        ("2GiB", 2 << 30),
        ("2gb", 2 << 30),
        ("1.5k", 1536),
        (" 1 T ", 1 << 40),
        ("7B", 7),
    ],
)
def test_sizes_are_read_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-5", "5P", "5 5", "1e3", "inf", "nan", "5 GiBs", "0x10"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="512M"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (94685368, "90.3 MiB"),
        (1 << 40, "1.0 TiB"),
        (1 << 51, "2048.0 TiB"),
    ],
)
def test_sizes_are_shown_in_powers_of_1024(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize("text", ["90s", "15min", "48h", "2d12h"])
def test_a_shown_duration_can_be_read_back(text: str) -> None:
    assert parse_duration(format_duration(parse_duration(text))) == parse_duration(text)
