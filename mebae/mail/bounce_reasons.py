"""Why a mail came back: one word for what thousands of servers say in their own ways. The raw words are kept beside it.

The words are looked for first, because servers are careless with most codes (`550 5.7.1 User unknown`); then the enhanced
status code (RFC 3463, RFC 7505, RFC 7372 and what large providers made of them), then its subject alone. What none of them
knows is `unknown`.

A reason also says whom it is about, and so what a 5.x.x of it means:

- `address`: nobody is there, or does not want our mail. A 5.x.x suppresses the address at once.
- `receiver`: their side is in trouble. It may pass, whatever the code says (RFC 3463 calls X.2.2 a persistent transient
  failure), so it counts as a soft bounce.
- `us`: our mail or our server is not liked. That says nothing of the address: a listing of our IP address must not empty
  the list of leads. It counts against us (`mebae sending status`) and not against the lead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

About = Literal["address", "receiver", "us"]


class Reason(StrEnum):
    """Why a mail came back. One vocabulary for all servers."""

    MAILBOX_FULL = "mailbox-full"
    MAILBOX_DISABLED = "mailbox-disabled"
    MOVED = "moved"
    MAILBOX_UNKNOWN = "mailbox-unknown"
    DOMAIN_UNKNOWN = "domain-unknown"
    FILTERED = "filtered"
    GREYLISTED = "greylisted"
    RATE_LIMITED = "rate-limited"
    AUTH_FAILED = "auth-failed"
    SPAM = "spam"
    BLOCKED = "blocked"
    VIRUS = "virus"
    TOO_LARGE = "too-large"
    CONTENT = "content"
    RELAY_DENIED = "relay-denied"
    LOOP = "loop"
    EXPIRED = "expired"
    UNREACHABLE = "unreachable"
    SYSTEM_TROUBLE = "system-trouble"
    POLICY = "policy"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ReasonSpec:
    """One row of the mapping table."""

    reason: Reason
    about: About
    meaning: str
    statuses: tuple[str, ...] = ()
    """Subject and detail of the enhanced status: `1.1` stands for 5.1.1 and 4.1.1."""
    words: tuple[str, ...] = ()
    """Regular expressions for what servers say, without addresses, in small letters."""


_WHO = "(user|recipient|mail ?box|account|address|name|local ?part|addressee|alias|person|local)"

TABLE: tuple[ReasonSpec, ...] = (
    ReasonSpec(
        Reason.MAILBOX_FULL, "receiver", "the mailbox is full",
        ("2.2",),
        (
            r"(mail ?box|inbox|account|user|maildir|storage).{0,40}\b(is |are )?(full|over ?quota|exceed)", "over ?quota",
            "quota (exceeded|is full)", "exceeded .{0,30}(quota|storage)", "out of storage", "storage allocation",
            "not enough (storage|space)", "too much mail data", "メールボックスが?.{0,10}(いっぱい|一杯|満杯|容量)",
            "容量.{0,8}超過", "保存容量",
        ),
    ),
    ReasonSpec(
        Reason.MAILBOX_DISABLED, "address", "the mailbox is closed, suspended or unused for long",
        ("2.1",),
        (
            r"(mail ?box|account|user|recipient|address).{0,40}\b(disabled|suspended|deactivated|inactive|expired|closed|locked)",
            "(mail ?box|account|user|recipient|address).{0,40}(temporarily limited|no longer (active|available|valid|in use|accepts))",
            "(アカウント|メールボックス).{0,12}(停止|無効|凍結)",
        ),
    ),
    ReasonSpec(
        Reason.MOVED, "address", "the person has another address now",
        ("1.6",),
        (
            "(user|recipient|mailbox|address) (has |was )?(moved|changed)", "has moved to", "アドレスは?変更(され|に)",
        ),
    ),
    ReasonSpec(
        Reason.DOMAIN_UNKNOWN, "address", "the domain does not exist, or takes no mail",
        ("1.2", "1.10", "4.4"),
        (
            "host (or domain name |name |or domain )?(not found|unknown|is unknown|lookup failed)",
            "domain .{0,60}(does ?n.?t|not) (exist|found)", "no such (host|domain)", "find any host",
            "unknown (host|domain|mail host)", "name or service not known", "nxdomain", "non-?existent domain",
            "(domain|name service|dns|mx).{0,20}(not found|no (mail|mx|a) ?record)", "remote domain doesn.?t exist",
            "null ?mx", r"does not accept (any )?mail\b", "all relevant mx records point to non-existent hosts",
            "ドメインが?(存在しない|見つかりません|存在しません)",
        ),
    ),
    ReasonSpec(
        Reason.MAILBOX_UNKNOWN, "address", "there is no such mailbox",
        ("1.0", "1.1", "1.3", "4.1"),
        (
            rf"{_WHO}.{{0,60}}\b(unknown|not (be )?(found|exist|known|listed|recogni[sz]ed)|does ?n.?t exist|do(es)? not have an?)",
            rf"{_WHO}.{{0,60}}\b(invalid|non-?existent|undeliverable|unavailable or access denied|no mailbox|not our customer)",
            rf"(unknown|invalid|no such|bad|non-?existent|unrecogni[sz]ed|not a (known|valid)|not a local) {_WHO}",
            "no (mailbox|user) (here|by that name)", "does ?n.?t have an? .{0,60}account", "mailbox unavailable",
            "recipientnotfound", "recipnotfound", "not listed in .{0,30}(directory|address book)",
            "this (user|address|account|recipient) (does ?n.?t|is not|no longer)",
            r"addresses? (failed|unknown)\b.{0,30}unrouteable", "unrouteable address", "user lookup (failed|success but no)",
            r"access denied\. as\(",
            "(ユーザー?|宛先|メールアドレス|受信者|アドレス).{0,40}(存在しま(せん|した)|存在しない|見つかりません|見つからない|登録されていません|不明)",
            "ディレクトリには?見つかりません",
        ),
    ),
    ReasonSpec(
        Reason.GREYLISTED, "receiver", "told to come again later (greylisting)",
        (),
        (
            "gr[ea]y-?list", r"try again (in|after) \d+ ?(s|m)", "temporar(il)?y deferred.{0,20}first",
        ),
    ),
    ReasonSpec(
        Reason.RATE_LIMITED, "us", "too much at once, for this receiver",
        ("7.28", "4.5", "5.3"),
        (
            "(rate|connection|message|sending) ?(limit|control)",
            "too many (connection|message|mail|recipient|error|concurrent)", "receiving mail at a rate",
            "throttl", "sending too (fast|quickly)", "unusual rate", r"\btss?0\d\b", "exceeded the (number|rate)",
        ),
    ),
    ReasonSpec(
        Reason.AUTH_FAILED, "us", "SPF, DKIM, DMARC or reverse DNS does not fit the sender",
        ("7.20", "7.21", "7.22", "7.23", "7.24", "7.25", "7.26", "7.27", "7.30", "7.515", "1.7", "1.8"),
        (
            r"\b(spf|dkim|dmarc|arc)\b", "sender policy framework", "unauthenticated (e-?mail|message)",
            "(sender|domain).{0,40}(not authenticated|authentication (fail|require))",
            "(reverse dns|ptr record|rdns|fcrdns)",
        ),
    ),
    ReasonSpec(
        Reason.SPAM, "us", "the mail was taken for spam",
        (),
        (
            r"\bspam\b", "spam(my|like|ming|assassin)", r"\bjunk\b", "unsolicited", "bulk (e-?)?mail", "phish",
            "likely (suspicious|unwanted)", "suspected (of|to be)", "迷惑メール(と|の疑い|として)",
        ),
    ),
    ReasonSpec(
        Reason.BLOCKED, "us", "our server or domain is on a list, or has a bad name",
        ("7.606", "7.511", "7.512"),
        (
            "black ?list", "block ?list", "deny ?list", "denylist", r"\b(dns|r)bls?\b", "spamhaus", "spamcop", "barracuda",
            "(blocked|banned) (by|using|due|for|from)",
            r"(ip|host|client|sender|domain|address|message|server|network|connection)\b.{0,60}\b(blocked|banned|listed (in|at|on|by))",
            "reputation", "part of their network is on our block list", "user complaints", "ブラックリスト",
            "受信(を)?ブロック",
        ),
    ),
    ReasonSpec(
        Reason.VIRUS, "us", "something in the mail was taken for malware",
        (),
        (
            "virus", "malware", "trojan", "infected", "ウイルス", "ウィルス",
        ),
    ),
    ReasonSpec(
        Reason.TOO_LARGE, "us", "the mail is too large",
        ("2.3", "3.4"),
        (
            "(message|mail|size|body|file).{0,40}(too (large|big)|exceeds? .{0,30}(size|limit|maximum)|size limit)",
            "exceeds? (the )?(maximum|max) .{0,20}size", "maximum (message|mail) size", "サイズ.{0,12}(超|大き)",
        ),
    ),
    ReasonSpec(
        Reason.CONTENT, "us", "form or content is refused",
        ("6.0", "6.1", "6.2", "6.3", "6.4", "6.5", "6.6", "6.7", "6.9", "7.7"),
        (
            "(message|mail|content|header|attachment|url|link).{0,30}(rejected|refused|not (allowed|accepted|permitted))"
            ".{0,20}(content|format|header|attach)",
            "content (rejected|filter|restriction)", "malformed", "(not|non).{0,10}rfc ?(5322|2822|822|5321) compliant",
            "mime (error|format)", r"bare (lf|cr)\b",
        ),
    ),
    ReasonSpec(
        Reason.RELAY_DENIED, "us", "the server does not take mail for this domain",
        ("7.64",),
        (
            "relay(ing)? (access |is |was )?(denied|not (permitted|allowed)|prohibited|not authorized)", "unable to relay",
            "not permitted to relay", "(do(es)?|will) not relay", "we do not relay", "relay operation", "smtp relay error",
            "allowed rcpthosts", "authentication (is )?required", "中継.{0,8}(拒否|でき)",
        ),
    ),
    ReasonSpec(
        Reason.FILTERED, "address", "the person's own settings refuse it (受信拒否, ドメイン指定受信)",
        ("2.0",),
        (
            "(rejected|refused|blocked|denied) by (the )?(recipient|user|addressee)",
            "recipient.{0,30}(refuse|does not (want|accept|wish)|only accepts)", "user.{0,10}(refused|reject)",
            "not (on|in) .{0,20}(allow|white|safe) ?(ed )?(list|sender)", "(受信|着信)(を)?拒否", "指定受信",
            "受信できない設定", "拒否設定",
        ),
    ),
    ReasonSpec(
        Reason.LOOP, "receiver", "the mail went in a circle",
        ("4.6",),
        (
            "(mail|routing|forwarding)? ?loop(s|ing)?( detected|back)?", "too many (hops|received)", "hop count exceeded",
            "loops back to myself",
        ),
    ),
    ReasonSpec(
        Reason.EXPIRED, "receiver", "the server on the way gave up after days",
        ("4.7",),
        (
            "(delivery|retry|queue|message|mail).{0,30}(time(d)? ?-?out|timeout|time expired|expired|too long)",
            "not (be )?delivered within", "(retry|delivery) (time )?(timeout )?exceeded", "has been (in|on) (the )?queue",
            "giv(en|ing) up", "配送?期限",
        ),
    ),
    ReasonSpec(
        Reason.UNREACHABLE, "receiver", "their mail server does not answer",
        ("4.0", "4.2", "4.3", "4.8"),
        (
            "connection (timed out|refused|reset|dropped|closed|lost)", "connect to .{0,80}(timed out|refused|no route)",
            "no route to host",
            "(host|server|network).{0,40}(unreachable|not respond|no (answer|response)|did not answer|is down)",
            "not responding", "timed? ?out while", "lost connection", "could ?n.?t (establish|connect)", "unable to connect",
            "no answer from", "deferred connection", "応答(し|があり)ま?せん", "接続でき",
        ),
    ),
    ReasonSpec(
        Reason.SYSTEM_TROUBLE, "receiver", "something is broken at their side",
        ("3.0", "3.1", "3.2", "3.3", "3.5", "5.0", "5.1", "5.2", "5.4", "5.5", "2.4"),
        (
            "(local|internal|system|server|software|resource|database|disk|ldap) (configuration )?(error|problem|failure|full|trouble)",
            "insufficient (system|disk) ", "service (is )?(currently |temporarily )?(unavailable|not available)",
            "temporar(y|ily) (local |lookup |server |system )?(problem|failure|error|unavailable|rejected)",
            "please try (again )?later", "システムエラー", "一時的な",
        ),
    ),
    ReasonSpec(
        Reason.POLICY, "address", "refused by a rule of the receiver that it does not name",
        ("7.0", "7.1", "7.2", "7.9"),
        (
            "polic(y|ies)", "access denied", "not authorized", "administrative", "prohibit",
            "message (was )?(rejected|refused)", "mail refused", "transaction failed",
        ),
    ),
    ReasonSpec(
        Reason.UNKNOWN, "address", "none of the words and codes that we know",
    ),
)  # fmt: skip
"""In the order in which the words are looked for."""

BY_REASON = {spec.reason: spec for spec in TABLE}
_BY_STATUS = {status: spec.reason for spec in TABLE for status in spec.statuses}
_BY_SUBJECT = {
    "1": Reason.MAILBOX_UNKNOWN, "2": Reason.MAILBOX_DISABLED, "3": Reason.SYSTEM_TROUBLE, "4": Reason.UNREACHABLE,
    "5": Reason.SYSTEM_TROUBLE, "6": Reason.CONTENT, "7": Reason.POLICY,
}  # fmt: skip
"""What the subject of a status says whose detail is not in the table (RFC 3463 §3)."""
_WORDS = tuple((re.compile("|".join(spec.words)), spec.reason) for spec in TABLE if spec.words)

_SENDER = re.compile(
    r"(sender|from (address|domain|header))( address| domain| host)?:? .{0,30}((rejected|denied|refused)(?! by)|must (exist|resolve))"
    r"|sender( address| domain)?.{0,20}(not (exist|found)|verif(y|ication))|domain of (the )?sender"
    r"|your (host ?name|domain|ip|helo)|helo (command )?rejected|client host rejected"
)
"""Said of the sender, in words that are said of recipients as well (`Sender address rejected: Domain not found`)."""
_LISTED = re.compile("|".join((*BY_REASON[Reason.SPAM].words, *BY_REASON[Reason.BLOCKED].words)))

_ADDRESS = re.compile(r"[^\s<>\"']{1,80}@[^\s<>\"',;)]{1,255}")
_URL = re.compile(r"https?://\S+|\bwww\.\S+")
_LONGEST = 4_000
_SURE = frozenset(
    status
    for spec in TABLE
    if spec.about == "us"
    for status in spec.statuses
    if re.fullmatch(r"1\.[78]|7\.[2-9]\d+|7\.\d{3}", status)
)
"""Codes that servers use for one thing only, whatever words stand beside them."""


def reason_of(status: str | None, text: str) -> Reason:
    """The one word for a status code and what the server said with it.

    >>> reason_of("5.1.1", "smtp; 550 5.1.1 <sato@aoba.example>: Recipient address rejected: User unknown").value
    'mailbox-unknown'
    >>> reason_of("5.7.1", "550 5.7.1 Service unavailable; client [192.0.2.1] blocked using zen.blocklist.example").value
    'blocked'
    >>> reason_of("4.2.2", "").value, reason_of("5.0.0", "").value
    ('mailbox-full', 'unknown')
    """
    _, _, rest = (status or "").partition(".")
    subject, _, _ = rest.partition(".")
    if rest in _SURE:
        return _BY_STATUS[rest]
    said = plain(text)
    if _SENDER.search(said) and not _LISTED.search(said):
        return Reason.AUTH_FAILED
    for words, reason in _WORDS:
        if words.search(said):
            return reason
    return _BY_STATUS.get(rest) or _BY_SUBJECT.get(subject, Reason.UNKNOWN)


def plain(text: str) -> str:
    """What a server said, without addresses, links and line breaks: `spam@aoba.example` is no word about spam."""
    return " ".join(_URL.sub(" ", _ADDRESS.sub(" ", text[:_LONGEST])).casefold().split())
