"""Tables in files, read and written row by row: CSV from any office, and Excel workbooks (.xlsx).

No more than a few rows are in memory at a time; of a workbook also its table of texts. Text that a spreadsheet would run as a
formula is written with an apostrophe before it, and read without.
"""

from __future__ import annotations

import codecs
import csv
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from xml.etree.ElementTree import ParseError

import openpyxl
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.utils.exceptions import InvalidFileException

from mebae.errors import BadInput, did_you_mean
from mebae.private import private_file
from mebae.store.traits import clean_text

DELIMITERS = ",\t;"
_FORMULA = re.compile("'*[=+\\-@＝＋－＠\t\r]")
_GUARDED = re.compile("'+[=+\\-@＝＋－＠\t\r]")
_NOTHING = frozenset({"#N/A", "#REF!", "#NAME?", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!"})
"""What Excel writes where a formula failed: nothing is known there."""
_CHUNK = 64 * 1024
_ROWS = 500


class Row(NamedTuple):
    """One row of a file that is not empty."""

    line: int
    """As an editor or Excel counts, from 1."""
    cells: list[Any]
    """Text, and from a workbook also numbers and booleans; an empty cell is ''."""
    problem: str | None = None
    """Why it cannot be read; then there are no cells."""


class Sheet(Protocol):
    """A table in a file, which can be read from its beginning again and again."""

    name: str | None
    """The sheet's, in a workbook."""
    ragged: bool
    """Whether rows leave out their empty cells at the end: no slip, then."""

    def rows(self) -> Iterator[Row]: ...

    def count(self) -> int:
        """About how many rows it has."""


# Reading --------------------------------------------------------------------------------------------------------------


def readings(path: Path, sheet: str | None = None) -> list[Sheet]:
    """The ways in which this file may be meant, the likeliest first: a CSV by its delimiter. `BadInput` if it is none."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file: check the path") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}): give a CSV file or an Excel workbook") from None
    if start.startswith(b"PK\x03\x04"):
        return [_Xlsx(path, sheet)]
    if start.startswith(b"\xd0\xcf\x11\xe0"):
        raise BadInput(
            f"{path}: this is an old Excel file (.xls), or one with a password: save it as .xlsx without one"
        )
    if sheet is not None:
        raise BadInput(f"{path}: a CSV file has no sheets: leave --sheet out")
    encoding, head = _decodes(path)
    return [_Csv(path, encoding, mark) for mark in sorted(DELIMITERS, key=head.count, reverse=True)]


def value_of(cell: Any) -> Any:
    """What a cell says: text without the marks of spreadsheets, whole numbers as such, days and times in ISO's spelling.

    >>> value_of(" '=1+1 "), value_of("#N/A"), value_of(120.0), value_of(datetime(2026, 4, 1))
    ('=1+1', '', 120, '2026-04-01')
    """
    match cell:
        case None:
            return ""
        case str():
            said = clean_text(cell).strip()
            said = said[1:] if _GUARDED.match(said) else said
            return "" if said in _NOTHING else said
        case bool() | int():
            return cell
        case float():
            return int(cell) if cell.is_integer() and abs(cell) < 2**53 else cell
        case datetime():
            return (cell.date() if cell.time() == time() else cell.replace(microsecond=0)).isoformat()
        case date() | time():
            return cell.isoformat()
        case _:
            return str(cell)


class _Csv:
    name: str | None = None
    ragged = False

    def __init__(self, path: Path, encoding: str, delimiter: str) -> None:
        self._path, self._encoding, self._delimiter = path, encoding, delimiter

    def rows(self) -> Iterator[Row]:
        with self._path.open(encoding=self._encoding, newline="") as file:
            reader = csv.reader(file, delimiter=self._delimiter)
            while True:
                line = reader.line_num + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield Row(line, [], f"cannot be read as CSV ({error})")
                    continue
                said = [value_of(cell) for cell in cells]
                if any(said):
                    yield Row(line, said)

    def count(self) -> int:
        return sum(1 for _ in self.rows())


class _Xlsx:
    ragged = True

    def __init__(self, path: Path, sheet: str | None) -> None:
        self._path = path
        self.name: str | None = None
        with self._open() as book:
            self.name = _chosen(path, book, sheet)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with _readable(self._path):
            book = openpyxl.load_workbook(self._path, read_only=True, data_only=True, keep_links=False)
        try:
            yield book
        finally:
            book.close()

    def rows(self) -> Iterator[Row]:
        with self._open() as book:
            sheet = book[self.name]
            sheet.reset_dimensions()  # some programs write wrong ones, and rows would be missing
            found = enumerate(sheet.iter_rows(values_only=True), 1)
            while True:
                with _readable(self._path):
                    rows = list(islice(found, _ROWS))
                if not rows:
                    return
                for line, cells in rows:
                    said = [value_of(cell) for cell in cells]
                    if any(cell != "" for cell in said):
                        yield Row(line, said)

    def count(self) -> int:
        with self._open() as book:
            return max((book[self.name].max_row or 1) - 1, 0)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What the library says of a broken workbook, in our words. Its warnings are about formats, which we do not read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (
            InvalidFileException,
            zipfile.BadZipFile,
            KeyError,
            ValueError,
            TypeError,
            EOFError,
            ParseError,
            OSError,
        ) as error:
            kind = type(error).__name__
            raise BadInput(
                f"{path}: cannot be read as an Excel workbook ({kind}): open it in Excel and save it again"
            ) from None


def _chosen(path: Path, book: Any, wanted: str | None) -> str:
    names = [sheet.title for sheet in book.worksheets]
    visible = [sheet.title for sheet in book.worksheets if sheet.sheet_state == "visible"]
    if wanted is None:
        if not visible:
            raise BadInput(f"{path}: the workbook shows no sheet")
        return str(visible[0])
    if wanted in names:
        return wanted
    if wanted.isdigit() and 1 <= int(wanted) <= len(names):
        return str(names[int(wanted) - 1])
    raise BadInput(f"{path}: there is no sheet '{wanted}'{did_you_mean(wanted, names)}")


def _decodes(path: Path) -> tuple[str, str]:
    """The encoding of a text file, and its first line that is not empty."""
    with path.open("rb") as file:
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    for encoding in ("utf-16",) if wide else ("utf-8-sig", "cp932"):
        head = ""
        try:
            with path.open(encoding=encoding, newline="") as file:
                while part := file.read(_CHUNK):
                    head = head or part.lstrip()[:_CHUNK]
        except UnicodeError:
            continue
        if not head:
            raise BadInput(
                f"{path}: the file is empty: it needs a line of headings, such as 'email,name,company', and rows"
            )
        return encoding, head.splitlines()[0]
    raise BadInput(f"{path}: is neither UTF-8 nor Shift_JIS (cp932): save it as 'CSV UTF-8'")


# Writing --------------------------------------------------------------------------------------------------------------


def guarded(text: str) -> str:
    """Text that no spreadsheet runs as a formula; `value_of` gives it back.

    >>> guarded("=HYPERLINK(…)"), guarded("+81-3-1234"), guarded("a=b")
    ("'=HYPERLINK(…)", "'+81-3-1234", 'a=b')
    """
    return f"'{text}" if _FORMULA.match(text) else text


class Written:
    """How a file is written: `row(cells)` for each, headings first."""

    def __init__(self, row: Callable[[Sequence[Any]], None]) -> None:
        self.row = row
        self.lost = 0
        """Cells with characters that the encoding does not have; `?` stands there."""


@contextmanager
def writing(path: Path, *, encoding: str = "utf-8-sig") -> Iterator[Written]:
    """Writes a table, `.csv` or `.xlsx` by the name. The file appears when it is whole, in the place of an older one."""
    kind = path.suffix.lower()
    if kind not in (".csv", ".xlsx"):
        raise BadInput(f"{path}: name the file .csv or .xlsx")
    if not path.parent.is_dir():
        raise BadInput(f"{path}: there is no folder {path.parent}: make it first")
    part = path.with_name(f".{path.name}.part")
    try:
        private_file(part)  # what is exported is personal data
        with _csv_file(part, encoding) if kind == ".csv" else _xlsx_file(part) as written:
            yield written
        part.replace(path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror or type(error).__name__})") from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _csv_file(path: Path, encoding: str) -> Iterator[Written]:
    with path.open("w", encoding=encoding, errors="replace", newline="") as file:
        writer = csv.writer(file)

        def row(cells: Sequence[Any]) -> None:
            said = [guarded(cell) if isinstance(cell, str) else cell for cell in cells]
            if not encoding.startswith("utf"):
                written.lost += sum(not _fits(cell, encoding) for cell in said if isinstance(cell, str))
            writer.writerow(said)

        written = Written(row)
        yield written


@contextmanager
def _xlsx_file(path: Path) -> Iterator[Written]:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("leads")
    sheet.freeze_panes = "A2"

    def row(cells: Sequence[Any]) -> None:
        sheet.append(
            [ILLEGAL_CHARACTERS_RE.sub("", guarded(cell)) if isinstance(cell, str) else cell for cell in cells]
        )

    try:
        yield Written(row)
    except BaseException:
        sheet.close()
        raise
    book.save(path)


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
