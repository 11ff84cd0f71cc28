"""What a data plane keeps of the packets that its rules log: the newest, and how many there were besides."""

from __future__ import annotations

from trunkline.devices.packet_log import Logged
from trunkline.units.rule_log import BURST, RATE, RuleLog

PACKET = Logged("drop the rest", "10.0.0.5", "192.0.2.9", 17, 4000, 53)


def test_a_flood_is_told_of_in_a_few_and_counted() -> None:
    now = [1000.0]
    log = RuleLog(lambda: now[0])
    log.take([PACKET] * 1000)
    assert (len(log.newest()), log.more) == (BURST, 1000 - BURST)
    now[0] += 1.0
    log.take([PACKET] * 100)
    assert (len(log.newest()), log.more) == (BURST + RATE, 1100 - BURST - RATE)
    serials = [packet.serial for packet in log.newest()]
    assert serials == list(range(serials[0], serials[0] + BURST + RATE))


def test_the_prefix_is_what_was_done_and_the_name_of_the_rule() -> None:
    log = RuleLog()
    log.take([PACKET])
    (told,) = log.newest()
    assert (told.action, told.rule) == ("drop", "the rest")
    assert (told.source, told.source_port, told.target, told.target_port, told.protocol) == (
        *("10.0.0.5", 4000),
        *("192.0.2.9", 53, 17),
    )


def test_those_of_long_ago_are_not_told_again() -> None:
    now = [1000.0]
    log = RuleLog(lambda: now[0])
    log.take([PACKET])
    now[0] += 20.0
    log.take([PACKET])
    assert len(log.newest()) == 2
    now[0] += 15.0
    assert len(log.newest()) == 1
