"""Errors that a user can act on; each says what is wrong, with which value, and what would be right."""

from __future__ import annotations


class CkptError(Exception):
    """Base of all errors of this package that are meant for a reader."""


class BadSetting(CkptError):
    """A setting or rule resource that cannot be used."""

    def __init__(self, option: str, value: object, remedy: str) -> None:
        super().__init__(f"{option}: {value!r} cannot be used: {remedy}")
        self.option = option
        self.value = value
        self.remedy = remedy


class EngineError(CkptError):
    """An engine that cannot do what it was asked to do here; the payload is as it was before."""


class Halfway(EngineError):
    """What was saving the tree was killed in the midst of it: processes that it had stopped may die of that."""


class Unsavable(EngineError):
    """The tree holds something that the engine cannot save.

    Parameters
    ----------
    findings
        One line each: the process, the thing, and the way out.
    """

    def __init__(self, findings: list[str]) -> None:
        super().__init__("; ".join(findings))
        self.findings = findings


class ImageRefused(CkptError):
    """An image that must not be restored: damaged, incomplete, stale, foreign or of another node class."""


class WrongNode(ImageRefused):
    """An image that must not be restored here; there is nothing to say against it elsewhere."""


class SchedulerError(CkptError):
    """The scheduler did not do, or did not answer, what it was asked."""


class NoAnswer(SchedulerError):
    """The scheduler was not reached, or said nothing in time. It may have done what it was asked."""


class StateError(CkptError):
    """The job folder cannot be read or written as it must be."""
