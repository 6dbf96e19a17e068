"""Which resource requirements the one host of the fake LSF meets, and which strings are none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helpers.fake_lsf.store import Store

_SECTION = re.compile(r"(select|rusage|span|order|same|cu|affinity)\[([^\]]*)\]")
_COMPARED = re.compile(r"(hname|type|model)(==|!=)'([^']*)'")


def bad(text: str) -> bool:
    """Whether this is no resource requirement: sections of the known names with a space between them."""
    return _SECTION.sub("", text).strip() != "" or "][" in text


def fits(store: Store, requirements: list[str]) -> bool:
    """Whether the host meets the select sections of all of them."""
    host = {"hname": store.setting("HOST"), "type": store.setting("TYPE"), "model": store.setting("MODEL")}
    for name, inside in (found for text in requirements for found in _SECTION.findall(text)):
        if name != "select":
            continue
        for part in inside.split("&&"):
            compared = _COMPARED.fullmatch(part.strip())
            if compared:
                same = host[compared[1]] == compared[3]
                if same != (compared[2] == "=="):
                    return False
            elif part.strip() not in store.setting("RESOURCES"):
                return False
    return True
