"""The `mebae` command."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mebae import cli_crm, cli_sales
from mebae.logs import configure_logging
from mebae.programs.screen import run_command

commands = typer.Typer(
    help="Mebae (芽生え): lead nurturing. Scenarios as Python, one durable Temporal workflow a lead.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
journeys = typer.Typer(help="What ops do with running journeys.", no_args_is_help=True)
commands.add_typer(journeys, name="journeys")
quarantine = typer.Typer(
    help="Events that could not be taken: kept with their reason, until they are released. Nothing that was sent is lost.",
    no_args_is_help=True,
)
commands.add_typer(quarantine, name="quarantine")
bounces = typer.Typer(
    help="What came back about mails: bounces, complaints, unsubscribes by mail, automatic replies.", no_args_is_help=True
)
commands.add_typer(bounces, name="bounces")
sending = typer.Typer(help="Whether marketing mail goes out at all, and how much of it comes back.", no_args_is_help=True)
commands.add_typer(sending, name="sending")
mails = typer.Typer(help="Mails of which nobody can say whether they went out.", no_args_is_help=True)
commands.add_typer(mails, name="mails")
one_lead = typer.Typer(help="What is known of one lead.", no_args_is_help=True)
commands.add_typer(one_lead, name="lead")
segments = typer.Typer(help="Saved conditions on leads, and who is in them.", invoke_without_command=True)
commands.add_typer(segments, name="segments")
broadcasts = typer.Typer(help="One mail to a segment: newsletters, invitations.", invoke_without_command=True)
commands.add_typer(broadcasts, name="broadcasts")

suppressions = typer.Typer(help="Addresses that no marketing mail goes to, whatever a lead agreed to.", no_args_is_help=True)
commands.add_typer(suppressions, name="suppressions")
commands.add_typer(cli_sales.handovers, name="handovers")
commands.add_typer(cli_sales.calls, name="calls")
commands.add_typer(cli_crm.crm, name="crm")

mail = typer.Typer(help="Mails, before any lead gets them.", no_args_is_help=True)
commands.add_typer(mail, name="mail")

WorkflowId = Annotated[str, typer.Argument(help="As `starter.py list` and the Temporal UI show it: journey/…")]

Who = Annotated[str, typer.Argument(metavar="EMAIL", help="The lead's address, its user id, or its number.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: everything as JSON, times in UTC.")]

# Commands import what they need when they run, so that `mebae --help` and `mebae check` answer at once.


@commands.command()
def up() -> None:
    """Runs everything on this machine: Temporal, worker, server and inbox, until Ctrl-C."""
    from mebae.programs.up import up

    up()


@commands.command()
def demo(
    seconds_a_day: Annotated[float, typer.Option(min=0.5, help="How long a day of the world takes.")] = 1.5,
    cap: Annotated[float, typer.Option(min=5, help="Seconds after which the story is cut.")] = 90.0,
) -> None:
    """Shows a scenario at work: real Temporal, real mail to an inbox, invented leads, days that pass in seconds."""
    from mebae.programs.demo import demo

    demo(seconds_a_day=seconds_a_day, cap=cap)


@commands.command()
def check(
    scenario: Annotated[str | None, typer.Argument(help="The scenario's id; all of them if left out.")] = None,
    links: Annotated[
        bool, typer.Option("--links", help="Also asks every link of every mail whether it leads anywhere, over the network.")
    ] = False,
) -> None:
    """Reads the scenarios and what stands beside them, as the worker would, and renders every mail; lists every problem with its place."""
    from mebae.programs.check import check

    if not check(scenario, links=links):
        raise typer.Exit(1)


@commands.command()
def doctor(as_json: AsJson = False) -> None:
    """Looks whether everything is there that lawful mail needs: settings, database, Temporal, clock, mail server, SPF, DKIM, DMARC."""
    from mebae.programs.doctor import doctor

    if not doctor(as_json=as_json):
        raise typer.Exit(1)


@commands.command("import-leads")
def import_leads(
    file: Annotated[Path, typer.Argument(help="A CSV file or an Excel workbook (.xlsx) with a line of headings.")],
    list_name: Annotated[str | None, typer.Option("--list", metavar="NAME", help="The list's name; the file's if left out.")] = None,
    sheet: Annotated[str | None, typer.Option(help="Of a workbook: the sheet's name or number; else the first one.")] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="HEADING=FIELD", help="What a column means: 'ご所属=company', 'Q1=lead.budget', '備考=ignore'."),
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same in a YAML file; FILE.map.yaml beside the list is found by itself.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Where these leads come from; the list's name if left out.")] = None,
    campaign: Annotated[str | None, typer.Option(help="The campaign that brought them.")] = None,
    consent: Annotated[
        str | None, typer.Option(metavar="HOW", help="That they agreed to get mail, and how: business-card, form, …")
    ] = None,
    consent_wording: Annotated[str | None, typer.Option(metavar="TEXT", help="The words that they were shown.")] = None,
    consent_date: Annotated[str | None, typer.Option(metavar="DATE", help="When they agreed (2026-04-01); today if left out.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Says what would happen, and writes nothing.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Writes every problem, line by line, into this file.")] = None,
) -> None:
    """Imports leads from a CSV file or Excel workbook. Bad rows are listed and left out; the same file twice changes nothing."""
    from mebae.programs.importing import import_file

    if not import_file(
        file, list_name, sheet=sheet, maps=maps or [], mapping=mapping, source=source, campaign=campaign, consent=consent,
        consent_wording=consent_wording, consent_date=consent_date, dry_run=dry_run, report_file=report,
    ):  # fmt: skip
        raise typer.Exit(1)


@commands.command("export-leads")
def export_leads(
    file: Annotated[Path, typer.Argument(help="The file to write, .csv or .xlsx by its name.")],
    segment: Annotated[str | None, typer.Option(metavar="ID", help="Only the leads that are in this segment now.")] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Only these, such as email,name,tags,lead.budget; else all that imports read.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of a CSV file: utf-8-sig (Excel opens it), utf-8 or cp932.")] = "utf-8-sig",
) -> None:
    """Writes leads into a CSV file or Excel workbook, under the headings that import-leads reads."""
    from mebae.programs.exporting import export_file

    export_file(file, segment, columns, encoding)


@segments.callback()
def list_segments(context: typer.Context) -> None:
    """Lists the segments of scenarios/segments.py, each with how many leads are in it now."""
    if context.invoked_subcommand is None:
        from mebae.programs.segments import list_segments

        list_segments()


@segments.command("show")
def show_segment(
    segment: Annotated[str, typer.Argument(help="The segment's id, such as dormant.")],
    limit: Annotated[int, typer.Option(min=1, help="How many leads to list.")] = 50,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write all of them into this .csv or .xlsx instead.")] = None,
) -> None:
    """Lists the leads that are in a segment now, with when a sweep found them in it."""
    from mebae.programs.segments import show_segment

    show_segment(segment, limit=limit, file=csv)


@commands.command()
def sweep(
    segment: Annotated[str | None, typer.Argument(help="The segment's id; all of them if left out.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say who would join.")] = False,
) -> None:
    """Looks now who has become a member of a segment, as Temporal does every morning: each of them gets the event Segment Joined."""
    from mebae.programs.segments import sweep

    sweep(segment, dry_run=dry_run)


@commands.command("digest")
def digest(
    person: Annotated[str | None, typer.Option("--for", help="As this person gets it, by the id in scenarios/sales.py.")] = None,
    send: Annotated[bool, typer.Option("--send", help="Sends it now to all who get it; the weekly one comes anyway.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Writes the mail as a page into this file instead.")] = None,
) -> None:
    """Shows the weekly mail to sales as it would be now: who is warm, what gave it and since when."""
    from mebae.programs.digest import send_digest, show_digest

    if send:
        send_digest()
    else:
        show_digest(person, file=html)


@commands.command("rescore")
def rescore(
    yes: Annotated[bool, typer.Option("--yes", help="Goes ahead without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Says who would move and stops.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Counts all leads anew, also those that this model has scored.")] = False,
    wake_journeys: Annotated[
        bool, typer.Option("--wake-journeys", help="Journeys start and wake from what leads become by it. They sleep if left out.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option(min=0, help="How many count; one for each core if left out, 0: this one.", show_default=False)
    ] = None,
) -> None:
    """Scores all leads by what scenarios/scoring.py and mapping.csv say now, from their stored events.

    Until you run it, leads are scored as before. It says first who would move: scores, stages, MQLs, exclusions; then it asks.
    Events may come in meanwhile. If it is cut off, run it again: it goes on with the leads that are left. Every point that a
    lead gains or loses is on its ledger, and every stage that it reaches is an event of it.
    """
    from mebae.programs.rescore import rescore_leads

    if not rescore_leads(yes=yes, dry_run=dry_run, again=again, wake=wake_journeys, processes=processes):
        raise typer.Exit(1)


@commands.command("mapping")
def list_unmapped(
    limit: Annotated[int, typer.Option(min=1, help="How many titles, and how many industries.")] = 30,
    lines: Annotated[bool, typer.Option("--lines", help="Only the lines for mapping.csv.")] = False,
) -> None:
    """Lists the titles (役職) and industries (業種) of leads that no row of scenarios/mapping.csv fits.

    The most frequent first, with lines to paste: write what each means after the last comma, then run: mebae rescore
    """
    from mebae.programs.rescore import list_unmapped

    list_unmapped(limit=limit, lines_only=lines)


@commands.command("events")
def list_events(
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="From a day on (2026-04-01), or for a span up to now (30d, 12h, 2w).")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the latest events of each name are looked into.")] = 200,
) -> None:
    """Lists the events that came, beside the tracking plan of scenarios/events.py.

    Says how often each name came and of how many leads; which names are not in the plan, with the planned one that was
    probably meant; which properties are unknown, of the wrong kind or missing; and which planned events never came.
    An event is never refused because of the plan.
    """
    from mebae.programs.events import show_events

    show_events(since, sample)


@commands.command()
def forms(
    form: Annotated[str | None, typer.Argument(help="The form's id: prints its HTML, to paste into a page.")] = None,
    url: Annotated[str | None, typer.Option(help="Where visitors reach the server, such as https://mebae.example.jp.")] = None,
) -> None:
    """Lists the forms of scenarios/forms.py, or prints one as HTML."""
    from mebae.programs.forms import forms

    forms(form, url)


@journeys.command()
def pause(workflow_id: WorkflowId) -> None:
    """Parks a journey where it is. Nothing is lost: what it hears meanwhile counts."""
    from mebae.programs.operating import operate

    operate(workflow_id, "pause")


@journeys.command()
def resume(workflow_id: WorkflowId) -> None:
    """Lets a paused journey go on."""
    from mebae.programs.operating import operate

    operate(workflow_id, "resume")


@journeys.command()
def end(
    workflow_id: WorkflowId,
    outcome: Annotated[str, typer.Option(help="What the journey is counted under.")] = "ended-by-hand",
) -> None:
    """Ends a journey now."""
    from mebae.programs.operating import operate

    operate(workflow_id, "end", outcome)


BroadcastName = Annotated[str, typer.Argument(metavar="NAME", help="The broadcast's id, such as monthly-news.")]
Run = Annotated[int, typer.Argument(metavar="RUN", help="The run's number, as `mebae broadcasts` shows it.")]


@broadcasts.callback()
def list_broadcasts(context: typer.Context) -> None:
    """Lists the broadcasts of scenarios/broadcasts/, each with when it goes out next and how its last run stands."""
    if context.invoked_subcommand is None:
        from mebae.programs.broadcasts import list_broadcasts

        list_broadcasts()


@broadcasts.command("show")
def show_broadcast(
    broadcast: BroadcastName,
    run: Annotated[int | None, typer.Option(help="Of this run; the latest if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Shows a broadcast's runs with their progress, and what one has brought: opens and clicks of persons, the A/B test, the holdout."""
    from mebae.programs.broadcasts import show_broadcast

    show_broadcast(broadcast, run=run, as_json=as_json)


@broadcasts.command("send")
def send_broadcast(
    broadcast: BroadcastName,
    to: Annotated[
        list[str] | None, typer.Option("--to", metavar="EMAIL", help="Only to this lead, in the segment or not; several times for several.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only says how many would get it, and why others would not.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Of one by local time: to all at once.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Goes ahead without asking.")] = False,
    command: Annotated[str | None, typer.Option(help="An id of your own: the same one again sends nothing twice.")] = None,
) -> None:
    """Sends a broadcast now, whatever its schedule says. The gate is asked about every mail, as always."""
    from mebae.programs.broadcast_sending import send_broadcast

    send_broadcast(broadcast, to=to or [], dry_run=dry_run, at_once=now, yes=yes, command=command)


@broadcasts.command("pause")
def pause_broadcast(run: Run) -> None:
    """Stops a run for now: no further mail, but for those whose bytes are on their way."""
    from mebae.programs.broadcast_sending import steer

    steer(run, "pause")


@broadcasts.command("resume")
def resume_broadcast(run: Run) -> None:
    """Lets a paused run go on."""
    from mebae.programs.broadcast_sending import steer

    steer(run, "resume")


@broadcasts.command("end")
def end_broadcast(
    run: Run, outcome: Annotated[str, typer.Option(help="What it is recorded under.")] = "ended-by-hand"
) -> None:
    """Ends a run: who had no mail yet gets none."""
    from mebae.programs.broadcast_sending import steer

    steer(run, "end", outcome)


@one_lead.command("show")
def lead_show(
    who: Who,
    events: Annotated[int, typer.Option(min=0, max=10_000, help="How many of its latest events.")] = 20,
    ledger: Annotated[bool, typer.Option("--ledger", help="Also every change of the score, with rule and event.")] = False,
    as_json: AsJson = False,
) -> None:
    """Shows a lead at this moment: the score with every reason, what decays when, what is missing for MQL, journeys, mails, consent."""
    from mebae.programs.lead import show

    show(who, events=events, ledger=ledger, as_json=as_json)


@one_lead.command("export")
def lead_export(
    who: Who,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE.json", help="Where to; on the screen if left out.")] = None,
) -> None:
    """Writes everything that is kept of a lead as JSON: what it may ask to see (GDPR, 個人情報保護法)."""
    from mebae.programs.personal import export

    export(who, file)


@one_lead.command("erase")
def lead_erase(who: Who, yes: Annotated[bool, typer.Option("--yes", help="Goes ahead without asking.")] = False) -> None:
    """Wipes all that is known of a lead and ends its journeys. A hash of its address stays, so that it gets no mail ever again."""
    from mebae.programs.personal import erase

    erase(who, yes=yes)


MailName = Annotated[str, typer.Argument(metavar="MAIL", help="thanks, or with its scenario or broadcast: whitepaper-followup/thanks.")]
ForLead = Annotated[str | None, typer.Option("--lead", metavar="EMAIL", help="As this lead would get it; else as an invented one.")]
ForPersona = Annotated[
    str | None, typer.Option(help="Which invented reader: ja, ja-bare (nothing is known of it), en, en-bare.")
]
InLanguage = Annotated[str | None, typer.Option(help="Of the text; else the reader's.")]


@mail.command("preview")
def mail_preview(
    mail: MailName,
    lead: ForLead = None,
    persona: ForPersona = None,
    language: InLanguage = None,
    folder: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the files go; into the state folder if left out.")] = None,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Opens it in the browser.")] = True,
) -> None:
    """Writes a mail as a lead would get it now, HTML and text, opens it, and says what could be better. Sends nothing."""
    from mebae.programs.mails import Wanted, preview

    preview(Wanted(mail, lead, persona, language), folder=folder, show=show)


@mail.command("test")
def mail_test(
    mail: MailName,
    to: Annotated[str, typer.Option(metavar="ADDRESS", help="Yours: it goes there past the gate, and is counted nowhere.")],
    lead: ForLead = None,
    persona: ForPersona = None,
    language: InLanguage = None,
) -> None:
    """Sends one mail to an address of your own, to see it in a real mail program. Links are not tracked."""
    from mebae.programs.mails import Wanted, send_test

    send_test(Wanted(mail, lead, persona, language), to)


@commands.command("leads")
def list_leads(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    stage: Annotated[str | None, typer.Option(help="Only those at this stage, such as interest.")] = None,
    qualification: Annotated[str | None, typer.Option(help="Only those that are none, mql, accepted, sql, …")] = None,
    segment: Annotated[str | None, typer.Option(help="Only the leads that are in this segment now.")] = None,
    excluded: Annotated[bool, typer.Option("--excluded", help="Only those that the scoring model keeps out, with the reasons.")] = False,
    as_json: AsJson = False,
) -> None:
    """Lists the leads with the most points at this moment."""
    from mebae.programs.lead import show_list

    show_list(limit=limit, stage=stage, qualification=qualification, segment=segment, excluded=excluded, as_json=as_json)


@commands.command()
def why(
    who: Who,
    scenario: Annotated[str | None, typer.Option(help="Why it entered this scenario or did not, such as whitepaper-followup.")] = None,
    mail: Annotated[str | None, typer.Option(help="Why it got this mail or did not: the mail's id, or the step's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Says why a lead got each mail, or did not get it (yet): every answer of the gate, the rule, and what would change it.

    With --mail everything about one mail. With --scenario why it entered a scenario or did not: its events, the audience part
    by part, and what its journey waits for.
    """
    from mebae.programs.why import show_why

    show_why(who, scenario, mail, as_json=as_json)


@commands.command()
def consent(
    who: Who,
    basis: Annotated[
        str | None,
        typer.Option(help="On what ground it may be written to: consent, dealings, business-card or published-address."),
    ] = None,
    how: Annotated[str | None, typer.Option(help="How it was given: telephone, seminar, paper …")] = None,
    wording: Annotated[str, typer.Option(metavar="TEXT", help="The words that the lead was shown or told.")] = "",
    source: Annotated[str, typer.Option(help="Where: the fair, the list, the person who asked.")] = "",
    date: Annotated[str | None, typer.Option(metavar="DATE", help="When (2026-04-01); now if left out.")] = None,
    resubscribe: Annotated[
        bool, typer.Option("--resubscribe", help="The lead itself asked for mail again, after it had unsubscribed.")
    ] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="The lead wants no marketing mail; with --basis: only this ground is no longer so.")
    ] = False,
) -> None:
    """Records that a lead may be written to, on what ground and how that came about; or takes it back. Without options: what is recorded.

    A record is kept for MEBAE_CONSENT_YEARS after the last mail. Who unsubscribed gets no mail whatever is recorded.
    """
    from mebae.programs.consent import consent

    consent(
        who, basis=basis, how=how, wording=wording, source=source, date=date, resubscribe=resubscribe, withdrawn=withdraw
    )


@suppressions.command("list")
def suppressions_list(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, the newest first.")] = 50,
    reason: Annotated[str | None, typer.Option(help="Only these: unsubscribed, hard-bounce, complaint, …")] = None,
) -> None:
    """Lists the suppressed addresses with their reasons. Only hashes are kept; addresses are shown where a lead is known."""
    from mebae.programs.suppressions import list_suppressions

    list_suppressions(limit=limit, reason=reason)


@suppressions.command("add")
def suppressions_add(
    addresses: Annotated[list[str], typer.Argument(metavar="EMAIL…", help="The addresses.")],
    reason: Annotated[str, typer.Option(help="by-hand, unsubscribed, hard-bounce or complaint.")] = "by-hand",
) -> None:
    """Puts addresses on the list. It acts at once, also on mail that is on its way."""
    from mebae.programs.suppressions import add_suppressions

    add_suppressions(addresses, reason)


@suppressions.command("lift")
def suppressions_lift(addresses: Annotated[list[str], typer.Argument(metavar="EMAIL…", help="The addresses.")]) -> None:
    """Takes addresses off the list. What a lead itself said (it unsubscribed) stays: only its own consent lifts that."""
    from mebae.programs.suppressions import lift_suppressions

    if not lift_suppressions(addresses):
        raise typer.Exit(1)


@suppressions.command("import")
def suppressions_import(
    file: Annotated[Path, typer.Argument(help="A CSV file or workbook with an address in each row, or a line each.")],
    reason: Annotated[str, typer.Option(help="For rows that say none themselves.")] = "imported",
    sheet: Annotated[str | None, typer.Option(help="Of a workbook: the sheet's name or number; else the first one.")] = None,
) -> None:
    """Puts every address of a file on the list, as when you come from another tool. The same file twice changes nothing."""
    from mebae.programs.suppressions import import_suppressions

    import_suppressions(file, reason, sheet)


@suppressions.command("export")
def suppressions_export(file: Annotated[Path, typer.Argument(help="The file to write, .csv or .xlsx by its name.")]) -> None:
    """Writes the whole list: hash, reason and time, with the address where a lead is known."""
    from mebae.programs.suppressions import export_suppressions

    export_suppressions(file)


@mails.command("unknown")
def mails_unknown(
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Lists the mails whose fate is unknown: the line broke, or the worker died, after the first byte and before the answer."""
    from mebae.programs.unknown_mails import list_unknown

    list_unknown(limit=limit, as_json=as_json)


@mails.command("settle")
def mails_settle(
    ids: Annotated[list[int], typer.Argument(help="As `mebae mails unknown` shows them.")],
    sent: Annotated[bool, typer.Option("--sent", help="It went out: the mail server's log, or the lead, says so.")] = False,
    send_again: Annotated[
        bool, typer.Option("--send-again", help="Send it now, under the same Message-ID, if the gate lets it. It may arrive twice.")
    ] = False,
) -> None:
    """Settles mails whose fate is unknown, once a person knows it or decides."""
    from mebae.programs.unknown_mails import settle

    if not settle(ids, sent=sent, send_again=send_again):
        raise typer.Exit(1)


@quarantine.command("list")
def quarantine_list(
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 50,
    released: Annotated[bool, typer.Option("--released", help="Also those that were released.")] = False,
) -> None:
    """Lists the events in quarantine with their reasons. Shows nothing personal."""
    from mebae.programs.quarantine import list_quarantine

    list_quarantine(limit=limit, released=released)


@quarantine.command("show")
def quarantine_show(id: Annotated[int, typer.Argument(help="As `mebae quarantine list` shows it.")]) -> None:
    """Shows one event whole, as it was sent, with the reason. This is personal data."""
    from mebae.programs.quarantine import show_quarantined

    show_quarantined(id)


@quarantine.command("release")
def quarantine_release(
    ids: Annotated[list[int] | None, typer.Argument(help="As `mebae quarantine list` shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are in quarantine, the oldest first.")] = False,
) -> None:
    """Reads events again with today's code and stores them. What is still bad stays, and says why."""
    from mebae.programs.quarantine import release_quarantined

    if not release_quarantined(ids or [], everything=everything):
        raise typer.Exit(1)


@bounces.command("read")
def bounces_read(
    path: Annotated[Path, typer.Argument(help="A maildir, an mbox, a folder of .eml files, or one mail.")],
) -> None:
    """Takes in what came back from a mailbox: each mail once, however often it is read. The mailbox stays as it is.

    Bounces for good and complaints suppress the address at once, soft bounces after several in a row. From what comes without
    proof that its sender had our mail nothing follows. Other mail in the mailbox is left alone and not kept.
    """
    from mebae.programs.bounces import read_mailbox

    read_mailbox(path)


@bounces.command("list")
def bounces_list(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest first.")] = 50,
    kind: Annotated[str | None, typer.Option(help="Only these: bounce-hard, bounce-soft, complaint, auto-reply, …")] = None,
) -> None:
    """Lists what came back, with the reason in one word. Shows nothing personal."""
    from mebae.programs.bounces import list_bounces

    list_bounces(limit=limit, kind=kind)


@bounces.command("show")
def bounces_show(id: Annotated[int, typer.Argument(help="As `mebae bounces list` shows it.")]) -> None:
    """Shows one report whole, as it came. This is personal data."""
    from mebae.programs.bounces import show_bounce

    show_bounce(id)


@sending.command("status")
def sending_status(
    days: Annotated[int, typer.Option(min=1, max=90, help="How many days.")] = 14,
    domains: Annotated[int, typer.Option(min=0, max=1_000, help="How many domains.")] = 10,
) -> None:
    """Says whether marketing mail goes out, and what came back about it: complaints and bounces by day and domain.

    Complaints of 0.3 % of the mails of a week pause it by themselves: above that, mailbox providers put everything into spam.
    """
    from mebae.programs.sending import show_sending

    show_sending(days=days, domains=domains)


@sending.command("pause")
def sending_pause() -> None:
    """Stops all marketing mail now. What is due waits; nothing is lost. Mail to sales goes on."""
    from mebae.programs.sending import pause_all

    pause_all()


@sending.command("resume")
def sending_resume() -> None:
    """Lets marketing mail go on. The complaints so far were looked at: they pause it no more."""
    from mebae.programs.sending import resume_all

    resume_all()


def main() -> None:
    """Where the command begins."""
    configure_logging(quiet=True)
    run_command(partial(commands, prog_name="mebae"))
