"""What an installation may set, from the environment (`MEBAE_…`, and `DATABASE_URL`). Secrets come from nowhere else."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import AwareDatetime, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mebae.clock import WorldClock
from mebae.errors import BadInput
from mebae.store.intake import Limits
from mebae.timing import Calendar, parse_time
from mebae.tokens import Tokens
from mebae.verdicts import Tuning


class Settings(BaseSettings):
    """One object, made in each composition root. Defaults suit one machine with everything embedded."""

    model_config = SettingsConfigDict(env_prefix="MEBAE_", extra="ignore", env_ignore_empty=True)

    state: Path = Path(".mebae")
    """Everything that `mebae up` keeps: database, Temporal's file, the inbox, logs, the write key."""
    database_url: str = Field(default="", validation_alias="DATABASE_URL")
    scenarios: Path = Path("scenarios")
    write_keys: SecretStr = SecretStr("")
    """What clients authenticate with, comma-separated."""
    page_keys: SecretStr = SecretStr("")
    """Keys for web pages, comma-separated. Anybody can read them there: they cannot say stages, qualifications or consent."""
    allowed_origins: str = "*"
    """The web sites whose pages may send events, comma-separated."""

    host: str = "127.0.0.1"
    port: int = 8300
    intake_waiting: int = Field(default=2000, ge=1)
    """Requests with events that may wait for their commit; more are answered 429."""
    intake_backlog: int = Field(default=1024, ge=1)
    """Megabytes of kept requests that may wait for the worker; with more, requests are answered 429."""
    inbox_port: int = 0
    """The embedded inbox's SMTP port; 0: there is none."""

    clock_origin: AwareDatetime | None = None
    clock_speed: float = Field(default=1.0, gt=0)

    smtp_host: str = "127.0.0.1"
    smtp_port: int = 8325
    smtp_tls: Literal["none", "starttls", "tls"] = "none"
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_connections: int = Field(default=4, ge=1, le=64)
    smtp_timeout: float = Field(default=30.0, gt=0)
    """Seconds for each SMTP exchange."""
    unknown_mail: Literal["hold", "retry"] = "hold"
    """A mail whose fate nobody can say: never twice and listed (hold), or at most once more (retry)."""

    smtp_rate: float = Field(default=0.0, ge=0)
    """Mails a second at most, over all workers; 0: as fast as the mail server takes them."""
    mail_api_url: str = ""
    """An HTTP API that mail is handed to instead of SMTP."""
    mail_api_key: SecretStr | None = None
    mail_api_knows_keys: bool = True
    """Whether it takes one mail for one `Idempotency-Key`, however often it is sent. If not, a lost answer leaves a mail unknown."""

    public_url: str = ""
    """Where the world reaches the HTTP server: links for tracking, unsubscribing and preferences begin with it."""
    token_keys: SecretStr = SecretStr("")
    """What those links are signed with: `20261127:secret`, the day from which a key signs, comma-separated. See `mebae.tokens`."""
    click_too_soon: float = Field(default=3.0, ge=0)
    """Seconds after delivery in which no person can have clicked."""
    verdict_wait: float = Field(default=10.0, ge=0)
    """Seconds after which an open or click is judged: what else its visitor does by then is known."""
    scanner_ignored: float = Field(default=15.0, ge=0)
    """Minutes for which a visitor who gave itself away as a machine is ignored."""
    machines: Path | None = None
    """A file with further programs and networks that are machines (see `mebae/machines.toml`)."""
    bounce_domain: str = ""
    """The domain whose mail comes to us: bounces, complaints, unsubscribes by mail. Empty: the sender's address takes them."""
    bounce_port: int = 0
    """The SMTP port that takes them in; 0: none (then `mebae bounces read` reads a maildir or mbox)."""
    bounce_host: str = ""
    """Where it listens; empty: where the HTTP server does."""
    soft_bounces: int = Field(default=5, ge=1)
    """So many mails in a row that came back for now, and the address is suppressed."""
    dkim_domain: str = ""
    dkim_selector: str = ""
    dkim_key: SecretStr | None = None
    """The private key, as PEM. Empty: mails are not signed here."""
    consent_years: float = Field(default=3.0, ge=0)
    """How long the record of a consent is kept after the last mail."""
    gate_days: float = Field(default=180.0, ge=0)
    """How long it is kept what the gate said of a mail that is over; 0: for ever. What became of the mail, and why, stays with it."""
    dns_server: str = ""
    """Whom `mebae doctor` asks for SPF, DKIM and DMARC, such as `127.0.0.1:5353`; the system's resolver if empty."""

    sender_name: str = "Mebae"
    sender_email: str = "hello@mebae.example"
    sender_postal: str = ""
    """The sender's postal address, shown in the footer (特定電子メール法, CAN-SPAM)."""
    sender_contact: str = ""
    sales_email: str = "sales@mebae.example"
    """Who is told by `notify_sales`."""

    time_zone: str = "Asia/Tokyo"
    """The workspace's zone, for leads that have none."""
    sweep_at: str = "06:00"
    """When the segments are swept, every day, in the workspace's zone."""
    language: str = "ja"
    holidays: str = "JP"
    """ISO country code, whose public holidays are no business days."""
    year_end_holidays: bool = True
    """12/29 to 1/3 are no business days: business custom in Japan, not law."""

    @field_validator("token_keys")
    @classmethod
    def _are_keys(cls, written: SecretStr) -> SecretStr:
        try:
            Tokens.read_keys(_keys(written))
        except BadInput as error:
            raise ValueError(str(error)) from None
        return written

    @field_validator("mail_api_url")
    @classmethod
    def _is_api(cls, written: str) -> str:
        try:
            parts = urlsplit(written)
            good = not written or (parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
        except ValueError:
            good = False
        if not good:
            raise ValueError("write the whole address, such as https://api.mail.example/v1/messages")
        return written

    @field_validator("public_url")
    @classmethod
    def _is_url(cls, written: str) -> str:
        if written and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", written):
            raise ValueError("write the whole address, such as https://mail.example.jp")
        return written.rstrip("/")

    @field_validator("sweep_at")
    @classmethod
    def _is_time(cls, written: str) -> str:
        try:
            return f"{parse_time(written):%H:%M}"
        except BadInput as error:
            raise ValueError(str(error)) from None

    def url(self) -> str:
        """Where the database is; SQLite in the state folder unless `DATABASE_URL` says otherwise."""
        return self.database_url or f"sqlite:///{self.state / 'mebae.db'}"

    def clock(self) -> WorldClock:
        if self.clock_origin is None:
            return WorldClock(speed=self.clock_speed)
        return WorldClock(origin=self.clock_origin, speed=self.clock_speed)

    def intake_limits(self) -> Limits:
        return Limits(waiting=self.intake_waiting, stored=self.intake_backlog * 1024 * 1024)

    def tokens(self) -> Tokens | None:
        """What signs links; None where no key is set, and then no link is tracked."""
        written = _keys(self.token_keys)
        return Tokens.read_keys(written) if written else None

    def tuning(self) -> Tuning:
        """How opens and clicks of machines are told from people's."""
        return Tuning(
            too_soon=timedelta(seconds=self.click_too_soon),
            wait=timedelta(seconds=self.verdict_wait),
            ignored_for=timedelta(minutes=self.scanner_ignored),
        )

    def mail_server(self) -> tuple[str, int]:
        """The host and port that mail is handed to: those of the HTTP API if one is set."""
        if not self.mail_api_url:
            return self.smtp_host, self.smtp_port
        parts = urlsplit(self.mail_api_url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    def calendar(self) -> Calendar:
        return Calendar(country=self.holidays, year_end=self.year_end_holidays)

    def origins(self) -> list[str]:
        return [origin.strip() for origin in self.allowed_origins.split(",") if origin.strip()]

    def keys(self) -> list[str]:
        return _keys(self.write_keys)

    def keys_for_pages(self) -> list[str]:
        return _keys(self.page_keys)


def _keys(written: SecretStr) -> list[str]:
    return [key.strip() for key in written.get_secret_value().split(",") if key.strip()]
