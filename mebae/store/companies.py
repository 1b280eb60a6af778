"""Which firm a lead belongs to: by the domain of its address, else by the firm's name.

An address at a provider (`mebae.store.free_mail`) says nothing of the firm, so there the name counts. The domain wins over the
name: many firms share a name, none shares a domain. A firm that was known by its name only takes the domain of the first lead
that brings both, so that its earlier leads are found beside it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache

from sqlalchemy import text
from sqlmodel import Session, col, or_, select

from mebae.store.free_mail import is_free
from mebae.store.tables import Company, Lead

_MAKING = 0x6D656261_65636F6D
"""The advisory lock that writers of `companies` take on PostgreSQL. SQLite has one writer anyway."""

_SHORT = {"(株)": "株式会社", "(有)": "有限会社", "(同)": "合同会社", "(資)": "合資会社", "(名)": "合名会社",
          "(一社)": "一般社団法人", "(公社)": "公益社団法人", "(一財)": "一般財団法人", "(公財)": "公益財団法人",
          "(医)": "医療法人", "(学)": "学校法人", "(福)": "社会福祉法人", "(独)": "独立行政法人"}  # fmt: skip
_FORMS = re.compile(
    "株式会社|有限会社|合同会社|合資会社|合名会社|相互会社|(?:一般|公益|特例)?(?:社団|財団)法人|医療法人(?:社団|財団)?|学校法人"
    "|社会福祉法人|宗教法人|(?:国立|地方)?独立行政法人|国立大学法人|特定非営利活動法人|npo法人|弁護士法人|税理士法人|監査法人"
)
_WORDS = frozenset(
    {"inc", "incorporated", "co", "corp", "corporation", "company", "ltd", "limited", "llc", "llp", "lp", "plc", "kk", "gk", "gmbh",
     "ag", "kg", "sa", "sas", "sarl", "srl", "spa", "bv", "nv", "ab", "oy", "as", "pte", "pty", "pvt", "bhd", "sdn"}
)  # fmt: skip
_NO_NAMES = frozenset(
    {"なし", "無し", "無", "未定", "不明", "個人", "個人事業主", "フリーランス", "フリー", "自営業", "自営", "無職", "学生", "主婦",
     "該当なし", "非公開", "テスト", "none", "no", "na", "nan", "null", "nil", "test", "individual", "freelance", "freelancer",
     "selfemployed", "student", "personal", "private"}
)  # fmt: skip


def domain_of(email: str | None) -> str | None:
    """The domain that stands for a firm; None for a provider's.

    >>> domain_of("sato@aoba-seiki.co.jp"), domain_of("sato@gmail.com")
    ('aoba-seiki.co.jp', None)
    """
    domain = (email or "").rpartition("@")[2].lower().strip(".")
    return domain if domain and not is_free(domain) else None


@lru_cache(maxsize=8192)
def name_key(name: str) -> str:
    """A firm's name as it is compared: without legal form, width, case, spaces and marks. Empty if it names no firm.

    >>> name_key("㈱青葉精機") == name_key("青葉精機　株式会社") == "青葉精機"
    True
    >>> name_key("Aoba Seiki Co., Ltd."), name_key("ＡＯＢＡ　ＳＥＩＫＩ"), name_key("個人")
    ('aobaseiki', 'aobaseiki', '')
    """
    key = name
    for _ in range(8):  # what is left after one round may be a legal form again
        key, before = _once(key), key
        if key == before:
            break
    return "" if key in _NO_NAMES else key


def companies_for(session: Session, leads: Sequence[Lead], now: datetime) -> None:
    """Gives each of these leads (locked by the caller) its firm, found or made; None where neither address nor name tells.

    One query where every firm is known, a few statements for all where some are new.
    """
    wanted = [(lead, domain_of(lead.email), name_key(lead.company) if lead.company else "") for lead in leads]
    domains, keys = {domain for _, domain, _ in wanted if domain}, {key for _, _, key in wanted if key}
    if domains or keys:
        book = _Book(_known(session, domains, keys))
        if any(not book.knows(domain, key) for _, domain, key in wanted):
            # One writer at a time, who looks again: two imports of one exhibition would make each firm twice.
            _lock(session)
            book = _Book(_known(session, domains, keys))
            for lead, domain, key in wanted:
                book.learn(domain, key, lead.company, now)
            session.add_all(book.new)
            session.flush()
    for lead, domain, key in wanted:
        found = book.find(domain, key) if domain or key else None
        company_id = found.id if found is not None else None
        if lead.company_id != company_id:
            lead.company_id = company_id


def colleagues(session: Session, lead: Lead) -> list[Lead]:
    """The other leads of the same firm, oldest first."""
    if lead.company_id is None:
        return []
    query = select(Lead).where(Lead.company_id == lead.company_id, Lead.id != lead.id, col(Lead.erased_at).is_(None))
    return list(session.exec(query.order_by(col(Lead.id))).all())


class _Book:
    """The firms that bear on one batch."""

    def __init__(self, known: Iterable[Company]) -> None:
        self.new: list[Company] = []
        self._by_domain: dict[str, Company] = {}
        self._by_key: dict[str, Company] = {}
        self._nameless_domain: dict[str, Company] = {}
        """By name: firms that have no domain yet."""
        for company in known:
            self._enter(company)

    def _enter(self, company: Company) -> None:
        if company.domain is not None:
            self._by_domain[company.domain] = company
        if company.name_key:
            self._by_key.setdefault(company.name_key, company)
            if company.domain is None:
                self._nameless_domain.setdefault(company.name_key, company)

    def find(self, domain: str | None, key: str) -> Company | None:
        return self._by_domain.get(domain) if domain else self._by_key.get(key)

    def knows(self, domain: str | None, key: str) -> bool:
        """Whether there is nothing to write for a lead like this."""
        if not domain and not key:
            return True
        found = self.find(domain, key)
        return found is not None and not (key and found.name_key is None)

    def learn(self, domain: str | None, key: str, name: str | None, now: datetime) -> None:
        if self.knows(domain, key):
            return
        found = self.find(domain, key)
        if found is None and domain and key and (found := self._nameless_domain.pop(key, None)) is not None:
            found.domain = domain
        if found is None:
            found = Company(domain=domain, created_at=now)
            self.new.append(found)
        if key and found.name_key is None:
            found.name, found.name_key = (name or "").strip(), key
        self._enter(found)


def _known(session: Session, domains: set[str], keys: set[str]) -> Sequence[Company]:
    query = select(Company).where(or_(col(Company.domain).in_(domains), col(Company.name_key).in_(keys)))
    return session.exec(query.order_by(col(Company.id)).execution_options(populate_existing=True)).all()


def _lock(session: Session) -> None:
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MAKING})


def _once(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).casefold()
    for short, long in _SHORT.items():
        plain = plain.replace(short, f" {long} ")
    words = re.findall(r"[^\W_]+", plain)
    while len(words) > 1 and _FORMS.fullmatch(words[0]):
        del words[0]
    while len(words) > 1 and (words[-1] in _WORDS or _FORMS.fullmatch(words[-1]) or words[-2:] == ["k", "k"]):
        del words[-2 if words[-2:] == ["k", "k"] else -1 :]
    key = "".join(words)
    while (found := _FORMS.match(key)) is not None:
        key = key[found.end() :]
    while (found := re.search(f"(?:{_FORMS.pattern})$", key)) is not None:
        key = key[: found.start()]
    return key
